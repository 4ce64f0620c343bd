"""Time travel: what the events between two moments changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from pbscast.lives import Difference, Values
from pbscast_store.folding import Fold, Folded, fold_lives
from pbscast_store.search import Scope
from pbscast_store.source import EventSource
from pbscast_store.standings import (
    LivedLife,
    LivesReader,
    Moment,
    Page,
    Spot,
    Stood,
    stood_at,
)

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
    return await _Reader(pool, source, question, limit, max_bytes).page(question.moments, after)


class _Reader(LivesReader[Difference]):
    def __init__(
        self,
        pool: asyncpg.Pool,
        source: EventSource,
        question: DifferenceQuestion,
        limit: int,
        max_bytes: int,
    ) -> None:
        super().__init__(pool, source, question.scope, limit, max_bytes)
        self._question = question

    @property
    def chunk(self) -> int:
        return _LIVES

    async def candidates(self, site: str, after: int) -> list[LivedLife]:
        moments = self._question.moments[site]
        times = [moment if isinstance(moment, datetime) else None for moment in moments]
        positions = [None if isinstance(moment, datetime) else moment for moment in moments]
        return await self.fetch("changed_between", site, *times, *positions, after, self.chunk)

    async def _changed(self, site: str, lives: Sequence[LivedLife]) -> list[_Pair]:
        """Those lives that had not ended at the first moment, and had events or ended since."""
        begin, end = self._question.moments[site]
        before = await stood_at(self.source, site, self.kind, lives, begin)
        after = await stood_at(self.source, site, self.kind, lives, end)
        pairs = [_Pair(before.get(index), after[index]) for index in sorted(after)]
        return [pair for pair in pairs if self._is_wanted(site, pair)]

    def _is_wanted(self, site: str, pair: _Pair) -> bool:
        before, after = pair.before, pair.after
        moments = [stood for stood in (before, after) if stood]
        if not all(self.scope.shows(site, stood.values.get("owner")) for stood in moments):
            return False
        if before is not None and before.ended:
            return False
        if before is not None and before.last.position == after.last.position and not after.ended:
            return False
        return any(self.choice.includes(stood.values) for stood in moments)

    async def tell(self, site: str, lives: list[LivedLife]) -> Spot | None:
        pairs = await self._changed(site, lives)
        spans = [pair.after.life.span._replace(last=pair.after.last.position) for pair in pairs]
        records = self.source.events_of(site, self.kind, spans)
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
        before = None if pair.before is None else pair.before.standing(site, self.kind)
        after = pair.after.standing(site, self.kind)
        self.rows.append((spot, Difference(before=before, after=after, changed=changed)))
        self.room -= sum(len(old or "") + len(new or "") for old, new in changed.values())
        return spot if self.is_full else None


def _compare(before: Fold, after: Fold) -> dict[str, Values]:
    old, new = before.attributes, after.attributes
    return {
        name: Values(old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }
