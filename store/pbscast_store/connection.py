"""Connections to the log database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolAcquireContext

from pbscast.errors import ConfigError, UnsupportedError
from pbscast_store import chain, hosts, queries
from pbscast_store.binary import RowTypes
from pbscast_store.errors import translated
from pbscast_store.queries import AnyConnection, Executor
from pbscast_store.statements import migrations

COMMAND_TIMEOUT: Final = 60.0
"""Seconds after which a statement of a writer counts as lost."""
QUERY_TIMEOUT: Final = 10.0
"""Seconds for what the pool does: pages by index and leases, so short that a silent network blinds
nobody for long."""
CONNECT_TIMEOUT: Final = 10.0
ACQUIRE_TIMEOUT: Final = 10.0
"""Seconds for which a connection of a pool that is all in use is waited for."""

_CLOSE_TIMEOUT: Final = 5.0
_OLDEST_MAJOR: Final = 14
_EPOCH_MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH: Final = chain.microseconds(_EPOCH_MOMENT)
_SETTINGS: Final = {
    "application_name": "pbscast",
    "jit": "off",  # compiling the append would cost more than running it
    # Bounds of partitions are read as the server writes them: by no setting of a role or database.
    "timezone": "UTC",
    "datestyle": "ISO",
}


async def connect(dsn: str, command_timeout: float | None = COMMAND_TIMEOUT) -> asyncpg.Connection:
    """A connection of the caller's own."""
    with translated(place(dsn)):
        connection: asyncpg.Connection = await hosts.connect(
            dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=command_timeout,
            server_settings=_SETTINGS,
        )
        return connection


async def is_promotion_lossy(dsn: str) -> bool:
    """Whether a standby that is promoted may lack what was published: no commit waits for it.

    Known only of a DSN with several hosts; without, there is none. Raises UnavailableError.
    """
    with translated(place(dsn)):
        return await hosts.waits_for_none(dsn, timeout=CONNECT_TIMEOUT)


async def hasten_times(connection: asyncpg.Connection) -> None:
    """Sends and reads times in half the time that the driver's own conversion takes."""
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_to_wire, decoder=_from_wire, format="tuple"
    )


async def take_rows(connection: asyncpg.Connection) -> RowTypes:
    """Sends an append's rows as `binary.pack` writes them with what is returned."""
    for domain in ("new_events", "folds"):
        await connection.set_builtin_type_codec(
            domain, schema="pbscast_log", codec_name="bytea", format="binary"
        )
    return await queries.row_types(connection)


def _to_wire(moment: datetime) -> tuple[int]:
    """Microseconds since PostgreSQL's epoch."""
    return (chain.microseconds(moment) - _EPOCH,)


def _from_wire(value: tuple[int]) -> datetime:
    return _EPOCH_MOMENT + timedelta(microseconds=value[0])


class _Pool(asyncpg.Pool):
    """None waits for ever for a connection: TimeoutError, also of `fetch` and the like."""

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        return super().acquire(timeout=timeout or ACQUIRE_TIMEOUT)


async def open_pool(dsn: str, size: int = 10) -> asyncpg.Pool:
    """Connections for what is short."""
    with translated(place(dsn)):
        return await _Pool(
            dsn,
            min_size=0,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            loop=None,
            connect=hosts.connect,  # type: ignore[arg-type]  # fewer arguments
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            timeout=CONNECT_TIMEOUT,
            command_timeout=QUERY_TIMEOUT,
            # To plan a page anew, with all partitions, would cost more than to read it.
            server_settings=_SETTINGS | {"plan_cache_mode": "force_generic_plan"},
            reset=_keep_as_it_is,
        )


async def _keep_as_it_is(connection: asyncpg.Connection) -> None:
    """The queries leave nothing in a session; to reset it would double the time of most of them."""


async def close(connection: asyncpg.Connection | asyncpg.Pool) -> None:
    """Takes leave of the server if it is there, and closes in any case."""
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


def place(dsn: str) -> str:
    """How messages call the log database: without user and password."""
    try:
        parts = urlsplit(dsn)
        ports = [urlsplit(one).port for one in hosts.each(dsn)]
        well_formed = parts.scheme in ("postgresql", "postgres") and 0 not in ports
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ConfigError("log database: malformed DSN, expected postgresql://user@host:port/name")
    return f"log database {parts.netloc.rpartition('@')[2]}{parts.path}"


def check_server(connection: AnyConnection, dsn: str) -> None:
    """Raises UnsupportedError if the server is too old or the database cannot hold all text."""
    version = connection.get_server_version()
    if version.major < _OLDEST_MAJOR:
        raise UnsupportedError(
            f"{place(dsn)}: PostgreSQL {version.major}.{version.minor} is too old,"
            f" the log needs {_OLDEST_MAJOR} or newer"
        )
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise UnsupportedError(
            f"{place(dsn)}: the database is encoded in {encoding}, the log needs UTF8"
        )


async def check_schema(connection: Executor, dsn: str) -> None:
    """Raises UnsupportedError unless the schema is the one of this release."""
    found, needed = await installed_version(connection), len(migrations())
    if found < needed:
        state = f"schema version {found} is older than {needed}" if found else "no event log here"
        raise UnsupportedError(f"{place(dsn)}: {state}: run `pbscastd log migrate`")
    if found > needed:
        raise newer_schema(dsn, found)


def newer_schema(dsn: str, found: int) -> UnsupportedError:
    """The error for a schema that a later release has made."""
    return UnsupportedError(
        f"{place(dsn)}: schema version {found} is newer than this release knows"
        f" ({len(migrations())}): upgrade pbscast"
    )


async def installed_version(connection: Executor) -> int:
    """The number of the last migration that was applied, 0 if none."""
    if not await queries.has_migration_table(connection):
        return 0
    return await queries.schema_version(connection)
