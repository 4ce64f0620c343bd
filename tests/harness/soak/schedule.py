"""What goes wrong and when: a pure function of the seed, measured in committed changes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Trouble(StrEnum):
    """A kind of fault; its value is what the table calls it."""

    INGEST_KILLED = "ingest killed"
    INGEST_RESTARTED = "ingest restarted"
    INGEST_STALLED = "ingest stalled past its lease"
    FANOUT_KILLED = "fan-out killed"
    FANOUT_RESTARTED = "fan-out restarted"
    FANOUT_STALLED = "fan-out stalled past a takeover"
    SUBSCRIBER_KILLED = "subscriber killed"
    LOG_KILLED = "log PostgreSQL killed"
    LOG_RESTARTED = "log PostgreSQL restarted"
    LOG_CUT = "connections to the log cut"
    LOG_UNREACHABLE = "log unreachable"
    DATASTORE_KILLED = "datastore killed"
    DATASTORE_RESTARTED = "datastore restarted"
    DATASTORE_CUT = "connections to a datastore cut"
    DATASTORE_UNREACHABLE = "datastore unreachable"
    NATS_KILLED = "NATS killed"
    NATS_RESTARTED = "NATS restarted"
    NATS_CUT = "connections to NATS cut"
    NATS_UNREACHABLE = "NATS unreachable"
    DOORBELL_OFF = "doorbell off"
    CAPTURE_PAUSED = "capture paused"
    TRIGGERS_DISABLED = "triggers disabled"
    RIGHTS_REVOKED = "rights of capture revoked"
    TABLES_ALTERED = "tables of PBS altered"


LONGEST_HOLD = 150
"""Committed changes for which a fault lasts."""

LONGEST_LULL = 100
"""Committed changes between the begin of a fault and that of the next, where no calm follows."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One fault."""

    number: int
    trouble: Trouble
    target: int
    """Which of two sites it is; where there is one of a kind it means nothing."""
    hold: int
    """Committed changes until it is mended."""
    calm: bool
    """Whether everything may recover before the next one."""
    lull: int
    """Without calm: committed changes until the next one begins, mended or not."""
    dice: int
    """What else there is to choose."""


def plan(seed: int) -> Iterator[Turn]:
    """Faults without end: every kind once, in random order, then every kind again."""
    choose = random.Random(seed)
    number = 0
    while True:
        for trouble in choose.sample(list(Trouble), len(Trouble)):
            number += 1
            yield Turn(
                number,
                trouble,
                target=choose.randrange(2),
                hold=choose.randrange(LONGEST_HOLD),
                calm=choose.random() < 0.5,
                lull=choose.randrange(LONGEST_LULL),
                dice=choose.randrange(2**32),
            )
