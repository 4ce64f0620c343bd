"""Which attributes expressions speak of, and of which of them it is known how they stand. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast_fanout.matching import past_of
from pbscast_fanout.matching.sights import FIELDS
from pbscast_fanout.subscriptions.joining import Learn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast.lives import Standing
    from pbscast_fanout.matching import Matcher, Objects


class Learning:
    """Has what was not spoken of before read of all objects, one errand after the other."""

    def __init__(self, matcher: Matcher, objects: Objects) -> None:
        self.errand: Learn | None = None
        """What is under way."""
        self._matcher = matcher
        self._objects = objects
        self._learnt: set[str] = set()
        """Attributes that are known of all objects."""
        self._coming: set[str] = set()
        """Those that are being learnt, and have been spoken of all the time since."""

    @property
    def names(self) -> frozenset[str]:
        """Attributes that expressions speak of."""
        return frozenset(self._matcher.names) - FIELDS

    def suffices(self, key: str) -> bool:
        """Whether all that a subscription's expression speaks of is known."""
        return self._matcher.names_of(key) - FIELDS <= self._learnt

    def begin(self) -> None:
        """Objects have been loaded with all names."""
        self._learnt = set(self.names)

    def forget(self) -> None:
        """A subscription has gone, and what nobody else speaks of with it."""
        self._learnt &= self._matcher.names
        self._coming &= self._matcher.names

    def start(self, ticket: int, position: int) -> Learn:
        """Return what is to be read; what happens meanwhile is kept as it happens."""
        names = self.names - self._learnt
        self.errand = Learn(ticket, position, names)
        self._coming = set(names)
        self._objects.expect(names)
        return self.errand

    def supply(self, standings: Iterable[Standing]) -> None:
        """How some objects stood at the errand's position."""
        self._objects.supply(map(past_of, standings))

    def finish(self) -> None:
        """All objects have been supplied."""
        self._learnt |= self._coming
        self.errand, self._coming = None, set()
        self._objects.expect(())
