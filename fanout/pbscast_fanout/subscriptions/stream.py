"""The stream that keeps what is delivered until it is acknowledged, and how far each site is told.

Every message of a site that may be its last says so: a mark, or a message that was stored by itself
in a header.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pbscast.deliveries import DELIVERIES, KEPT
from pbscast.errors import DecodeError
from pbscast.subjects import encode_token
from pbscast_fanout import fences
from pbscast_fanout.fences import Part
from pbscast_fanout.streams import Plan, nanoseconds, uphold

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.fences import Fence, Stored
    from pbscast_fanout.settings import SubscriptionSettings

PLACE_HEADER: Final = "Pbscast-Place"
"""``<position> <key> [<digest>]``, ``-`` for no key, of a message that was stored by itself."""

_ALL: Final = "-"

_MARK: Final = "mark"
"""In the place of a subscription's id, which is never as short."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a site is told: all events up to ``position``.

    Of the event at ``position`` only to subscriptions up to ``key``, in the order of their ids; to
    all if that is None.
    """

    position: int
    key: str | None = None
    digest: str | None = field(default=None, compare=False)
    """Of the log's chain up to ``position``, in hexadecimal; None: unknown."""

    def reaches(self, other: Place) -> bool:
        """Whether ``other`` does not lie beyond this."""
        if self.position != other.position:
            return self.position > other.position
        return self.key is None or (other.key is not None and other.key <= self.key)

    def as_header(self) -> str:
        """Return it as text; ``parse`` gives it back."""
        return f"{self.position} {self.key or _ALL} {self.digest or ''}".rstrip()

    @classmethod
    def parse(cls, text: str) -> Place:
        """Undo ``as_header``. Raises DecodeError."""
        position, key, digest = (*text.split(" "), "", "")[:3]
        if not position.isdecimal():
            raise DecodeError(f"not a place: {text!r}")
        return cls(int(position), None if key in ("", _ALL) else key, digest or None)


class DeliveryMark(BaseModel):
    """The message of a site that says how far it is told."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    site: str
    position: int = Field(ge=0)
    key: str | None = None
    digest: str | None = None
    """As of a `Place`."""
    time: datetime
    seen: int | None = None
    """Of a worker's first mark: the sequence of the site's last message that the worker knew. What
    another worker had under way may stand between the two, and goes further then (replicas)."""

    def encode(self) -> bytes:
        """Return its JSON."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def decode(cls, body: bytes) -> DeliveryMark:
        """Undo ``encode``. Raises DecodeError."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            msg = "not a mark of pbscast: the stream holds a foreign message on a mark subject"
            raise DecodeError(msg) from error


class Told(NamedTuple):
    """How far a site is told, and by which message."""

    place: Place | None
    """None: nothing is known of it, everybody has to be told from the beginning."""
    fence: Fence
    """The site's last message, whatever it is."""


async def ensure_deliveries(
    connection: Connection, settings: SubscriptionSettings, replicas: int = 1
) -> None:
    """Create the stream, or give the existing one our settings. Raises as ``uphold``."""
    await uphold(connection, Plan(DELIVERIES, f"{KEPT}.>", limits(settings, replicas)))


def limits(settings: SubscriptionSettings, replicas: int) -> dict[str, Any]:
    """Return the settings in JetStream's words.

    Per subject, so that one subscription that nobody reads costs others nothing; its oldest go
    first, so a site's and a subscription's last message go last.
    """
    return {
        "allow_atomic": True,
        "allow_direct": True,
        "discard": "old",
        "max_msg_size": -1,
        "max_age": nanoseconds(settings.max_age),
        "max_bytes": settings.max_bytes,
        "max_msgs_per_subject": settings.max_messages,
        "num_replicas": replicas,
    }


def part_of(site: str) -> Part:
    """Return where a site's messages and marks are."""
    root = f"{KEPT}.{encode_token(site)}"
    return Part(DELIVERIES, f"{root}.*", f"{root}.{_MARK}")


async def read_told(connection: Connection, site: str) -> Told:
    """Return how far a site is told, by its last message. Raises UnavailableError, DecodeError."""
    part = part_of(site)
    stored = await fences.read_last(connection, part.stream, part.all)
    if stored is None:
        return Told(None, fences.Fence(part.all, 0))
    fence = fences.Fence(part.all, stored.sequence)
    if stored.subject != part.mark:
        return Told(_place(stored), fence)
    mark = DeliveryMark.decode(stored.body)
    place = Place(mark.position, mark.key, mark.digest)
    if mark.seen is not None:
        slipped = await fences.read_between(connection, part, mark.seen, stored.sequence)
        further = slipped and _place(slipped)
        if further and not place.reaches(further):
            place = further
    return Told(place, fence)


def _place(stored: Stored) -> Place | None:
    """Of one that came in a batch nobody can say: its mark did, and was removed."""
    text = stored.header(PLACE_HEADER)
    return None if text is None else Place.parse(text)


async def read_place(connection: Connection, site: str) -> Place | None:
    """Return how far a site is told; None if nothing is known. Raises as ``read_told``."""
    return (await read_told(connection, site)).place
