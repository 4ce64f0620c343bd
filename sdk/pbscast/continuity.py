"""Seeing repeats and holes in what arrives: pure book-keeping, no input or output."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbscast.criteria import Coverage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast.events import Event, Kind, Position, Site

MOST_OBJECTS: Final = 100_000
"""Objects whose last revision is remembered; one that was quiet for longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Events between two positions of a site that must exist and have not come.

    ``kind`` and ``id`` name the object; None where any object of the site may be meant.
    """

    site: Site
    after: int
    before: int
    kind: Kind | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    incarnation: int
    revision: int
    position: Position


class Continuity:
    """What has been told so far, and whether the next event follows on it.

    Per site positions only rise, which finds every repeat in memory that does not grow. Holes are
    found by position where whole sites are read, by revision where whole objects are; a filter that
    lets only some events of an object through hides nothing wrong and shows no hole.
    """

    def __init__(self, coverage: Coverage, positions: Mapping[str, int] | None = None) -> None:
        self.coverage = coverage
        self._positions: dict[str, int] = dict(positions or {})
        self._heads: OrderedDict[tuple[str, str, str], _Head] = OrderedDict()

    def narrow(self) -> None:
        """Take note that no site is seen as a whole; objects are as before."""
        self.coverage = min(self.coverage, Coverage.OBJECTS)

    @property
    def positions(self) -> dict[str, int]:
        """The last position of each site that was heard of."""
        return dict(self._positions)

    def has_heard_of(self, site: str) -> bool:
        """Whether any event of the site has been recorded."""
        return site in self._positions

    def is_repeat(self, event: Event) -> bool:
        """Whether this event, or one after it, has been recorded."""
        return event.position <= self._positions.get(event.site, 0)

    def hole_before(self, event: Event) -> Hole | None:
        """Return what is missing between the recorded events and this one."""
        if self.coverage is Coverage.SITES:
            after = self._positions.get(event.site)
            if after is not None and event.position > after + 1:
                return Hole(event.site, after, event.position)
        elif self.coverage is Coverage.OBJECTS:
            head = self._heads.get((event.site, event.kind, event.id))
            if head is not None and not _follows(head, event):
                return Hole(event.site, head.position, event.position, event.kind, event.id)
        return None

    def record(self, event: Event) -> None:
        """Take note of an event that is not a repeat."""
        self.advance(event.site, event.position)
        if self.coverage is Coverage.OBJECTS:
            key = (event.site, event.kind, event.id)
            self._heads[key] = _Head(event.incarnation, event.revision, event.position)
            self._heads.move_to_end(key)
            if len(self._heads) > MOST_OBJECTS:
                self._heads.popitem(last=False)

    def advance(self, site: Site, position: Position) -> None:
        """Take note of a position whose event cannot be read."""
        self._positions[site] = max(position, self._positions.get(site, position))


def _follows(head: _Head, event: Event) -> bool:
    if event.incarnation == head.incarnation:
        return event.revision == head.revision + 1
    return event.incarnation == head.incarnation + 1 and event.revision == 1
