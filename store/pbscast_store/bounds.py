"""In which partitions events can be, by their positions: so that no other is looked into."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from time import monotonic
from typing import Final

import asyncpg

from pbscast_store.statements import query

EVER: Final = datetime.max.replace(tzinfo=UTC)
NEVER: Final = datetime.min.replace(tzinfo=UTC)

CLOCKS: Final = timedelta(days=1)
"""By which a datastore's clock may be ahead of the log's."""

_LOOK_EVERY: Final = 600.0


def logged_since(moment: datetime) -> datetime:
    """From when on what happened then or later was logged, as far as clocks agree."""
    return max(moment, NEVER + CLOCKS) - CLOCKS


@dataclass
class _Site:
    positions: list[int] = field(default_factory=list)
    since: list[datetime] = field(default_factory=list)


class Bounds:
    """When a site's positions were logged, as far as partitions tell.

    `logged` never goes back along the positions, so a partition has a run of them. Knowledge may be
    old: where a later partition holds later positions, no position is ever added; and what follows
    the last known beginning is bounded on one side only.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sites: dict[str, _Site] = {}
        self._looked = -inf

    async def logged(
        self, site: str, firsts: Sequence[int], lasts: Sequence[int]
    ) -> tuple[list[datetime], list[datetime]]:
        """From when, included, to when, not included, positions of each span were logged."""
        if monotonic() - self._looked > _LOOK_EVERY:
            await self._look()
        known = self._sites.get(site, _Site())
        return (
            [_since(known, position) for position in firsts],
            [_until(known, position) for position in lasts],
        )

    async def _look(self) -> None:
        sites: dict[str, _Site] = {}
        for row in await self._pool.fetch(query("partition_starts")):
            known = sites.setdefault(row["site"], _Site())
            known.positions.append(row["position"])
            known.since.append(row["since"] or NEVER)
        self._sites, self._looked = sites, monotonic()


def _since(known: _Site, position: int) -> datetime:
    index = bisect_right(known.positions, position) - 1
    return NEVER if index < 0 else known.since[index]


def _until(known: _Site, position: int) -> datetime:
    index = bisect_right(known.positions, position)
    return EVER if index == len(known.positions) else known.since[index]
