"""Time travel: what the events between two moments changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import asyncpg

from pbscast.lives import Difference, Values
from pbscast_store.folding import Fold, Folded, fold_lives
from pbscast_store.search import Scope, searching
from pbscast_store.source import EventSource
from pbscast_store.standings import (
    PATIENCE,
    LivedLife,
    Moment,
    Page,
    Spot,
    Stood,
    stood_at,
)
from pbscast_store.statements import query

_LIVES: Final = 500


@dataclass(frozen=True, slots=True)
class DifferenceQuestion:
    """What changed after one moment, up to another."""

    scope: Scope
    moments: dict[str, tuple[Moment, Moment]]
    """Of each site that is asked about."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A life at both moments."""

    before: Stood | None
    after: Stood

    @property
    def cut(self) -> int:
        return 0 if self.before is None else self.before.last.position


async def read_page(
    pool: asyncpg.Pool,
    source: EventSource,
    question: DifferenceQuestion,
    after: Spot | None,
    limit: int,
    max_bytes: int,
) -> Page[Difference]:
    """The next differences in the order of spots; `after` is where the page before ended."""
    reader = _Reader(pool, source, question, limit, max_bytes)
    for site in sorted(question.moments):
        if after is not None and site < after.site:
            continue
        start = after.first_position if after is not None and site == after.site else 0
        if (spot := await reader.read(site, start)) is not None:
            return Page(reader.rows, spot)
    return Page(reader.rows, None)


class _Reader:
    def __init__(
        self,
        pool: asyncpg.Pool,
        source: EventSource,
        question: DifferenceQuestion,
        limit: int,
        max_bytes: int,
    ) -> None:
        self.rows: list[tuple[Spot, Difference]] = []
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
        while True:
            lives = await self._candidates(site, after)
            if (spot := await self._tell(site, await self._changed(site, lives))) is not None:
                return spot
            if len(lives) < _LIVES:
                return None
            after = lives[-1].span.first
            if self._clock() > self._deadline:
                return Spot(site, after)

    async def _candidates(self, site: str, after: int) -> list[LivedLife]:
        scope = self._question.scope
        anystate = replace(scope, selection=scope.selection.model_copy(update={"states": ()}))
        moments = self._question.moments[site]
        times = [moment if isinstance(moment, datetime) else None for moment in moments]
        positions = [None if isinstance(moment, datetime) else moment for moment in moments]
        async with searching(self._pool) as connection:
            rows = await connection.fetch(
                query("changed_between"),
                *anystate.criteria,
                site,
                *times,
                *positions,
                after,
                _LIVES,
            )
        return [LivedLife.of(row) for row in rows]

    async def _changed(self, site: str, lives: Sequence[LivedLife]) -> list[_Pair]:
        """Those lives that had not ended at the first moment and had events since."""
        begin, end = self._question.moments[site]
        before = await stood_at(self._source, site, self._kind, lives, begin)
        after = await stood_at(self._source, site, self._kind, lives, end)
        pairs = [_Pair(before.get(index), after[index]) for index in sorted(after)]
        return [pair for pair in pairs if self._is_wanted(pair)]

    def _is_wanted(self, pair: _Pair) -> bool:
        if pair.before is not None and (
            pair.before.ended or pair.before.last.position == pair.after.last.position
        ):
            return False
        states = {stood.values.get("state") for stood in (pair.before, pair.after) if stood}
        return not self._states or not states.isdisjoint(self._states)

    async def _tell(self, site: str, pairs: list[_Pair]) -> Spot | None:
        spans = [pair.after.life.span._replace(last=pair.after.last.position) for pair in pairs]
        records = self._source.events_of(site, self._kind, spans)
        async with aclosing(records):
            async for folded in fold_lives(records, spans, [pair.cut for pair in pairs]):
                if (spot := self._add(site, pairs[folded.index], folded)) is not None:
                    return spot
        return None

    def _add(self, site: str, pair: _Pair, folded: Folded) -> Spot | None:
        changed = {} if pair.before is None else _compare(folded.before, folded.after)
        if (
            pair.before is not None
            and not changed
            and not pair.after.ended
            and pair.before.values == pair.after.values
        ):
            return None
        spot = Spot(site, pair.after.life.span.first)
        before = None if pair.before is None else pair.before.standing(site, self._kind)
        after = pair.after.standing(site, self._kind)
        self.rows.append((spot, Difference(before=before, after=after, changed=changed)))
        self._room -= sum(len(old or "") + len(new or "") for old, new in changed.values())
        return spot if len(self.rows) == self._limit or self._room <= 0 else None


def _compare(before: Fold, after: Fold) -> dict[str, Values]:
    old, new = before.attributes, after.attributes
    return {
        name: Values(old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }
