"""Connections to a PBS datastore: libpq strings with several hosts, SQL_ASCII bytes, autocommit."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pbscast.cancellation import is_cancelled
from pbscast_ingest.faults import (
    DatastoreError,
    DatastoreUnavailableError,
    DatastoreUnsupportedError,
    place,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

OLDEST: Final = 100000
"""``server_version_num`` of the oldest PostgreSQL we serve."""

CONNECT_SECONDS: Final = 5
"""For each host of the DSN."""

# Values may be any bytes: no conversion, psycopg hands them out as they are.
_BYTES: Final[dict[str, Any]] = {"client_encoding": "SQL_ASCII"}

_SESSION: Final[dict[str, Any]] = {
    "application_name": "pbscast",
    "target_session_attrs": "read-write",
    "connect_timeout": CONNECT_SECONDS,
    # A cut network is noticed in half a minute, not in two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30000,
}


ANSWER_SECONDS: Final = 30.0
"""A server that does not answer one statement within this is as good as gone."""


def hang_up(connection: Connection) -> None:
    """End whatever waits for the server: a cancelled psycopg waits for it once more."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as line, suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering(connection: Connection, where: str, more: float = 0.0) -> Iterator[None]:
    """Translate the driver's errors inside, and hang up on a server that gives no answer in time.

    The time is ANSWER_SECONDS and what is more. Raises DatastoreUnavailableError then; the
    connection is of no more use.
    """
    seconds = ANSWER_SECONDS + more
    late: list[float] = []

    def give_up() -> None:
        late.append(seconds)
        hang_up(connection)

    timer = asyncio.get_running_loop().call_later(seconds, give_up)
    try:
        with translated(where):
            yield
    except DatastoreError as error:
        if is_cancelled():
            # It came before the error, which must not take its place.
            raise asyncio.CancelledError from error
        if not late:
            raise
        message = f"{where}: no answer within {seconds:g} s"
        raise DatastoreUnavailableError(message) from error
    finally:
        timer.cancel()


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[Connection]:
    """Open an autocommit connection to the first host that takes writes; close it at the end.

    What opening it raises comes out as a DatastoreError; what is done with it is for answering.
    """
    with translated(place(dsn)):
        connection = await psycopg.AsyncConnection.connect(
            make_conninfo(dsn, **_missing(dsn), **_BYTES),
            autocommit=True,
            prepare_threshold=2,
        )
    try:
        with answering(connection, place(dsn)):
            await _prepare(connection, dsn)
        yield connection
    finally:
        with translated(place(dsn)):
            await connection.close()


def _missing(dsn: str) -> dict[str, Any]:
    given = conninfo_to_dict(dsn)
    return {name: value for name, value in _SESSION.items() if name not in given}


async def _prepare(connection: Connection, dsn: str) -> None:
    version = connection.info.server_version
    if version < OLDEST:
        raise DatastoreUnsupportedError(
            f"{place(dsn)}: PostgreSQL {version // 10000} is too old: 10 or newer is needed"
        )
    # Whatever the role or the database would have searched: nobody else's functions.
    await connection.execute("SET search_path = pg_catalog, pg_temp")
    await connection.execute("SET TimeZone = 'UTC'")
    await connection.execute("SET DateStyle = 'ISO'")
    await connection.execute("SET lock_timeout = '5s'")
    # The journal is read in the order of its key, whatever a planner without statistics may think:
    # neither all of it, nor all of it to be sorted.
    await connection.execute("SET enable_seqscan = off")
    await connection.execute("SET enable_bitmapscan = off")
    # What is switched off counts as dear, and dear plans would be compiled: a second for each page.
    await connection.execute(
        "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'jit'"
    )
