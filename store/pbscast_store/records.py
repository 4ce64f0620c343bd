"""What the log gives back: events in their place, and the current state of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pbscast import wire
from pbscast.subjects import event_subject
from pbscast_store import chain

if TYPE_CHECKING:
    from datetime import datetime

    from pbscast.events import Change, Finalize, Gap, Liveness, Resync


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the log.

    The payload stays the text that was written, so that no copy differs from another.
    """

    site: str
    position: int
    time: datetime
    kind: str
    id: str
    incarnation: int
    revision: int
    event: str
    provenance: str
    owner: str | None
    payload: str
    logged: datetime
    """When it was logged, by the clock of the log database; never goes back along the positions."""
    digest: bytes | None
    """By which it is chained to the event before (`pbscast_store.chain`); None for events that were
    logged before there was a chain."""

    def encode(self) -> bytes:
        """Return the event's CloudEvents JSON, the same bytes at every call."""
        return wire.encode(
            site=self.site,
            position=self.position,
            time=self.time,
            kind=self.kind,
            object_id=self.id,
            incarnation=self.incarnation,
            revision=self.revision,
            event=self.event,
            provenance=self.provenance,
            payload=self.payload,
        )

    def decode(self) -> Change | Finalize | Gap | Resync | Liveness:
        """Return the event itself."""
        return wire.decode(self.encode())

    def follows(self, digest: bytes | None) -> bool:
        """Whether it may be chained to the event with this digest; without one nobody says no."""
        if digest is None or self.digest is None:
            return True
        leaf = chain.leaf_of(self, chain.hash_payload(self.payload))
        return self.digest == chain.link(digest, leaf)

    @property
    def subject(self) -> str:
        """The NATS subject the event is published on."""
        return event_subject(
            site=self.site, kind=self.kind, object_id=self.id, event=self.event, owner=self.owner
        )


@dataclass(frozen=True, slots=True)
class ObjectState:
    """The projection of one object: its latest incarnation as the last event left it."""

    site: str
    kind: str
    id: str
    incarnation: int
    revision: int
    position: int
    """The position of the last event that is folded in."""
    born: str | None
    finalized: bool
    gone: bool
    """Whether the datastore's row no longer exists."""
    owner: str | None
    queue: str | None
    project: str | None
    name: str | None
    state: str | None
    substate: int | None
    attributes: dict[str, str]
    columns: dict[str, str]


@dataclass(frozen=True, slots=True)
class SiteRow:
    """How far a site's log goes, and who may write it."""

    name: str
    position: int
    """Of the last event, 0 before the first."""
    epoch: int
    holder: str | None
    lease_expires: datetime | None
    """By the clock of the log database."""
    logged: datetime
    """When the last event was logged, by the clock of the log database."""
    cursor: dict[str, Any] | None
    """How far ingest has read the journal, in its own terms; None before the first append."""
