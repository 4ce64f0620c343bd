"""Where an archive's events stand, by the objects they are about."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pbscast_store.records import Record
from pbscast_store.source import Place


class Mention(NamedTuple):
    """A row of the index of objects."""

    id: str
    kind: str
    position: int
    time: datetime
    logged: datetime
    incarnation: int
    revision: int
    event: str
    bytes: int
    """Of its payload."""

    def place(self, site: str) -> Place:
        """The same, as the log says it."""
        return Place(
            site, self.position, self.time, self.logged, self.bytes, self.id, self.incarnation
        )


def mention(record: Record) -> Mention:
    """Where an event stands."""
    return Mention(
        record.id,
        record.kind,
        record.position,
        record.time,
        record.logged,
        record.incarnation,
        record.revision,
        record.event,
        len(record.payload.encode()),
    )
