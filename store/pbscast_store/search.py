"""Which sites, ids and lives a selection means."""

from __future__ import annotations

import heapq
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pbscast.errors import NotFoundError, UsageError
from pbscast.events import Kind
from pbscast.lives import Life
from pbscast.selection import Selection
from pbscast_store import queries
from pbscast_store.confines import EVERYTHING, Confined, Confines
from pbscast_store.records import SiteRow
from pbscast_store.source import LifeSpan, Window
from pbscast_store.statements import query

_ARRAY: Final = "[]"
_LIKE: Final = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}


@dataclass(frozen=True)
class Scope:
    """A selection whose sites and ids the log knows."""

    selection: Selection
    sites: list[SiteRow]
    """Those that are asked about, by name."""
    lives: Mapping[str, Sequence[LifeSpan]] | None
    """Of each site those of the ids that are asked for, arrays' with their subjobs'; None: any."""
    confines: Confines

    @cached_property
    def ids(self) -> list[str] | None:
        """Of these lives."""
        if self.lives is None:
            return None
        return sorted({life.id for lives in self.lives.values() for life in lives})

    @property
    def criteria(self) -> tuple[object, ...]:
        """`$1` to `$10` of `sql/parts/criteria.sql`."""
        chosen = self.selection
        return (
            chosen.kind,
            self.ids,
            [_like(name) for name in chosen.names] or None,
            chosen.owners or None,
            chosen.projects or None,
            chosen.queues or None,
            chosen.states or None,
            chosen.reached or None,
            chosen.reasons or None,
            chosen.exit_statuses or None,
        )

    def criteria_at(self, site: str) -> tuple[object, ...]:
        """`criteria`, and that it may be seen."""
        owner = self.confines.owner_of(self.selection.kind, site)
        if owner is None:
            return self.criteria
        kind, ids, names, _, *others = self.criteria
        asked = self.selection.owners or (owner,)
        return (kind, ids, names, [owner] if owner in asked else [], *others)

    @property
    def owned(self) -> tuple[str | None, list[str]]:
        """Whose lives alone may be seen, None for everybody's, and at which sites all."""
        owner = self.confines.owner if self.selection.kind is Kind.JOB else None
        return owner, sorted(self.confines.open_sites)

    def shows(self, site: str, owner: str | None) -> bool:
        """Whether what was this owner's may be seen, though its life be another's since."""
        return self.confines.includes(site, self.selection.kind, owner)

    @property
    def is_by_id(self) -> bool:
        """Whether ids are all that is asked for."""
        return self.lives is not None and not any(self.criteria[2:])


async def resolve(
    pool: asyncpg.Pool, asked: Selection | Confined, *, known_only: bool = False
) -> Scope:
    """Raises NotFoundError for a site of which the log knows nothing.

    An id of which it knows nothing is passed over with `known_only`, else it is an error as well.
    """
    selection, confines = asked if isinstance(asked, Confined) else Confined(asked, EVERYTHING)
    sites = [site for site in await queries.sites(pool) if confines.has_site(site.name)]
    known = {site.name: site for site in sites}
    for name in selection.sites:
        if name not in known:
            raise NotFoundError(f"no such site: {name} (known: {', '.join(known) or 'none'})")
    meant = [site for site in sites if not selection.sites or site.name in selection.sites]
    scope = Scope(selection, meant, None, confines)
    if not selection.ids:
        return scope
    return replace(scope, lives=await _named(pool, scope, known_only))


async def _named(
    pool: asyncpg.Pool,
    scope: Scope,
    known_only: bool,  # noqa: FBT001 - as `resolve`
) -> dict[str, list[LifeSpan]]:
    selection, sites = scope.selection, [site.name for site in scope.sites]
    members: dict[str, list[str]] = {wanted: [wanted] for wanted in selection.ids}
    for array in (wanted for wanted in members if _ARRAY in wanted):
        members[array] = await _members(pool, selection.kind, array, sites)
    ids = sorted({member for known in members.values() for member in known})
    lives: dict[str, list[LifeSpan]] = {}
    found = set()
    rows = await pool.fetch(query("lives_of"), sites, selection.kind, ids, *scope.owned)
    for site, *life in rows:
        lives.setdefault(site, []).append(LifeSpan(*life))
        found.add(life[0])
    for wanted, known in members.items():
        if not known_only and found.isdisjoint(known):
            at = f" at site {', '.join(selection.sites)}" if selection.sites else ""
            raise NotFoundError(f"the log has no {selection.kind} {wanted}{at}")
    return lives


