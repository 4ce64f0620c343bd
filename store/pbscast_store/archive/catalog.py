"""Partitions of the log and the table of archives: one typed function per query."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from pbscast_store.archive.manifest import Manifest, manifest_name
from pbscast_store.archive.mentions import Mention
from pbscast_store.queries import Executor
from pbscast_store.statements import query

_SCAN_TIMEOUT: Final = 3600.0
"""Seconds that sorting a partition may take."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A span of `logged`, and the time at the database when it was looked up."""

    name: str
    lower: datetime | None
    upper: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Span:
    """The positions of one site that a partition holds."""

    site: str
    first: int
    last: int
    is_known: bool
    """Whether the log has a row of the site: else somebody has put the events there."""


@dataclass(frozen=True, slots=True)
class ArchiveRow:
    """Events of one site that are no longer in PostgreSQL."""

    site: str
    first_position: int
    last_position: int
    previous: bytes
    digest: bytes
    earliest: datetime
    latest: datetime
    first_logged: datetime
    last_logged: datetime
    partition: str
    manifest: str
    thinnable: bytes
    """Which events may have lost their payload: a `Marks` digest."""
    may_be_thinned: bool
    """Whether they may have lost it by now."""


class Version(NamedTuple):
    """Changes whenever the table of archives does."""

    number: int
    newest: datetime | None


async def partitions(executor: Executor) -> list[Partition]:
    """All, oldest first."""
    return [Partition(**row) for row in await executor.fetch(query("partitions"))]


async def spans(executor: Executor, partition: Partition) -> list[Span]:
    """What a partition holds, by site."""
    rows = await executor.fetch(
        query("partition_spans"), partition.lower, partition.upper, timeout=_SCAN_TIMEOUT
    )
    return [Span(**row) for row in rows]


async def mentions(
    connection: asyncpg.Connection, site: str, partition: Partition
) -> AsyncIterator[Mention]:
    """Through a cursor of the server, by id, kind and position: call it in a transaction."""
    cursor = connection.cursor(
        query("partition_mentions"),
        site,
        partition.lower,
        partition.upper,
        prefetch=5000,
        timeout=_SCAN_TIMEOUT,
    )
    async for row in cursor:
        yield Mention(*row)


async def archives(executor: Executor) -> list[ArchiveRow]:
    """All, by site and position."""
    return [ArchiveRow(**row) for row in await executor.fetch(query("archives"))]


async def version(executor: Executor) -> Version:
    """Cheap to ask for."""
    row = await executor.fetchrow(query("archives_version"))
    return Version(*row) if row else Version(0, None)


async def register(connection: asyncpg.Connection, manifest: Manifest) -> None:
    """Notes that these events are in an archive, and whether it is thinned."""
    contents = manifest.contents
    await connection.execute(
        query("register_archive"),
        contents.site,
        contents.first_position,
        contents.last_position,
        bytes.fromhex(contents.previous),
        bytes.fromhex(contents.digest),
        contents.earliest,
        contents.latest,
        contents.first_logged,
        contents.last_logged,
        manifest.partition,
        manifest_name(contents.site, manifest.partition),
        bytes.fromhex(contents.thinnable),
    )
    if manifest.usage == "thinned":
        await register_thinning(connection, contents.site, contents.first_position)


async def register_thinning(connection: asyncpg.Connection, site: str, first: int) -> None:
    """Notes that an archive may be thinned from now on; nothing if that is known."""
    await connection.execute(query("register_thinning"), site, first)


async def drop_partition(connection: asyncpg.Connection, partition: str) -> None:
    """Refused by the database unless all its events are registered."""
    await connection.execute(query("drop_archived_partition"), partition)


async def lock_briefly(connection: asyncpg.Connection, milliseconds: int) -> None:
    """No lock is waited for longer, until the transaction ends."""
    await connection.execute(query("lock_briefly"), str(milliseconds))


async def try_lock_archiving(connection: asyncpg.Connection) -> bool:
    """False: somebody else is archiving."""
    return bool(await connection.fetchval(query("try_lock_archiving")))
