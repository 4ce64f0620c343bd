"""Where a watch begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pbscast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Now:
    """With what is published from now on."""


@dataclass(frozen=True, slots=True)
class Last:
    """With the newest event of each object."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """With the oldest event that the stream holds."""


@dataclass(frozen=True, slots=True)
class Since:
    """With the first event that is not older than ``time``."""

    time: datetime


@dataclass(frozen=True, slots=True)
class After:
    """With the first event after a position, per site."""

    positions: Mapping[str, int] = field(default_factory=dict)


Start = Now | Last | Beginning | Since | After


def now() -> Now:
    """Begin with what is published from now on. No Boundary is told."""
    return Now()


def last() -> Last:
    """Begin with the newest event of each matching object, then Boundary, then everything live.

    Of an incarnation that has been finalized the finalize is told, though later bookkeeping events
    may be newer. One message per matching object is held in memory until the Boundary.
    """
    return Last()


def beginning() -> Beginning:
    """Begin with the oldest event that the stream holds (the log may hold older ones: history)."""
    return Beginning()


def since(time: datetime) -> Since:
    """Begin with the first event at or after ``time``, by the clock of the PBS datastore.

    The clocks of datastore and NATS server are taken to agree within a minute. Raises UsageError
    for a time without zone.
    """
    if time.tzinfo is None:
        msg = f"a time needs its zone, {time} has none"
        raise UsageError(msg)
    return Since(time.astimezone(UTC))


def after(positions: Mapping[str, int]) -> After:
    """Resume: begin, for each site, with the first event after the last position that was handled.

    ``{event.site: event.position}`` of the last handled event of each site is all one has to keep;
    ``Watch.positions`` and ``Boundary.positions`` have that form. Where the stream no longer holds
    what follows, a Missed says so first. Raises UsageError for a negative position.
    """
    for site, position in positions.items():
        if position < 0:
            msg = f"a position is 0 or more, that of site {site} is {position}"
            raise UsageError(msg)
    return After(dict(positions))
