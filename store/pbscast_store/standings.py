"""Time travel: how objects stood at a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

import asyncpg

from pbscast.events import Incarnation, Kind, Position, Revision, Site
from pbscast.lives import Standing
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


@dataclass(frozen=True, slots=True)
class LivedLife:
    """What a life's row in the database says."""

    span: LifeSpan
    began: datetime
    ended: datetime | None
    reason: str | None
    exit_status: int | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> LivedLife:
        id_, incarnation, first, last, *rest = row
        return cls(LifeSpan(id_, incarnation, first, last), *rest)

    def has_ended(self, moment: Moment, last: LastEvent) -> bool:
        """Whether it had by then, `last` being its last event up to then."""
        if isinstance(moment, datetime):
            return self.ended is not None and self.ended <= moment
        is_over = self.ended is not None and self.reason is None
        return last.finalized or (is_over and last.position >= self.span.last)


@dataclass(frozen=True, slots=True)
class Stood:
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
    reader = _Reader(pool, source, question, limit, max_bytes)
    for site in sorted(question.moments):
        if after is not None and site < after.site:
            continue
        start = after.first_position if after is not None and site == after.site else 0
        if (spot := await reader.read(site, start)) is not None:
            return Page(reader.rows, spot)
    return Page(reader.rows, None)


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
        stood[last.life] = Stood(life, last, values, life.has_ended(moment, last))
    return stood


class _Reader:
    def __init__(
        self,
        pool: asyncpg.Pool,
        source: EventSource,
        question: AtQuestion,
        limit: int,
        max_bytes: int,
    ) -> None:
        self.rows: list[tuple[Spot, Standing]] = []
        self._pool = pool
        self._source = source
        self._question = question
        self._states = question.scope.selection.states
        self._kind = question.scope.selection.kind
        self._limit = limit
        self._room = max_bytes
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + PATIENCE

    async def read(self, site: str, after: int) -> Spot | None:
        """Where the page has to end; None: the site has no more."""
        chunk = _FOLDED if self._question.attributes else _LIVES
        while True:
            lives = await self._live(site, after, chunk)
            if (spot := await self._tell(site, lives)) is not None:
                return spot
            if len(lives) < chunk:
                return None
            after = lives[-1].span.first
            if self._clock() > self._deadline:
                return Spot(site, after)

    async def _live(self, site: str, after: int, chunk: int) -> list[LivedLife]:
        scope, moment = self._question.scope, self._question.moments[site]
        time, position = (moment, None) if isinstance(moment, datetime) else (None, moment)
        anystate = replace(scope, selection=scope.selection.model_copy(update={"states": ()}))
        async with searching(self._pool) as connection:
            rows = await connection.fetch(
                query("live_then"),
                *anystate.criteria,
                site,
                time,
                position,
                scope.ids is not None,
                after,
                chunk,
            )
        return [LivedLife.of(row) for row in rows]

    async def _tell(self, site: str, lives: list[LivedLife]) -> Spot | None:
        moment = self._question.moments[site]
        stood = await stood_at(self._source, site, self._kind, lives, moment)
        wanted = [item for _, item in sorted(stood.items()) if self._is_wanted(item)]
        if self._question.attributes:
            return await self._tell_full(site, wanted)
        for item in wanted:
            spot = Spot(site, item.life.span.first)
            self.rows.append((spot, item.standing(site, self._kind)))
            if len(self.rows) == self._limit:
                return spot
        return None

    async def _tell_full(self, site: str, wanted: list[Stood]) -> Spot | None:
        spans = [item.life.span._replace(last=item.last.position) for item in wanted]
        records = self._source.events_of(site, self._kind, spans)
        async with aclosing(records):
            async for folded in fold_lives(records, spans, [span.last for span in spans]):
                item = wanted[folded.index]
                spot = Spot(site, item.life.span.first)
                self.rows.append((spot, item.standing(site, self._kind, folded.after)))
                self._room -= folded.after.size
                if len(self.rows) == self._limit or self._room <= 0:
                    return spot
        return None

    def _is_wanted(self, item: Stood) -> bool:
        if item.ended and self._question.scope.ids is None:
            return False
        return not self._states or item.values.get("state") in self._states
