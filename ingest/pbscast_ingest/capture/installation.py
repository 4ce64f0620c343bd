"""Installing, upgrading and removing capture; the kill switch.

All of an installation is one transaction, all of a removal another: they happen or they do not.
Locks that PBS could feel are asked for last and given up after a moment; then the whole transaction
is tried again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from pbscast.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from pbscast_ingest.capture.holders import describe_holders
from pbscast_ingest.capture.script import (
    DEFAULT_CAP_BYTES,
    DEFAULT_READER,
    JOURNAL_VERSION,
    Settings,
    preparing_messages,
    statements,
)
from pbscast_ingest.capture.session import administrator, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE: Final = 30.0
"""Seconds for which a busy datastore is tried again."""

# Lock not available, statement timeout, deadlock, serialization; XX000 is "tuple concurrently
# updated", which two installs in one cluster can meet at a role.
_PASSING: Final = frozenset({"55P03", "57014", "40P01", "40001", "XX000"})


def install(
    dsn: str,
    *,
    site: str,
    reader_role: str = DEFAULT_READER,
    reader_password: str | None = None,
    cap_bytes: int = DEFAULT_CAP_BYTES,
    notify: bool = True,
) -> None:
    """Put capture into a datastore, mend it, or bring it up to this release; safe to repeat.

    PBS waits 0.15 s at most for it to get its locks, and some milliseconds while it has them. With
    no password the reader's is left as it is; the server sees the password's verifier only.

    Raises:
        UnavailableError: others lock PBS's tables, or the server went away; nothing changed.
        ConflictError: a newer release of pbscast is installed there.
        PbscastError: as `administrator` says.
    """
    if cap_bytes <= 0 or not site or not reader_role:
        msg = "site and reader role must be named, and the journal's cap be above zero"
        raise UsageError(msg)
    settings = Settings(site, reader_role, cap_bytes, notify)
    with administrator(dsn) as connection:
        _refuse_downgrade(connection, place(dsn))
        _persist(connection, place(dsn), lambda: _install(connection, settings, reader_password))


upgrade = install
"""Installing over an older release upgrades it in place; the journal and its incarnation stay."""


def uninstall(dsn: str) -> None:
    """Remove capture from a datastore, also where parts of it are missing; safe to repeat.

    What the journal still holds is lost. Raises as `install` does.
    """
    with administrator(dsn) as connection:
        _persist(connection, place(dsn), lambda: _run(connection, statements("uninstall")))


def pause(dsn: str, why: str) -> None:
    """Stop capture at once in all sessions, without a lock; the gap is marked.

    Outlives restarts and upgrades.
    """
    _switch(dsn, "pause", sql.SQL("SELECT pbscast.pause({})").format(sql.Literal(why)))


def resume(dsn: str) -> None:
    """Capture again; the marker makes the reader compare everything."""
    _switch(dsn, "resume", sql.SQL("SELECT pbscast.resume()"))


def _switch(dsn: str, what: str, statement: sql.SQL | sql.Composed) -> None:
    with administrator(dsn) as connection:
        try:
            connection.execute(statement)
        except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction) as error:
            msg = f"datastore {place(dsn)}: nothing to {what}, capture is not installed there"
            raise NotFoundError(msg) from error


def _install(connection: psycopg.Connection, settings: Settings, password: str | None) -> None:
    _run(connection, preparing_messages(settings))
    if password is not None:
        _set_password(connection, settings.reader_role, password)
    _run(connection, statements("triggers"))
    connection.execute("COMMIT")


def _run(connection: psycopg.Connection, messages: Iterable[str]) -> None:
    for message in messages:
        connection.execute(message.encode())


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    )
    # Whatever the server logs, it need not log this.
    connection.execute(
        "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1"
    )
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(verifier.decode())))


def _persist(connection: psycopg.Connection, where: str, attempt: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    delay = 0.05
    while True:
        try:
            return attempt()
        except psycopg.Error as error:
            if connection.closed:
                raise
            connection.execute("ROLLBACK")
            if error.sqlstate not in _PASSING:
                raise
            if time.monotonic() + delay > deadline:
                holders = describe_holders(connection)
                msg = f"datastore {where}: nothing changed, PBS's tables are in use: {holders}"
                raise UnavailableError(msg) from error
        time.sleep(delay)
        delay = min(2 * delay, 2.0)


def _refuse_downgrade(connection: psycopg.Connection, where: str) -> None:
    if connection.execute("SELECT to_regclass('pbscast.installation')").fetchone() == (None,):
        return
    row = connection.execute("SELECT version FROM pbscast.installation").fetchone()
    if row is not None and row[0] > JOURNAL_VERSION:
        msg = f"datastore {where}: a newer release installed journal version {row[0]}; use that"
        raise ConflictError(msg)
