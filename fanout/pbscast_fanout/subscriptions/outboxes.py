"""What is told next, in parts that are stored together and fit into memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbscast_fanout.subscriptions.joining import Member, Stage, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbscast.events import Finalize
    from pbscast_fanout.subscriptions.composing import Delivery
    from pbscast_fanout.subscriptions.joined import Joined

MOST: Final = 1_000
"""Messages that are stored together, about; more events are not taken before these are."""
MOST_BYTES: Final = 4 * 1024 * 1024

_AT_ONCE: Final = 100
"""Messages of one subscription before the next one's turn."""


@dataclass(slots=True)
class Turn:
    """What is to be stored, in this order, and what may be said once it is."""

    deliveries: list[Delivery] = field(default_factory=list)
    settled: list[tuple[str, Joined]] = field(default_factory=list)
    """Subscriptions that have been told all that they missed."""
    ends: list[tuple[Finalize, list[str]]] = field(default_factory=list)
    """Every job's last word, and the subscriptions that are told of it."""

    def parts(self) -> Iterator[Turn]:
        """Give it in parts; what may be said comes with the last one."""
        rest = Turn([], self.settled, self.ends)
        size = 0
        for delivery in self.deliveries:
            if len(rest.deliveries) >= MOST or size >= MOST_BYTES:
                yield Turn(rest.deliveries)
                rest.deliveries, size = [], 0
            rest.deliveries.append(delivery)
            size += size_of(delivery)
        yield rest


class Outboxes:
    """What is told next, and the subscriptions that wait to be told something, in turn."""

    def __init__(self) -> None:
        self.turn = Turn()
        self._members: dict[str, Member] = {}
        self._told_bytes = self._held = self._held_bytes = 0
        """Of this turn: messages that are told at once, and those that are not yet."""

    def __len__(self) -> int:
        """How many subscriptions wait."""
        return len(self._members)

    @property
    def burden(self) -> int:
        """How many messages the events of this turn have made."""
        return len(self.turn.deliveries) + self._held

    @property
    def is_burdened(self) -> bool:
        """Whether what was taken should be told before more is."""
        return self.burden >= MOST or self._told_bytes + self._held_bytes >= MOST_BYTES

    def tell(self, delivery: Delivery) -> None:
        """Let it be told with this turn."""
        self.turn.deliveries.append(delivery)
        self._told_bytes += size_of(delivery)

    def hold(self, member: Member, delivery: Delivery) -> bool:
        """Let it be told later; False if too much waits for the member."""
        self._held += 1
        self._held_bytes += size_of(delivery)
        is_held = member.hold(delivery)
        if is_held and member.stage is Stage.DRAINING:
            self.note(member)
        return is_held

    def note(self, member: Member) -> None:
        """Say that something may have been put into one."""
        if member.outbox:
            self._members.setdefault(member.definition.id, member)

    def drop(self, key: str) -> None:
        """Say that one is empty, or of no interest any more."""
        self._members.pop(key, None)

    def take_turn(self) -> Turn:
        """Return what is told now; what comes belongs to the next one."""
        turn, self.turn = self.turn, Turn()
        self._told_bytes = self._held = self._held_bytes = 0
        return turn

    def draw(self, limit: int) -> list[Member]:
        """Add to the turn some of what waits; return the members that wait for no more.

        Twice as much as has come to it in this turn, and `limit` more.
        """
        count, size = limit + 2 * self._held, MOST_BYTES + 2 * self._held_bytes
        drawn, emptied = self._draw(count, size)
        self.turn.deliveries += drawn
        return emptied

    def _draw(self, count: int, size: int) -> tuple[list[Delivery], list[Member]]:
        """Return about so many messages and bytes, and who waits for no more."""
        drawn: list[Delivery] = []
        emptied: list[Member] = []
        while self._members and count > 0 and size > 0:
            key, member = next(iter(self._members.items()))
            del self._members[key]
            some = min(count, _AT_ONCE, len(member.outbox))
            while some > 0 and size > 0:
                delivery = member.pop()
                drawn.append(delivery)
                some, count, size = some - 1, count - 1, size - size_of(delivery)
            if member.outbox:
                self._members[key] = member
            else:
                emptied.append(member)
        return drawn, emptied
