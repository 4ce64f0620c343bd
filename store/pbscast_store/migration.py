"""Bringing the schema of a log database up to this release."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

import asyncpg

from pbscast.errors import UnavailableError
from pbscast_store import queries
from pbscast_store.connection import (
    check_server,
    close,
    connect,
    installed_version,
    newer_schema,
    place,
)
from pbscast_store.errors import translated
from pbscast_store.statements import Migration, migration_table, migrations

PATIENCE: Final = 60.0
"""Seconds for which a step tries to get its locks, a second at a time."""

_PAUSE: Final = 0.2


class Migrated(NamedTuple):
    """What a migration did: nothing if both are equal."""

    found: int
    """The schema's version before, 0 for none."""
    version: int
    """Its version now."""


async def migrate(dsn: str) -> Migrated:
    """Applies what is missing, each step in a transaction of its own.

    Any number of callers may do so at once. Raises UnsupportedError for a server that is too old
    or a schema that is newer, UnavailableError if readers keep a table for too long.
    """
    connection = await connect(dsn, command_timeout=None)
    try:
        check_server(connection, dsn)
        with translated(place(dsn)):
            found = await _patiently(connection, dsn, partial(_begin, connection, dsn))
            version = found
            while version < len(migrations()):
                step = partial(_step, connection, dsn, fencing=version == found)
                version = await _patiently(connection, dsn, step)
            return Migrated(found, version)
    finally:
        await close(connection)


async def _begin(connection: asyncpg.Connection, dsn: str) -> int:
    if not await queries.has_migration_table(connection):
        await queries.lock_beginning(connection)
        await connection.execute(migration_table())
    return await _known_version(connection, dsn)


async def _known_version(connection: asyncpg.Connection, dsn: str) -> int:
    found = await installed_version(connection)
    if found > len(migrations()):
        raise newer_schema(dsn, found)
    return found


async def _patiently(
    connection: asyncpg.Connection, dsn: str, work: Callable[[], Awaitable[int]]
) -> int:
    """Waits for locks but briefly, so that nobody else waits long behind it, and tries again."""
    until = monotonic() + PATIENCE
    while True:
        try:
            async with connection.transaction():
                await queries.limit_lock_waits(connection)
                return await work()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if monotonic() >= until:
                raise UnavailableError(
                    f"{place(dsn)}: others keep the log's tables in use (long queries, a dump?):"
                    " the schema is unchanged by this step: migrate again when they have ended"
                ) from error
        await asyncio.sleep(_PAUSE)


async def _step(connection: asyncpg.Connection, dsn: str, *, fencing: bool) -> int:
    """Applies the next step, if others have not done so; returns the version."""
    await queries.lock_migrations(connection)
    found = await _known_version(connection, dsn)
    if found < len(migrations()):
        await _apply(connection, migrations()[found], fencing=fencing and found > 0)
        found += 1
    return found


async def _apply(connection: asyncpg.Connection, step: Migration, *, fencing: bool) -> None:
    """Fencing with the first is enough: a later version is acquired by no older release."""
    if fencing:
        await queries.fence_writers(connection)
    await connection.execute(step.script)
    await queries.record_migration(connection, step.number, step.name)
