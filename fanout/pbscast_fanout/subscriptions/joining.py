"""One subscription's part in a site's deliveries: how it comes to be told of it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from pbscast.subscriptions import Delivery as Mode
from pbscast_fanout.subscriptions.room import Room

if TYPE_CHECKING:
    from pbscast.subscriptions import SubscribeRequest
    from pbscast_fanout.subscriptions.composing import Delivery
    from pbscast_fanout.subscriptions.definitions import Definition

MOST_HELD: Final = 20_000
"""Messages that are held back for one subscription while it is told how everything stood."""

MOST_HELD_BYTES: Final = 32 * 1024 * 1024

_OVERHEAD: Final = 300
"""Bytes that a message takes beside its text."""


class Stage(Enum):
    """How far a subscription is with a site."""

    LEARNING = "learning"
    """What its expression speaks of is being read; nothing is told."""
    WAITING = "waiting"
    """For its turn; nothing is told."""
    JOINING = "joining"
    """It is told how everything stood; what happens is held back."""
    DRAINING = "draining"
    """What was held back is told, before what happens."""
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Wish:
    """An errand: let a subscription begin when it is its turn, and read what its `Join` says."""

    key: str
    ticket: int
    request: SubscribeRequest


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """An errand: read how everything stood that belongs to a subscription."""

    key: str
    ticket: int
    """Another one if it has to begin anew."""
    position: int
    request: SubscribeRequest
    ids: tuple[str, ...]
    """Only these; empty: what the request selects."""
    only: str | None = None
    """Whose jobs alone; None: everybody's."""


@dataclass(frozen=True, slots=True)
class Learn:
    """An errand: read these attributes of all objects, as they stood."""

    ticket: int
    position: int
    names: frozenset[str]


def size_of(delivery: Delivery) -> int:
    """Bytes of memory, as if nobody else were told the same."""
    return len(delivery.tail) + _OVERHEAD


@dataclass(slots=True, eq=False)
class Member:
    """A subscription that covers the site."""

    definition: Definition
    room: Room = field(default_factory=Room)
    """What waits for it takes of this."""
    stage: Stage = Stage.LEARNING
    begun: int = 0
    """The position after which it is told of events."""
    errand: Wish | Join | None = None
    outbox: deque[Delivery] = field(default_factory=deque)
    held: list[Delivery] = field(default_factory=list)
    held_bytes: int = 0
    outbox_bytes: int = 0
    later: Definition | None = None
    """What it was changed to meanwhile."""

    @property
    def kept(self) -> bool:
        """Whether it is delivered at least once."""
        return self.definition.request.delivery is Mode.AT_LEAST_ONCE

    @property
    def has_begun(self) -> bool:
        """Whether what happens is for it."""
        return self.stage not in (Stage.LEARNING, Stage.WAITING)

    def put(self, delivery: Delivery) -> None:
        """Let it be told as soon as it is its turn."""
        self.outbox.append(delivery)
        self.outbox_bytes += size_of(delivery)
        self.room.add(size_of(delivery))

    def pop(self) -> Delivery:
        """Take the next one that is to be told."""
        delivery = self.outbox.popleft()
        self.outbox_bytes -= size_of(delivery)
        self.room.add(-size_of(delivery))
        return delivery

    def hold(self, delivery: Delivery) -> bool:
        """Keep a message for later; False if there are too many, so that it has to begin anew."""
        if self.stage is Stage.DRAINING:
            self.put(delivery)
            is_little = self.outbox_bytes <= 2 * MOST_HELD_BYTES
            return is_little and len(self.outbox) <= 2 * MOST_HELD
        self.held.append(delivery)
        self.held_bytes += size_of(delivery)
        self.room.add(size_of(delivery))
        return len(self.held) <= MOST_HELD and self.held_bytes <= MOST_HELD_BYTES

    def wait(self) -> None:
        """Begin (anew) later; all that is not told yet is covered by what is told then."""
        self.stage = Stage.WAITING
        self.leave()

    def leave(self) -> None:
        """Nothing that waits is told."""
        self.room.add(-self.outbox_bytes - self.held_bytes)
        self.outbox.clear()
        self.held, self.held_bytes, self.outbox_bytes = [], 0, 0

    def release(self, boundary: Delivery) -> None:
        """All that stood is told: the boundary, then what was held back."""
        self.put(boundary)
        self.outbox.extend(self.held)
        self.outbox_bytes += self.held_bytes
        self.held, self.held_bytes = [], 0
        self.stage, self.errand = Stage.DRAINING, None
