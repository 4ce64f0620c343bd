"""Time travel: how objects stood at a moment."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

import asyncpg

from pbscast.events import EventName, Incarnation, Kind, Position, Revision, Site
from pbscast.lives import Standing
from pbscast_store.choice import Choice, at_any_time
from pbscast_store.folding import Fold, fold_lives, standing_of
from pbscast_store.search import Scope, searching
from pbscast_store.source import EventSource, LastEvent, LifeSpan
from pbscast_store.statements import query

Moment = datetime | int
"""A time; or the position of one site."""

BEGINNING: Final = 4096
"""Characters of a payload in which to look for where the object stands, before all of it."""
PATIENCE: Final = 1.5
"""Seconds after which a page ends with what was found."""
_LIVES: Final = 5_000
_FOLDED: Final = 200
"""Lives that are looked up at once; fewer where all their events are read."""
_WHOLE: Final = 2**31 - 1
_ENDS: Final = frozenset({EventName.FINALIZE, EventName.PURGE, EventName.DELETE})

Row = TypeVar("Row")


class Spot(NamedTuple):
    """A place in the order of lives: by site, then by position of the first event."""

    site: str
    first_position: int


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, each with its spot, and from where to go on."""

    rows: list[tuple[Spot, Row]]
    next: Spot | None
    """None: there are no more. A page may be empty and not be the last."""


class LivedLife(NamedTuple):
    """What a life's row in the database says."""

    span: LifeSpan
    began: datetime
    ended: datetime | None
    reason: str | None
    exit_status: int | None
    superseded: int | None
    """The first position of the incarnation after it, if it ended without a finalize."""

    @classmethod
    def of(cls, row: asyncpg.Record) -> LivedLife:
        id_, incarnation, first, last, *rest = row
        return cls(LifeSpan(id_, incarnation, first, last), *rest)

    def has_ended(self, moment: Moment, last: LastEvent) -> bool:
        """Whether it had by then, `last` being its last event up to then.

        One that may have been superseded only later is said to have ended: see `is_in_doubt`.
        """
        if isinstance(moment, datetime):
            return self.ended is not None and self.ended <= moment
        is_over = self.ended is not None and self.reason is None
        return last.finalized or (is_over and last.position >= self.span.last)

    def is_in_doubt(self, moment: Moment, last: LastEvent) -> bool:
        """Whether its last event decides: if that is no end, the life went on until superseded."""
        return (
            isinstance(moment, int)
            and self.superseded is not None
            and self.span.last <= last.position <= moment < self.superseded
        )


class Stood(NamedTuple):
    """A life at a moment."""

    life: LivedLife
    last: LastEvent
    values: dict[str, Any]
    """Of `folding.STANDING`."""
    ended: bool

    def standing(self, site: str, kind: Kind, fold: Fold | None = None) -> Standing:
        """For the caller of pbscast."""
        life, values = self.life, dict(self.values)
        if self.ended:
            values |= {
                "ended": life.ended,
                "reason": life.reason,
                "exit_status": life.exit_status,
            }
        if fold is not None:
            values |= {"attributes": fold.attributes, "columns": fold.columns}
        return Standing(
            site=Site(site),
            kind=kind,
            id=life.span.id,
            incarnation=Incarnation(life.span.incarnation),
            revision=Revision(self.last.revision),
            position=Position(self.last.position),
            began=life.began,
            **values,
        )


@dataclass(frozen=True, slots=True)
class AtQuestion:
    """How objects stood at a moment: those that were live, by id the latest that had begun."""

    scope: Scope
    moments: dict[str, Moment]
    """Of each site that is asked about."""
    attributes: bool = False


async def read_page(
    pool: asyncpg.Pool,
    source: EventSource,
    question: AtQuestion,
    after: Spot | None,
    limit: int,
    max_bytes: int,
) -> Page[Standing]:
    """The next standings in the order of spots; `after` is where the page before ended."""
    return await _Reader(pool, source, question, limit, max_bytes).page(question.moments, after)


async def stood_at(
    source: EventSource, site: str, kind: str, lives: Sequence[LivedLife], moment: Moment
) -> dict[int, Stood]:
    """How those of the lives stood that had begun, by their index."""
    spans = [life.span for life in lives]
    found = await source.last_events(site, kind, spans, moment, BEGINNING)
    stood: dict[int, Stood] = {}
    for last in found:
        values = standing_of(last.beginning, is_whole=len(last.beginning) < BEGINNING)
        if values is None:
            [whole] = await source.last_events(site, kind, [spans[last.life]], moment, _WHOLE)
            values = standing_of(whole.beginning, is_whole=True) or {}
        life = lives[last.life]
        ended = life.has_ended(moment, last)
        if life.is_in_doubt(moment, last):
            [event] = await source.read(site, last.position - 1, 1, 1)
            ended = event.event in _ENDS
        stood[last.life] = Stood(life, last, values, ended)
    return stood


