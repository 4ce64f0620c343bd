"""The event log: opening, reading, and getting the right to write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import asyncpg

from pbscast.errors import NotFoundError, PbscastError, UsageError
from pbscast.events import Kind, Site
from pbscast.lives import Difference, Standing
from pbscast.selection import Selection
from pbscast_store import differences, queries, snapshots, standings, stories
from pbscast_store.archive.archives import Archives
from pbscast_store.archive.joined import JoinedEvents
from pbscast_store.binary import RowTypes
from pbscast_store.confines import Confined
from pbscast_store.connection import (
    check_schema,
    check_server,
    close,
    connect,
    hasten_times,
    open_pool,
    place,
    take_rows,
)
from pbscast_store.doorbell import Doorbell, listening
from pbscast_store.errors import translated
from pbscast_store.latest import LatestLives, read_latest
from pbscast_store.leases import Lease
from pbscast_store.migration import Migrated, migrate
from pbscast_store.moments import at_each_site, position_before
from pbscast_store.partitions import Partitions
from pbscast_store.records import ObjectState, Record, SiteRow
from pbscast_store.search import LifePage, read_lives, resolve
from pbscast_store.snapshots import SnapshotPage
from pbscast_store.source import EventTable
from pbscast_store.standings import Page, Spot
from pbscast_store.stories import EventPage
from pbscast_store.writer import SiteWriter

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Of payload, after which a page ends early."""
_LEASING: Final = 4
"""Connections of the writers together, beside the one that each of them has."""


