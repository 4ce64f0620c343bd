"""What is left of a `usage` event when it is no longer kept in full. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pbscast.events import EventName
from pbscast_store import chain
from pbscast_store.records import Record


@dataclass(frozen=True, slots=True)
class Thinned:
    """An event without its payload, of which the hash is kept: the chain proves all the rest."""

    site: str
    position: int
    time: datetime
    logged: datetime
    kind: str
    id: str
    incarnation: int
    revision: int
    event: str
    provenance: str
    owner: str | None
    payload_sha256: bytes


Entry = Record | Thinned
"""What an archive holds at a position."""

_USED: Final = "resources_used."
_PASSING: Final = {"mtime"}
"""Attributes that every save changes."""
_BOOKKEEPING: Final = {"ji_savetm"}
"""Columns that every save changes."""
_STANDING: Final = {"owner", "queue", "project", "name", "state", "substate", "escaped"}
"""Fields of a payload that repeat what earlier events said, or say how it is written."""


class Marks:
    """Positions, in their order, and a digest of them."""

    def __init__(self) -> None:
        self.number = 0
        self._digest = hashlib.sha256()

    def add(self, position: int) -> None:
        self.number += 1
        self._digest.update(b"%d\n" % position)

    def hexdigest(self) -> str:
        """SHA-256 of them in decimal, each with a newline after it."""
        return self._digest.hexdigest()


def thin(record: Record) -> Entry:
    """The event without its payload if it may be thinned, else the event itself."""
    return _strip(record) if is_thinnable(record) else record


def is_thinnable(record: Record) -> bool:
    """Whether it is a `usage` event that changed nothing but `resources_used`.

    An event is named by the most significant thing that changed, so a `usage` event may well hold
    another attribute's change: that is kept.
    """
    if record.event != EventName.USAGE:
        return False
    payload = json.loads(record.payload)
    return (
        payload.keys() <= {"changed", "removed", "columns", *_STANDING}
        and _is_usage(payload.get("changed", ()))
        and _is_usage(payload.get("removed", ()))
        and set(payload.get("columns", ())) <= _BOOKKEEPING
    )


def leaf_of(entry: Entry) -> bytes:
    """What an event adds to its site's chain."""
    if isinstance(entry, Thinned):
        return chain.leaf_of(entry, entry.payload_sha256)
    return chain.leaf_of(entry, chain.hash_payload(entry.payload))


def _is_usage(names: Iterable[str]) -> bool:
    return all(name.startswith(_USED) or name in _PASSING for name in names)


def _strip(record: Record) -> Thinned:
    return Thinned(
        record.site,
        record.position,
        record.time,
        record.logged,
        record.kind,
        record.id,
        record.incarnation,
        record.revision,
        record.event,
        record.provenance,
        record.owner,
        chain.hash_payload(record.payload),
    )