class LivesReader(ABC, Generic[Row]):
    """Makes a page of rows about lives, site by site, a chunk of lives at a time."""

    def __init__(
        self, pool: asyncpg.Pool, source: EventSource, scope: Scope, limit: int, max_bytes: int
    ) -> None:
        self.rows: list[tuple[Spot, Row]] = []
        self.source = source
        self.scope = scope
        self.choice = Choice(scope.selection)
        self.kind = scope.selection.kind
        self.room = max_bytes
        self._pool = pool
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + PATIENCE

    async def page(self, sites: Iterable[str], after: Spot | None) -> Page[Row]:
        """The next rows in the order of spots; `after` is where the page before ended."""
        for site in sorted(sites):
            if after is not None and site < after.site:
                continue
            start = after.first_position if after is not None and site == after.site else 0
            if (spot := await self._read(site, start)) is not None:
                return Page(self.rows, spot)
        return Page(self.rows, None)

    async def _read(self, site: str, after: int) -> Spot | None:
        """Where the page has to end; None: the site has no more."""
        while True:
            lives = await self.candidates(site, after)
            if (spot := await self.tell(site, lives)) is not None:
                return spot
            if len(lives) < self.chunk:
                return None
            after = lives[-1].span.first
            if self._clock() > self._deadline:
                return Spot(site, after)

    async def fetch(self, name: str, site: str, *asked: object) -> list[LivedLife]:
        """Lives by a query whose parameters begin with the criteria that hold at any time."""
        scope = replace(self.scope, selection=at_any_time(self.scope.selection))
        async with searching(self._pool) as connection:
            rows = await connection.fetch(query(name), *scope.criteria_at(site), site, *asked)
        return [LivedLife.of(row) for row in rows]

    @property
    def is_full(self) -> bool:
        """Whether the page ends with the last row."""
        return len(self.rows) == self._limit or self.room <= 0

    @property
    @abstractmethod
    def chunk(self) -> int:
        """How many lives are looked up at once."""

    @abstractmethod
    async def candidates(self, site: str, after: int) -> list[LivedLife]:
        """Up to a chunk of lives that may be told, from after a first position on."""

    @abstractmethod
    async def tell(self, site: str, lives: list[LivedLife]) -> Spot | None:
        """Add the rows of these lives; return where the page has to end, if it has to."""


class _Reader(LivesReader[Standing]):
    def __init__(
        self,
        pool: asyncpg.Pool,
        source: EventSource,
        question: AtQuestion,
        limit: int,
        max_bytes: int,
    ) -> None:
        super().__init__(pool, source, question.scope, limit, max_bytes)
        self._question = question

    @property
    def chunk(self) -> int:
        return _FOLDED if self._question.attributes else _LIVES

    async def candidates(self, site: str, after: int) -> list[LivedLife]:
        moment = self._question.moments[site]
        time, position = (moment, None) if isinstance(moment, datetime) else (None, moment)
        by_id = self.scope.ids is not None
        return await self.fetch("live_then", site, time, position, by_id, after, self.chunk)

    async def tell(self, site: str, lives: list[LivedLife]) -> Spot | None:
        moment = self._question.moments[site]
        stood = await stood_at(self.source, site, self.kind, lives, moment)
        wanted = [item for _, item in sorted(stood.items()) if self._is_wanted(site, item)]
        if self._question.attributes:
            return await self._tell_full(site, wanted)
        for item in wanted:
            spot = Spot(site, item.life.span.first)
            self.rows.append((spot, item.standing(site, self.kind)))
            if self.is_full:
                return spot
        return None

    async def _tell_full(self, site: str, wanted: list[Stood]) -> Spot | None:
        spans = [item.life.span._replace(last=item.last.position) for item in wanted]
        records = self.source.events_of(site, self.kind, spans)
        async with aclosing(records):
            async for folded in fold_lives(records, spans, [span.last for span in spans]):
                item = wanted[folded.index]
                spot = Spot(site, item.life.span.first)
                self.rows.append((spot, item.standing(site, self.kind, folded.after)))
                self.room -= folded.after.size
                if self.is_full:
                    return spot
        return None

    def _is_wanted(self, site: str, item: Stood) -> bool:
        if item.ended and self.scope.ids is None:
            return False
        return self.scope.shows(site, item.values.get("owner")) and self.choice.includes(
            item.values
        )
