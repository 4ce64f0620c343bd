"""History: the events of all that a selection means, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import asyncpg

from pbscast.events import Kind
from pbscast_store import history
from pbscast_store.history import Merged, Moved, Stretch
from pbscast_store.records import Record
from pbscast_store.search import Scope, check_positions, chosen_lives, extent, matching
from pbscast_store.source import EventSource, LifeSpan, Place, Window
from pbscast_store.statements import query

FEW: Final = 5_000
"""Lives up to which each one's events are looked up; of more, the log itself is read in order."""
STRIDE: Final = 200_000
"""Positions that one such reading passes over at most."""
_ABREAST: Final = 200
"""Lives that are looked up at once, beside those that have begun and not ended by then."""
_BATCH: Final = 5_000
"""Events that are looked at at once, after a first page's worth."""
_PATIENCE: Final = 1.5
"""Seconds after which a page ends with what was found."""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, and how far they go."""

    records: list[Record]
    positions: dict[str, int]
    """Of each site: give them to go on."""
    more: bool
    """Whether there may be more; a page may be empty and not be the last."""
    starts: dict[str, int]
    """Its positions before the first event."""

    def cut(self, count: int) -> EventPage:
        """Its first events only."""
        if count == len(self.records):
            return self
        unsaid = {record.site for record in self.records[count:]}
        positions = {**self.positions, **{site: self.starts[site] for site in unsaid}}
        for record in self.records[:count]:
            if record.site in unsaid:
                positions[record.site] = record.position
        return replace(self, records=self.records[:count], positions=positions, more=True)


@dataclass(frozen=True, slots=True)
class Question:
    """What history is to be told."""

    scope: Scope
    begin: datetime | None = None
    end: datetime | None = None
    newest_first: bool = False

    def start(self, positions: Mapping[str, int]) -> dict[str, int]:
        """Where to go on at each site; where it begins, if that is not known.

        Raises NotFoundError for a site that is not asked about, UsageError for a position beyond
        the end of its log.
        """
        check_positions(self.scope, positions, beyond=int(self.newest_first))
        return {
            site.name: positions.get(site.name, site.position + 1 if self.newest_first else 0)
            for site in self.scope.sites
        }

    def windows(self, starts: Mapping[str, int]) -> dict[str, Window]:
        """What is left of each site."""
        return {
            site.name: Window(
                before=site.position + 1,
                begin=self.begin,
                end=self.end,
                newest_first=self.newest_first,
            ).beyond(starts[site.name])
            for site in self.scope.sites
        }


async def read_page(
    pool: asyncpg.Pool,
    source: EventSource,
    question: Question,
    positions: Mapping[str, int],
    limit: int,
    max_bytes: int,
) -> EventPage:
    """The next events; `positions` are those of the page before, empty for the first."""
    starts = question.start(positions)
    windows = question.windows(starts)
    search = _Search(pool, source, question.scope, limit)
    stretches = {site: await search.run(site, window) for site, window in windows.items()}
    page = await _merged(pool, question, stretches, starts, limit, max_bytes)
    found = await source.events_at(page.places) if page.places else []
    records = [record for record in found if question.scope.shows(record.site, record.owner)]
    return EventPage(records, page.positions, page.more, starts)


async def _merged(
    pool: asyncpg.Pool,
    question: Question,
    stretches: Mapping[str, Stretch],
    starts: Mapping[str, int],
    limit: int,
    max_bytes: int,
) -> Merged:
    """Hand-overs matter only where several sites have something to tell."""
    arrivals: history.Arrivals = {}
    telling = [site for site, stretch in stretches.items() if stretch.places]
    if len(telling) > 1 and question.scope.selection.kind is Kind.JOB:
        ids = {place.id for site in telling for place in stretches[site].places}
        sites = [site.name for site in question.scope.sites]
        rows = await pool.fetch(query("moved_lives"), sites, sorted(ids), *question.scope.owned)
        arrivals = history.find_arrivals(Moved(**row) for row in rows)
    return history.merge(
        stretches, starts, limit, max_bytes, arrivals, newest_first=question.newest_first
    )


def _stretch(found: list[Place], window: Window, limit: int) -> Stretch:
    """Of what was found one place too many says that there is more."""
    places = found[:limit]
    start = window.before if window.newest_first else window.after
    searched = places[-1].position if places else start
    return Stretch(places, searched, ended=len(found) <= limit)


class _Search:
    """Finds the events of selected lives at one site after the other."""

    def __init__(self, pool: asyncpg.Pool, source: EventSource, scope: Scope, limit: int) -> None:
        self._pool = pool
        self._source = source
        self._scope = scope
        self._kind = scope.selection.kind
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + _PATIENCE

    async def run(self, site: str, window: Window) -> Stretch:
        if self._scope.lives is not None and self._scope.is_by_id:
            lives = self._scope.lives.get(site, ())
        else:
            lives = await chosen_lives(self._pool, self._scope, site, window, FEW + 1)
            if len(lives) > FEW:
                return await self._scan(site, window)
        return _stretch(await self._look_up(site, lives, window), window, self._limit)

    async def _look_up(self, site: str, lives: Sequence[LifeSpan], window: Window) -> list[Place]:
        """One place more than asked for, if there is. Lives come in the order of the search.

        Up to where the next life begins, those before have all there is.
        """
        found: list[Place] = []
        reading: list[LifeSpan] = []
        waiting = _in_order(lives, window)
        while waiting and len(found) <= self._limit:
            reading, waiting = reading + waiting[:_ABREAST], waiting[_ABREAST:]
            part = window if not waiting else _until(window, waiting[0])
            reading = [life for life in reading if _overlaps(life, part)]
            if reading:
                limit = self._limit + 1 - len(found)
                found += await self._source.life_places(site, self._kind, reading, part, limit)
            window = window.beyond(part.after + 1 if part.newest_first else part.before - 1)
        return found

    async def _scan(self, site: str, window: Window) -> Stretch:
        """Read the log in order and look each event's life up, as long as patience lasts."""
        found: list[Place] = []
        size = self._limit
        is_stalled = window.begin is not None or window.end is not None
        while window.before - window.after > 1:
            if is_stalled:
                window = await self._skip(site, window)
                is_stalled = False
            part = _first_part(window)
            batch = await self._source.scanned_places(site, self._kind, part, size)
            chosen = await self._choose(site, window, batch)
            found += chosen
            if len(found) >= self._limit:
                return Stretch(found[: self._limit], found[self._limit - 1].position, ended=False)
            is_stalled = not chosen
            window = window.beyond(_reached(batch, part, size))
            size = max(_BATCH, size)
            if self._clock() > self._deadline:
                break
        start = window.before if window.newest_first else window.after
        return Stretch(found, start, ended=window.before - window.after <= 1)

    async def _skip(self, site: str, window: Window) -> Window:
        """Leave out what lies before and after all lives."""
        known = await extent(self._pool, self._scope, site, window)
        if known is None:
            return replace(window, before=window.after + 1)
        first, last = known
        return replace(
            window, after=max(window.after, first - 1), before=min(window.before, last + 1)
        )

    async def _choose(self, site: str, window: Window, batch: list[Place]) -> list[Place]:
        lives = sorted({(place.id, place.incarnation) for place in batch})
        chosen = await matching(self._pool, self._scope, site, window, lives) if lives else set()
        return [place for place in batch if (place.id, place.incarnation) in chosen]


def _in_order(lives: Sequence[LifeSpan], window: Window) -> list[LifeSpan]:
    if window.newest_first:
        return sorted(lives, key=lambda life: life.last, reverse=True)
    return sorted(lives, key=lambda life: life.first)


def _until(window: Window, life: LifeSpan) -> Window:
    """What lies before a life, in the order of the search."""
    if window.newest_first:
        return replace(window, after=max(window.after, life.last))
    return replace(window, before=min(window.before, life.first))


def _overlaps(life: LifeSpan, window: Window) -> bool:
    return life.last > window.after and life.first < window.before


def _first_part(window: Window) -> Window:
    if window.newest_first:
        return replace(window, after=max(window.after, window.before - STRIDE - 1))
    return replace(window, before=min(window.before, window.after + STRIDE + 1))


def _reached(batch: list[Place], part: Window, size: int) -> int:
    if len(batch) == size:
        return batch[-1].position
    return part.after + 1 if part.newest_first else part.before - 1
