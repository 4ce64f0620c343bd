"""Whether jobs live: their latest lives, without what else is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from pbscast_store import queries
from pbscast_store.search import searching
from pbscast_store.statements import query

_ARRAY: Final = "[]"


class LatestLife(NamedTuple):
    """The latest life of a job at a site."""

    site: str
    id: str
    owner: str | None
    incarnation: int
    position: int
    """Of its last event."""
    began: datetime
    ended: datetime | None
    """None: it lives."""
    reason: str | None
    """Of its finalize."""


@dataclass(frozen=True, slots=True)
class LatestLives:
    """As they were at one moment."""

    lives: list[LatestLife]
    positions: dict[str, int]
    """Of each site asked, at that moment."""


async def read_latest(pool: asyncpg.Pool, sites: Sequence[str], ids: Sequence[str]) -> LatestLives:
    """Of jobs by id, and of arrays' subjobs those that live; what the log never saw is left out."""
    ranges = [_members(wanted) for wanted in ids if _ARRAY in wanted]
    columns = [list(column) for column in zip(*ranges, strict=True)] or [[], [], []]
    async with searching(pool) as connection:
        rows = await queries.sites(connection)
        positions = {row.name: row.position for row in rows if row.name in sites}
        found = await connection.fetch(query("latest_lives"), list(sites), list(ids), *columns)
    return LatestLives([LatestLife(*row) for row in found], positions)


def _members(array: str) -> tuple[str, str, str]:
    r"""All ids of `N[].server` begin with `N[`, the range up to `N\`, and end in `].server`."""
    number, _, end = array.partition("[")
    return f"{number}[", f"{number}\\", end