class Log:
    """The log database. Every method raises UnavailableError when it cannot be reached.

    What is asked for may be confined: what lies beyond is as if the log did not have it; but an id
    that was used again for a job beyond has its latest life there.

    What is asked for may be archived: then reading raises ConfigError unless it was opened with the
    archives' directory, NotFoundError or DecodeError if an archive is missing or damaged.
    """

    def __init__(
        self, dsn: str, pool: asyncpg.Pool, leasing: asyncpg.Pool, archives: Path | None = None
    ) -> None:
        self._dsn = dsn
        self._pool = pool
        self._leasing = leasing
        self._place = place(dsn)
        self._source = JoinedEvents(EventTable(pool), Archives(pool, archives))
        self._writing: set[asyncpg.Connection] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str, archives: Path | None = None) -> AsyncIterator[Self]:
        """Connects to the log at a `postgresql://` URI, whose archives are in a directory.

        Raises ConfigError for any other text or a database that is not there; UnavailableError;
        AccessDeniedError; UnsupportedError for a server before PostgreSQL 14, and for a schema
        that is newer than this release or not yet migrated.
        """
        pool = await open_pool(dsn)
        # Of their own, so that many readers keep no writer from renewing its lease.
        leasing = await open_pool(dsn, _LEASING)
        try:
            with translated(place(dsn)):
                async with pool.acquire() as connection:
                    check_server(connection, dsn)
                    await check_schema(connection, dsn)
            log = cls(dsn, pool, leasing, archives)
            try:
                yield log
            finally:
                await log._close_writers()
        finally:
            await close(leasing)
            await close(pool)

    @staticmethod
    async def migrate_at(dsn: str) -> Migrated:
        """Makes the log's schema, or brings it up to this release.

        Safe to repeat and to run by many at once, while others read; a step that failed left
        nothing behind, those before it stand. Writers are fenced off: from then on only those of
        this release can write. Needs the right to create a schema.
        """
        return await migrate(dsn)

    async def register_site(self, site: str) -> None:
        """Makes room for a site; nothing if it is there."""
        if not site:
            raise UsageError("a site needs a name")
        with translated(self._place):
            await queries.register_site(self._pool, site)

    async def sites(self) -> list[SiteRow]:
        """All sites, by name."""
        with translated(self._place):
            return await queries.sites(self._pool)

    async def position(self, site: str) -> int:
        """The position of the site's last event, 0 before the first. Raises NotFoundError."""
        with translated(self._place):
            position = await queries.site_position(self._pool, site)
        if position is None:
            raise NotFoundError(f"{self._place}: no such site: {site}")
        return position

    async def position_before(self, site: str, moment: datetime) -> int:
        """The position after which events of this time and later stand; times grow, or nearly so.

        Raises NotFoundError.
        """
        last = await self.position(site)
        with translated(self._place):
            # Archives that hold only earlier events are not opened.
            first = await self._source.passed(site, moment)
            return await position_before(self._source, site, first, last, moment)

    async def acquire(self, site: str, holder: str, ttl: float) -> SiteWriter | None:
        """The right to write a site for `ttl` seconds from now; None while another has it.

        `holder` must be unique to the worker: the same holder gets the site again at once, and
        its earlier writer is fenced off. Raises NotFoundError for a site never registered, and
        UnsupportedError if the schema was migrated meanwhile.
        """
        lease = await Lease.acquire(self._leasing, site, holder, ttl)
        if lease is None:
            return None
        try:
            # Afterwards, as a migration after the lease would have ended it.
            with translated(self._place):
                await check_schema(self._leasing, self._dsn)
            partitions = Partitions(self._leasing)
            await partitions.make()
            return SiteWriter(lease, *await self._connect_writer(), partitions)
        except BaseException:
            with suppress(PbscastError):
                await lease.release()
            raise

    async def read(
        self, site: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> list[Record]:
        """The events after a position, oldest first; empty only if there are none.

        A page ends after `limit` events or `max_bytes` of payload, but holds at least one event.
        """
        with translated(self._place):
            return await self._source.read(site, after, limit, max_bytes)

    async def history(
        self,
        kind: str,
        object_id: str,
        *,
        site: str | None = None,
        after: Mapping[str, int] | None = None,
        limit: int = 1000,
        max_bytes: int = PAGE_BYTES,
    ) -> list[Record]:
        """The events of an object, oldest first; of an array `N[].server`, its subjobs' too.

        As `events`; empty if the log never saw the object. To go on, give as `after` the position
        of the last event seen of each site.
        """
        sites = () if site is None else (Site(site),)
        selection = Selection(kind=Kind(kind), ids=(object_id,), sites=sites)
        try:
            page = await self.events(selection, positions=after, limit=limit, max_bytes=max_bytes)
        except NotFoundError:
            return []
        return page.records

    async def events(
        self,
        selection: Selection | Confined,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = False,
        positions: Mapping[str, int] | None = None,
        limit: int = 1000,
        max_bytes: int = PAGE_BYTES,
    ) -> EventPage:
        """The events, from `begin` to before `end`, of objects whose lives match.

        Lives match by where they stood last. One site's events stand in the order of their
        positions, those of several sites by time; but what a job did after a move comes after its
        finalize at the site it left. A page ends as that of `read` does, or after about two seconds
        of search. To go on, give its `positions`.
        Raises NotFoundError for an id or a site of which the log knows nothing.
        """
        with translated(self._place):
            scope = await resolve(self._pool, selection)
            question = stories.Question(scope, begin, end, newest_first)
            return await stories.read_page(
                self._pool, self._source, question, positions or {}, limit, max_bytes
            )

    async def lives(
        self,
        selection: Selection | Confined,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = True,
        positions: Mapping[str, int] | None = None,
        limit: int = 1000,
    ) -> LifePage:
        """The lives that match, as they stood last, and lasted into `begin` to before `end`.

        They stand in the order of their first events. To go on, give the page's `positions`.
        Raises as `events`.
        """
        with translated(self._place):
            scope = await resolve(self._pool, selection)
            question = stories.Question(scope, begin, end, newest_first)
            starts = question.start(positions or {})
            windows = question.windows(starts)
            return await read_lives(self._pool, scope, windows, starts, limit)

    async def snapshot(
        self,
        selection: Selection | Confined,
        *,
        attributes: bool = False,
        known_only: bool = False,
        after: Spot | None = None,
        limit: int = 1000,
        max_bytes: int = PAGE_BYTES,
    ) -> SnapshotPage:
        """How the matching objects stand now that live; those asked for by id in any case.

        They are ordered by site, then by the position of their first event, so that what begins
        while the pages are read comes last. A page ends after `limit` objects or `max_bytes` of
        attributes. Raises as `events`, but with `known_only` ids of which the log knows nothing are
        passed over.
        """
        with translated(self._place):
            scope = await resolve(self._pool, selection, known_only=known_only)
            return await snapshots.read_page(
                self._pool, scope, after, limit, max_bytes, attributes=attributes
            )

    async def latest_lives(self, ids: Sequence[str], sites: Sequence[str]) -> LatestLives:
        """Whether jobs live; quick, for many.

        Of an array also those subjobs that live. Ids and sites of which the log knows nothing are
        passed over.
        """
        with translated(self._place):
            return await read_latest(self._pool, sites, ids)

    async def at(
        self,
        selection: Selection | Confined,
        moment: datetime | Mapping[str, int],
        *,
        attributes: bool = False,
        known_only: bool = False,
        after: Spot | None = None,
        limit: int = 1000,
        max_bytes: int = PAGE_BYTES,
    ) -> Page[Standing]:
        """How matching objects stood at a time, or at a position of each site given.

        An object stood as its last event up to then left it, and matches by that. Those are told
        that were live then; objects asked for by id even if they had ended, in their latest life
        that had begun.
        Ordered and paged as `snapshot`, or after about two seconds of search. Raises as `snapshot`,
        and UsageError or NotFoundError for a moment that the log cannot know.
        """
        with translated(self._place):
            scope = await resolve(self._pool, selection, known_only=known_only)
            moments = await at_each_site(self._source, scope, moment)
            question = standings.AtQuestion(scope, moments, attributes)
            return await standings.read_page(
                self._pool, self._source, question, after, limit, max_bytes
            )

    async def difference(
        self,
        selection: Selection | Confined,
        begin: datetime | Mapping[str, int],
        end: datetime | Mapping[str, int],
        *,
        after: Spot | None = None,
        limit: int = 1000,
        max_bytes: int = PAGE_BYTES,
    ) -> Page[Difference]:
        """What the events after one moment, up to another, changed of objects that match at either.

        Both are times, or positions of the same sites. Ordered and paged as `at`; raises as that.
        """
        with translated(self._place):
            scope = await resolve(self._pool, selection)
            first = await at_each_site(self._source, scope, begin)
            second = await at_each_site(self._source, scope, end)
            moments = {site: (first[site], second[site]) for site in first}
            question = differences.DifferenceQuestion(scope, moments)
            return await differences.read_page(
                self._pool, self._source, question, after, limit, max_bytes
            )

    async def object(self, site: str, kind: str, object_id: str) -> ObjectState | None:
        """The latest incarnation of an object, gone or not; None if the log never saw one."""
        with translated(self._place):
            return await queries.object_state(self._pool, site, kind, object_id)

    async def objects_named(
        self, site: str, kind: str, ids: Sequence[str]
    ) -> dict[str, ObjectState]:
        """What `object` says of each id; those that the log never saw are left out."""
        with translated(self._place):
            return await queries.object_states(self._pool, site, kind, ids)

    async def present_ids(self, site: str, kind: str, first: str, most: int) -> list[str]:
        """The ids of objects that are not gone, in order from `first` on, so many at most."""
        with translated(self._place):
            return await queries.present_ids(self._pool, site, kind, first, most)

    def watch(self) -> AbstractAsyncContextManager[Doorbell]:
        """A doorbell that rings at every append; see `Doorbell.wait`."""
        return listening(self._dsn)

    async def _connect_writer(self) -> tuple[asyncpg.Connection, RowTypes]:
        connection = await connect(self._dsn)
        self._writing.add(connection)
        connection.add_termination_listener(self._writing.discard)
        with translated(self._place):
            await queries.require_durable_commits(connection)
            await hasten_times(connection)
            return connection, await take_rows(connection)

    async def _close_writers(self) -> None:
        for connection in list(self._writing):
            await close(connection)
