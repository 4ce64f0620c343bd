"""What ingest hands to the log: events that have no place in it yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from pbscast.events import EventName, Kind, Payload, Provenance


@dataclass(slots=True)  # to make one that is frozen takes three times as long
class Draft:
    """An event before the log has given it a position, an incarnation and a revision.

    Nothing changes it once it is made.
    """

    kind: Kind
    id: str
    event: EventName
    time: datetime
    """By the clock of the PBS datastore."""
    provenance: Provenance
    payload: Payload
    begins: bool = False
    """Whether a new incarnation of the object begins with this event.

    An object the log has never seen begins one anyway.
    """
    born: str | None = None
    """When the datastore says that its row was made, where known: tells incarnations apart."""
    ends: bool = False
    """Whether the datastore's row is gone after this event."""
