"""The hash chain of a site: the digest of each event covers all events before it. Pure.

The *canonical form* of an event is the UTF-8 of these texts, joined by single NUL bytes (no text
that PostgreSQL holds has one, so two events never have the same form):

    "pbscast-event-1", site, position, time, logged, kind, id, incarnation, revision, event,
    provenance, owner ("=" and the owner, or nothing where there is none), SHA-256 of the payload
    (in hexadecimal)

with numbers in decimal and both times as microseconds since 1970-01-01 00:00 UTC. From it come

    leaf(n)   = SHA-256(canonical form of event n)
    digest(n) = SHA-256(digest(n - 1) + leaf(n)), where digest(0) is 32 zero bytes

The payload counts by its hash, so that all else of an event can still be proved where the payload
is no longer kept.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Protocol

GENESIS: Final = bytes(32)
"""The digest before the first event."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Chained(Protocol):
    """An event as it is read back, with its payload or without."""

    @property
    def site(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def time(self) -> datetime: ...
    @property
    def logged(self) -> datetime: ...
    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def event(self) -> str: ...
    @property
    def provenance(self) -> str: ...
    @property
    def owner(self) -> str | None: ...


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01 00:00 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def hash_payload(payload: str) -> bytes:
    """What of a payload counts. Raises UnicodeEncodeError for a lone surrogate."""
    return sha256(payload.encode()).digest()


def leaf(  # noqa: PLR0913 - the columns of an event
    *,
    site: str,
    position: int,
    time: int,
    logged: int,
    kind: str,
    object_id: str,
    incarnation: int,
    revision: int,
    event: str,
    provenance: str,
    owner: str | None,
    payload_sha256: bytes,
) -> bytes:
    """The hash of an event alone; `time` and `logged` as `microseconds` gives them.

    Raises UnicodeEncodeError for a lone surrogate.
    """
    # Added, not formatted: members of enums are slow at that.
    named = kind + "\0" + object_id
    told = event + "\0" + provenance + ("\0" if owner is None else f"\0={owner}")
    return sha256(
        f"pbscast-event-1\0{site}\0{position}\0{time}\0{logged}\0{named}\0{incarnation}"
        f"\0{revision}\0{told}\0{payload_sha256.hex()}".encode()
    ).digest()


def leaf_of(event: Chained, payload_sha256: bytes) -> bytes:
    """The same of an event that was read back."""
    return leaf(
        site=event.site,
        position=event.position,
        time=microseconds(event.time),
        logged=microseconds(event.logged),
        kind=event.kind,
        object_id=event.id,
        incarnation=event.incarnation,
        revision=event.revision,
        event=event.event,
        provenance=event.provenance,
        owner=event.owner,
        payload_sha256=payload_sha256,
    )


def link(previous: bytes, leaf: bytes) -> bytes:
    """The digest of the event with this leaf that follows the one with the digest `previous`."""
    return sha256(previous + leaf).digest()
