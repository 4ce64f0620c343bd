"""The inverted index: each filter under the values of one criterion, the one that finds it least.

What it returns is never too little: whoever asks checks the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from pbscast.events import EventName
from pbscast_fanout.matching.entries import prefix, split_names
from pbscast_fanout.matching.postings import Postings

if TYPE_CHECKING:
    from pbscast.subscriptions import Filter
    from pbscast_fanout.matching.entries import Entry
    from pbscast_fanout.matching.sights import Sight

MOST_ATTRIBUTES: Final = 32
LONGEST_PREFIX: Final = 24
"""Each attribute, and each length of a prefix, is one look-up more per event, matching or not."""

_BLUNT: Final = ("state", "site")
"""Of these there are so few values that each has many objects."""

_Home = tuple[tuple[Postings, Collection[str]], ...]
"""Parts of the index and the values in them; whatever a filter is about is under one of these."""

_NONE: Final[Mapping[str, Collection[str]]] = {}


class Index:
    """Finds the filters that an object may belong to."""

    def __init__(self) -> None:
        self.ids = Postings()
        self._fields = {
            name: Postings() for name in ("name", "owner", "project", "queue", "state", "site")
        }
        self._prefixes = Postings()
        self._lengths: Counter[int] = Counter()
        self._attributes: dict[str, Postings] = {}
        self._kinds = Postings()
        self._events = Postings()

    def add(
        self, entry: Entry, criteria: Filter, required: Mapping[str, Collection[str]] = _NONE
    ) -> None:
        """`required` are texts without which the expression does not hold."""
        entry.homes = self._choose(entry, criteria, required)
        for postings, values in entry.homes:
            for value in values:
                postings.add(value, entry)
            if postings is self._prefixes:
                self._lengths.update(map(len, values))
        self._tidy()

    def discard(self, entry: Entry) -> None:
        for postings, values in entry.homes:
            for value in values:
                postings.discard(value, entry)
            if postings is self._prefixes:
                self._lengths = +(self._lengths - Counter(map(len, values)))
        self._tidy()

    def candidates(self, event: EventName, sights: Iterable[Sight]) -> set[Entry]:
        """Return what the object may belong to in one of these sights."""
        found: set[Entry] = set()
        self._events.collect(event, found)
        for sight in sights:
            self._collect(sight, found)
        return found

    def _collect(self, sight: Sight, found: set[Entry]) -> None:
        self._kinds.collect(sight.kind, found)
        self.ids.collect(sight.id, found)
        if sight.array != sight.id:
            self.ids.collect(sight.array, found)
        for field, postings in self._fields.items():
            if postings:
                postings.collect(getattr(sight, field), found)
        for name, postings in self._attributes.items():
            postings.collect(sight.look_up(name), found)
        if sight.name is not None:
            for length in self._lengths:
                self._prefixes.collect(sight.name[:length], found)

    def _tidy(self) -> None:
        for name in [name for name, postings in self._attributes.items() if not postings]:
            del self._attributes[name]

    def _choose(
        self, entry: Entry, criteria: Filter, required: Mapping[str, Collection[str]]
    ) -> _Home:
        if criteria.ids:
            return ((self.ids, entry.ids),)
        sharp = [*self._by_criteria(criteria), *self._by_expression(required)]
        return min(sharp or self._blunt(criteria, required), key=_crowd)

    def _by_criteria(self, criteria: Filter) -> Iterator[_Home]:
        """Of homes as good as each other the first is taken."""
        yield from self._by_name(criteria.names)
        if criteria.owners:
            yield ((self._fields["owner"], criteria.owners),)
        if criteria.projects:
            yield ((self._fields["project"], criteria.projects),)
        if criteria.queues:
            yield ((self._fields["queue"], criteria.queues),)

    def _by_expression(self, required: Mapping[str, Collection[str]]) -> Iterator[_Home]:
        for name, values in required.items():
            if name == "id":
                yield ((self.ids, values),)
            elif name in self._fields:
                if name not in _BLUNT:
                    yield ((self._fields[name], values),)
            elif name in self._attributes or len(self._attributes) < MOST_ATTRIBUTES:
                yield ((self._attributes.setdefault(name, Postings()), values),)

    def _by_name(self, names: Iterable[str]) -> Iterator[_Home]:
        literals, patterns = split_names(names)
        prefixes = {prefix(pattern)[:LONGEST_PREFIX] for pattern in patterns}
        if names and "" not in prefixes:
            yield ((self._fields["name"], literals), (self._prefixes, prefixes))

    def _blunt(self, criteria: Filter, required: Mapping[str, Collection[str]]) -> Iterator[_Home]:
        for name, given in (("state", criteria.states), ("site", criteria.sites)):
            if values := given or required.get(name):
                yield ((self._fields[name], values),)
        if criteria.events and not _may_change(criteria):
            yield ((self._events, {*criteria.events, EventName.FINALIZE}),)
        yield ((self._kinds, criteria.kinds),)


def _may_change(criteria: Filter) -> bool:
    """Whether an object can leave by an event that is not among those asked for."""
    return bool(criteria.names or criteria.states or criteria.where)


def _crowd(home: _Home) -> tuple[int, int]:
    """How often it would be looked at in vain, as far as the others that are there tell."""
    return (
        sum(postings.load(values) for postings, values in home),
        sum(len(values) for _, values in home),
    )
