"""Bringing the schema of a log database up to this release."""

from __future__ import annotations

import asyncpg

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
from pbscast_store.statements import migration_table, migrations


async def migrate(dsn: str) -> int:
    """Applies what is missing, all of it or nothing, and returns the version.

    Any number of callers may do so at once. Raises UnsupportedError for a server that is too old
    or a schema that is newer.
    """
    connection = await connect(dsn)
    try:
        check_server(connection, dsn)
        with translated(place(dsn)):
            async with connection.transaction():
                return await _migrate(connection, dsn)
    finally:
        await close(connection)


async def _migrate(connection: asyncpg.Connection, dsn: str) -> int:
    await queries.lock_migrations(connection)
    await connection.execute(migration_table())
    found, newest = await installed_version(connection), len(migrations())
    if found > newest:
        raise newer_schema(dsn, found)
    for step in migrations()[found:]:
        await connection.execute(step.script)
        await queries.record_migration(connection, step.number, step.name)
    return newest
