"""How objects stand now, by the projection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from pbscast.lives import Standing
from pbscast_store import queries
from pbscast_store.search import Scope, searching
from pbscast_store.standings import Page, Spot
from pbscast_store.statements import query

_PREFETCH: Final = 200


@dataclass(frozen=True, slots=True)
class SnapshotPage(Page[Standing]):
    """Rows as they were at one moment."""

    positions: dict[str, int]
    """Of each site asked, at that moment."""


async def read_page(
    pool: asyncpg.Pool,
    scope: Scope,
    after: Spot | None,
    limit: int,
    max_bytes: int,
    *,
    attributes: bool,
) -> SnapshotPage:
    """Objects that live, in the order of spots; those asked for by id in any case."""
    rows: list[tuple[Spot, Standing]] = []
    names = [site.name for site in scope.sites]
    async with searching(pool) as connection:
        positions = {
            site.name: site.position
            for site in await queries.sites(connection)
            if site.name in names
        }
        for site in names:
            if after is not None and site < after.site:
                continue
            start = after.first_position if after is not None and site == after.site else 0
            asked = (
                *scope.criteria_at(site),
                site,
                scope.ids is not None,
                attributes,
                start,
                limit,
            )
            cursor = connection.cursor(query("standing_now"), *asked, prefetch=_PREFETCH)
            async for row in cursor:
                values, size = _values(row)
                spot = Spot(site, values.pop("first_position"))
                rows.append((spot, Standing.model_validate(values)))
                max_bytes -= size
                if len(rows) == limit or max_bytes <= 0:
                    return SnapshotPage(rows, spot, positions)
    return SnapshotPage(rows, None, positions)


def _values(row: asyncpg.Record) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = dict(row)
    size = 0
    for name in ("attributes", "columns"):
        if values[name] is not None:
            size += len(values[name])
            values[name] = json.loads(values[name])
    return values, size