async def _members(pool: asyncpg.Pool, kind: str, array: str, sites: list[str]) -> list[str]:
    r"""An array `N[].server` and its subjobs `N[i].server`.

    All their ids begin with `N[`, which is the range up to `N\`, the next character.
    """
    number, _, end = array.partition("[")
    rows = await pool.fetch(query("array_members"), sites, kind, f"{number}[", f"{number}\\", end)
    return [row["id"] for row in rows]


def check_positions(scope: Scope, positions: Mapping[str, int], *, beyond: int = 0) -> None:
    """Positions are of sites that are asked about, and at most so far beyond the end of their logs.

    Raises NotFoundError and UsageError.
    """
    ends = {site.name: site.position for site in scope.sites}
    for name, position in positions.items():
        if name not in ends:
            raise NotFoundError(f"no such site: {name} (asked about: {', '.join(ends) or 'none'})")
        if position > ends[name] + beyond:
            raise UsageError(
                f"position {position} is beyond the log of {name}, which ends at {ends[name]}"
            )


@asynccontextmanager
async def searching(pool: asyncpg.Pool) -> AsyncIterator[PoolConnectionProxy]:
    """A connection that plans each query for what is asked; all of them see one moment."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(query("plan_for_values"))
        yield connection


@dataclass(frozen=True, slots=True)
class LifePage:
    """Some lives, and how far they go."""

    lives: list[Life]
    positions: dict[str, int]
    """Of each site the first position of the last life told: give them to go on."""
    more: bool
    starts: dict[str, int]
    """Its positions before the first life."""

    def cut(self, count: int) -> LifePage:
        """Its first lives only."""
        if count == len(self.lives):
            return self
        kept = self.lives[:count]
        return replace(self, lives=kept, positions=_positions(self.starts, kept), more=True)


async def read_lives(
    pool: asyncpg.Pool,
    scope: Scope,
    windows: Mapping[str, Window],
    starts: Mapping[str, int],
    limit: int,
) -> LifePage:
    """Lives that lasted into the windows' time, by the position of their first event.

    Between sites the time decides at which they began.
    """
    newest_first = any(window.newest_first for window in windows.values())
    async with searching(pool) as connection:
        found = [
            await _lives_at(connection, scope, site, window, limit + 1)
            for site, window in sorted(windows.items())
        ]
    merged = heapq.merge(*found, key=lambda life: (life.began, life.site), reverse=newest_first)
    page = list(islice(merged, limit))
    more = len(page) < sum(map(len, found))
    return LifePage(page, _positions(starts, page), more, dict(starts))


def _positions(starts: Mapping[str, int], lives: Iterable[Life]) -> dict[str, int]:
    return {**starts, **{life.site: life.first_position for life in lives}}


async def _lives_at(
    connection: PoolConnectionProxy, scope: Scope, site: str, window: Window, limit: int
) -> list[Life]:
    start = window.before if window.newest_first else window.after
    rows = await connection.fetch(
        query(f"lives_{window.order}"),
        *scope.criteria_at(site),
        site,
        window.begin,
        window.end,
        start,
        limit,
    )
    return [Life.model_validate(dict(row)) for row in rows]


async def chosen_lives(
    pool: asyncpg.Pool, scope: Scope, site: str, window: Window, limit: int
) -> list[LifeSpan]:
    """Lives that have events in the window, by its positions and about its time; in no order."""
    async with searching(pool) as connection:
        rows = await connection.fetch(
            query("chosen_lives"), *scope.criteria_at(site), *_bounds(site, window), limit
        )
    return [LifeSpan(**row) for row in rows]


async def extent(
    pool: asyncpg.Pool, scope: Scope, site: str, window: Window
) -> tuple[int, int] | None:
    """Between which positions, both included, those lives stand; None: there are none."""
    async with searching(pool) as connection:
        row = await connection.fetchrow(
            query("extent_of_lives"), *scope.criteria_at(site), *_bounds(site, window)
        )
    return None if row is None or row["first"] is None else (row["first"], row["last"])


async def matching(
    pool: asyncpg.Pool,
    scope: Scope,
    site: str,
    window: Window,
    lives: Sequence[tuple[str, int]],
) -> set[tuple[str, int]]:
    """Those of the lives, given by id and incarnation, that are selected."""
    async with searching(pool) as connection:
        rows = await connection.fetch(
            query("lives_among"),
            *scope.criteria_at(site),
            site,
            window.begin,
            window.end,
            [life[0] for life in lives],
            [life[1] for life in lives],
        )
    return {(row["id"], row["incarnation"]) for row in rows}


def _bounds(site: str, window: Window) -> tuple[str, datetime | None, datetime | None, int, int]:
    return site, window.begin, window.end, window.after, window.before


def _like(name: str) -> str:
    return re.sub(r"[*?%_\\]", lambda match: _LIKE[match[0]], name)
