"""Which subscriptions an event is for, and what each is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, KeysView
from dataclasses import dataclass
from typing import Final, NamedTuple

from pbscast.deliveries import Passage
from pbscast.errors import ConflictError, NotFoundError, UsageError
from pbscast.events import AnyEvent, Change, Finalize, Incarnation, Kind
from pbscast.ids import split_subjob
from pbscast.lives import Standing
from pbscast.subscriptions import Filter
from pbscast_fanout.expressions import compile_expression
from pbscast_fanout.matching.conditions import Conditions
from pbscast_fanout.matching.entries import Entry
from pbscast_fanout.matching.index import Index
from pbscast_fanout.matching.interests import Interest
from pbscast_fanout.matching.objects import Past
from pbscast_fanout.matching.postings import Postings
from pbscast_fanout.matching.sights import Sight, after, before, standing_sight

_ANY_SITE: Final = ""
_JOBS: Final = frozenset({Kind.JOB, Kind.SITE})


@dataclass(frozen=True, slots=True)
class Match:
    """One subscription that an event is for."""

    key: str
    interest: Interest | None
    """To what the event is to be cut; None: it goes whole."""
    passage: Passage


class Life(NamedTuple):
    """One incarnation of a job at a site."""

    site: str
    id: str
    incarnation: Incarnation


class Matcher:
    """Every registered subscription that covers a site, or several.

    An event costs a look-up for each criterion that can be looked up, and a check of those filters
    that share with its object the value under which they stand; others cost nothing. Adding and
    removing cost what the filter is long. Nothing here is thread-safe.
    """

    def __init__(self) -> None:
        self._conditions = Conditions(compile_expression)
        self._index = Index()
        self._capture = Postings()
        self._entries: dict[str, Entry] = {}
        self._departed: dict[Life, set[Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> KeysView[str]:
        """What expressions speak of, at any time: a live view, for Objects."""
        return self._conditions.names

    def add(self, key: str, criteria: Filter, *, only: str | None = None) -> None:
        """Register a filter; `only` is the owner of those jobs that alone may be told, if given.

        Whatever the filter says, a job of another belongs to it as little as one that there never
        was, and of a job that becomes another's nothing is told from then on.

        Raises UsageError for an expression that says nothing, ConflictError for a key in use.
        """
        if key in self._entries:
            raise ConflictError(f"there is a subscription {key!r} already")
        where = criteria.where
        condition = None if where is None else self._conditions.take(where)
        entry = self._entries[key] = Entry(key, criteria, condition, only)
        required = {} if condition is None else condition.required()
        self._index.add(entry, _narrowed(criteria, only), required)
        for site in _capture_sites(entry):
            self._capture.add(site, entry)

    def remove(self, key: str) -> None:
        """Raise NotFoundError if it is not registered."""
        entry = self._entry(key)
        del self._entries[key]
        self._index.discard(entry)
        if entry.where is not None:
            self._conditions.give_back(entry.where)
        for site in _capture_sites(entry):
            self._capture.discard(site, entry)

    def change_ids(self, key: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> int:
        """Return how many ids it has now; with none it is about nothing.

        They are as `pbscast.subscriptions.complete` gives them. Of what is removed nothing is told
        any more. Costs what is added and removed, and a look at the jobs that have left something,
        not what it had. Raises NotFoundError, and UsageError for a subscription that was not
        registered with ids.
        """
        entry = self._entry(key)
        if not entry.by_ids:
            raise UsageError(f"subscription {key!r} is not about given ids: register another")
        for job_id in remove:
            entry.ids.discard(job_id)
            self._index.ids.discard(job_id, entry)
        for job_id in add:
            entry.ids.add(job_id)
            self._index.ids.add(job_id, entry)
        for life in [life for life, entries in self._departed.items() if entry in entries]:
            if not entry.is_about(life.id, split_subjob(life.id)[0]):
                self._readmit(life, entry)
        return len(entry.ids)

    def ids_of(self, key: str) -> set[str]:
        """Return the ids that it names, which change with it. Raises NotFoundError."""
        return self._entry(key).ids

    def change_attributes(self, key: str, names: Iterable[str]) -> None:
        """Raise NotFoundError if it is not registered."""
        self._entry(key).interest = Interest.of(names)

    def match(self, event: AnyEvent, past: Past | None) -> list[Match]:
        """Return the subscriptions that the event is for, in no order.

        `past` is what Objects.take gave for this event. The events of a site have to come in the
        order of their positions, each once: whose jobs have left is remembered.
        """
        if not isinstance(event, Change | Finalize):
            return self._match_capture(event)
        if past is None and event.revision > 1 and event.kind is Kind.JOB:
            return []  # Bookkeeping after the last word.
        was, now = before(event, past), after(event, past)
        if was is not None and now is not None and self._is_unchanged(event, was, now):
            was = now
        sights = {sight for sight in (now, was) if sight is not None}
        candidates = self._index.candidates(event.event, sights)
        if isinstance(event, Finalize):
            return self._end(event, candidates, sights)
        return [
            Match(entry.key, entry.interest, passage)
            for entry in candidates
            if (passage := self._pass(event, entry, was, now)) is not None
            and entry.may_see(event.kind, event.owner)
            and (not entry.events or event.event in entry.events)
            and (entry.interest is None or entry.interest.touches(event))
        ]

    def names_of(self, key: str) -> frozenset[str]:
        """What its expression speaks of. Raises NotFoundError."""
        return self._entry(key).names

    def interest(self, key: str) -> Interest | None:
        """To what it is told of objects; None: all. Raises NotFoundError."""
        return self._entry(key).interest

    def contains(self, key: str, standing: Standing) -> bool:
        """Whether an object that stands so belongs to it; of what has ended only its id counts.

        Raises NotFoundError.
        """
        entry, sight = self._entry(key), standing_sight(standing)
        if standing.ended is None:
            return entry.contains(sight)
        return (
            entry.by_ids
            and entry.may_see(sight.kind, sight.owner)
            and sight.kind in entry.kinds
            and entry.is_about(sight.id, sight.array)
        )

    def departures(self) -> Iterator[tuple[Life, str]]:
        """Jobs that have left subscriptions to which their finalize is still to be told.

        Belongs into what a worker keeps with its place in the log; `restore` takes it back.
        """
        for life, entries in self._departed.items():
            for entry in entries:
                if self._is_registered(entry):
                    yield life, entry.key

    def restore(self, departures: Iterable[tuple[Life, str]]) -> None:
        """Of subscriptions that are registered; others are passed over."""
        for life, key in departures:
            if (entry := self._entries.get(key)) is not None:
                self._departed.setdefault(life, set()).add(entry)

    def readmit(self, key: str) -> None:
        """Forget which jobs have left it: it begins anew. Raises NotFoundError."""
        entry = self._entry(key)
        for life in [life for life, entries in self._departed.items() if entry in entries]:
            self._readmit(life, entry)

    def _match_capture(self, event: AnyEvent) -> list[Match]:
        found: set[Entry] = set()
        self._capture.collect(_ANY_SITE, found)
        self._capture.collect(event.site, found)
        return [
            Match(entry.key, None, Passage.STAYED)
            for entry in found
            if entry.tells_of_capture(event)
        ]

    def _end(
        self, event: Finalize, candidates: set[Entry], sights: Collection[Sight]
    ) -> list[Match]:
        told = {entry for entry in candidates if any(map(entry.contains, sights))}
        departed = self._departed.pop(_life(event), ())
        told.update(entry for entry in departed if self._is_registered(entry))
        return [
            Match(entry.key, None, Passage.ENDED)
            for entry in told
            if entry.may_see(event.kind, event.owner)
        ]

    def _pass(
        self, event: Change, entry: Entry, was: Sight | None, now: Sight | None
    ) -> Passage | None:
        does = entry.contains(now)
        did = does if was is now else entry.contains(was)
        if did and does:
            return Passage.STAYED
        if did == does:
            return None
        if event.kind is Kind.JOB:
            self._note(_life(event), entry, has_left=did)
        return Passage.LEFT if did else Passage.JOINED

    def _note(self, life: Life, entry: Entry, *, has_left: bool) -> None:
        if has_left:
            self._departed.setdefault(life, set()).add(entry)
        elif life in self._departed:
            self._readmit(life, entry)

    def _readmit(self, life: Life, entry: Entry) -> None:
        departed = self._departed[life]
        departed.discard(entry)
        if not departed:
            del self._departed[life]

    def _is_unchanged(self, event: Change | Finalize, was: Sight, now: Sight) -> bool:
        """Whether no filter can tell its object's sights apart."""
        return was.stands_as(now) and (
            isinstance(event, Finalize)
            or (self.names.isdisjoint(event.changed) and self.names.isdisjoint(event.removed))
        )

    def _is_registered(self, entry: Entry) -> bool:
        return self._entries.get(entry.key) is entry

    def _entry(self, key: str) -> Entry:
        if (entry := self._entries.get(key)) is None:
            raise NotFoundError(f"there is no subscription {key!r}")
        return entry


def _narrowed(criteria: Filter, only: str | None) -> Filter:
    """Return what to look under: of one whose jobs alone are told, where others cost nothing."""
    if only is None or not _JOBS.issuperset(criteria.kinds):
        return criteria
    return criteria.model_copy(update={"owners": (only,)})


def _life(event: Change | Finalize) -> Life:
    return Life(event.site, event.id, event.incarnation)


def _capture_sites(entry: Entry) -> Collection[str]:
    if Kind.SITE not in entry.kinds:
        return ()
    return entry.sites or (_ANY_SITE,)
