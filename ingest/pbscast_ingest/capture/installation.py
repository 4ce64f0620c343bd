"""Installing, upgrading and removing capture; the kill switch.

All of an installation is one transaction, all of a removal another: they happen or they do not.
Locks that PBS could feel are asked for last and given up after a moment; then the whole transaction
is tried again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Unpack

import psycopg
from psycopg import sql

from pbscast.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from pbscast_ingest.capture.holders import describe_holders
from pbscast_ingest.capture.script import (
    JOURNAL_VERSION,
    Settings,
    Wishes,
    preparing_messages,
)
from pbscast_ingest.capture.session import administrator
from pbscast_ingest.faults import place
from pbscast_ingest.statements import capture_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE: Final = 30.0
"""Seconds for which a busy datastore is tried again."""

# Lock not available, statement timeout, deadlock, serialization; XX000 is "tuple concurrently
# updated", which two installs in one cluster can meet at a role.
_PASSING: Final = frozenset({"55P03", "57014", "40P01", "40001", "XX000"})


class InForce(NamedTuple):
    """What an installation runs with."""

    cap_bytes: int
    notify: bool
    paused: bool


class Removed(NamedTuple):
    """What a removal took along, and what it had to leave."""

    rows: int | None
    """In the journal, never read or not yet trimmed; None where it could not be counted."""
    roles: tuple[str, ...]
    """Kept: others own or use them, or they were there before pbscast."""


def install(
    dsn: str, *, site: str, reader_password: str | None = None, **wishes: Unpack[Wishes]
) -> InForce:
    """Put capture into a datastore, mend it, or bring it up to this release; safe to repeat.

    PBS waits 0.15 s at most for it to get its locks, and some milliseconds while it has them. With
    no password the reader's is left as it is; the server sees the password's verifier only. So are
    cap and doorbell where they are None.

    Raises:
        UnavailableError: others lock PBS's tables, or the server went away; nothing changed.
        ConflictError: a newer release of pbscast is installed there, or it is another site's.
        PbscastError: as `administrator` says.
    """
    settings = Settings(site, **wishes)
    is_capped = settings.cap_bytes is None or settings.cap_bytes > 0
    if not (is_capped and site and settings.reader_role):
        msg = "site and reader role must be named, and the journal's cap be above zero"
        raise UsageError(msg)
    with administrator(dsn) as connection:
        _refuse_downgrade(connection, place(dsn))
        refuse_another_site(connection, place(dsn), site)
        _persist(connection, place(dsn), lambda: _install(connection, settings, reader_password))
        return _in_force(connection)


def upgrade(
    dsn: str, *, site: str, reader_password: str | None = None, **wishes: Unpack[Wishes]
) -> InForce:
    """As `install`, over what is there; the journal and its incarnation stay.

    Raises NotFoundError where nothing is installed, else as `install` does.
    """
    with administrator(dsn) as connection:
        if connection.execute("SELECT to_regnamespace('pbscast')").fetchone() == (None,):
            msg = f"{place(dsn)}: nothing to upgrade, capture is not installed there"
            raise NotFoundError(msg)
    return install(dsn, site=site, reader_password=reader_password, **wishes)


def reader_has_password(dsn: str, role: str) -> bool:
    """Whether the role is there and has a password. Raises as `administrator` says."""
    query = "SELECT FROM pg_catalog.pg_authid WHERE rolname = %s AND rolpassword IS NOT NULL"
    with administrator(dsn) as connection:
        return connection.execute(query, [role]).fetchone() is not None


def uninstall(dsn: str, *, site: str | None = None) -> Removed:
    """Remove capture from a datastore, also where parts of it are missing; safe to repeat.

    What the journal still holds is lost. With a site, only that site's. Raises as `install` does.
    """
    where = place(dsn)
    with administrator(dsn) as connection:
        _persist(connection, where, lambda: refuse_another_site(connection, where, site))
        rows, reader = _count_rows(connection), _installed(connection, "reader")
        _persist(connection, where, lambda: _remove(connection))
        query = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY (%s) ORDER BY 1"
        roles = connection.execute(query, [["pbscast_owner", reader]]).fetchall()
        return Removed(rows, tuple(role for (role,) in roles))


def pause(dsn: str, why: str, *, site: str | None = None) -> None:
    """Stop capture at once in all sessions, without a lock on any table; the gap is marked.

    Works where parts of capture are missing. Outlives restarts and upgrades. With a site,
    ConflictError if it is another's. Raises UnavailableError, and names who is in the way, if an
    installation or another turn of the switch does not end within half a minute; NotFoundError
    where nothing is installed.
    """
    _switch(dsn, site, "pause", sql.SQL("SELECT pbscast.pause({})").format(sql.Literal(why)))


def resume(dsn: str, *, site: str | None = None) -> None:
    """Capture again; the marker makes the reader compare everything. Raises as `pause` does."""
    _switch(dsn, site, "resume", sql.SQL("SELECT pbscast.resume()"))


def _switch(dsn: str, site: str | None, what: str, statement: sql.SQL | sql.Composed) -> None:
    with administrator(dsn) as connection:
        if connection.execute("SELECT to_regnamespace('pbscast')").fetchone() == (None,):
            msg = f"{place(dsn)}: nothing to {what}, capture is not installed there"
            raise NotFoundError(msg)
        with suppress(psycopg.errors.LockNotAvailable):  # which must not hinder the kill switch
            refuse_another_site(connection, place(dsn), site)
        _persist(connection, place(dsn), lambda: _turn(connection, place(dsn), what, statement))


# What pause() does, where that function is missing.
_PAUSE: Final = (
    "BEGIN; SET LOCAL lock_timeout = '50ms';"
    " CREATE OR REPLACE FUNCTION pbscast.mode() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1';"
    " COMMIT"
)


def _turn(
    connection: psycopg.Connection, where: str, what: str, statement: sql.SQL | sql.Composed
) -> None:
    try:
        connection.execute(statement)
    except psycopg.errors.UndefinedFunction as error:
        if what == "pause":
            connection.execute(_PAUSE)
            return
        advice = "run `pbscastd source upgrade`, then this again"
        msg = f"{where}: cannot {what}, parts of capture are missing: {advice}"
        raise NotFoundError(msg) from error


def _install(connection: psycopg.Connection, settings: Settings, password: str | None) -> None:
    _run(connection, preparing_messages(settings))
    if password is not None:
        _set_password(connection, settings.reader_role, password)
    # In one message: PBS waits for no answer of ours while its tables are locked.
    _run(connection, ["\n".join([*capture_script("triggers"), "COMMIT"])])


def _remove(connection: psycopg.Connection) -> None:
    begin, *rest = capture_script("uninstall")
    _run(connection, [begin, "\n".join(rest)])


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
                advice = "wait, or end one with SELECT pg_terminate_backend(PID)"
                msg = f"{where}: nothing changed, others are in the way: {holders}: {advice}"
                raise UnavailableError(msg) from error
        time.sleep(delay)
        delay = min(2 * delay, 2.0)


def refuse_another_site(connection: psycopg.Connection, where: str, site: str | None) -> None:
    """Raise ConflictError if capture is installed there for another site than this; None: any."""
    found = _installed(connection, "site")
    if site is not None and found is not None and found != site:
        raise ConflictError(f"{where} is site {found}, not {site}: wrong --site or --dsn?")


def _refuse_downgrade(connection: psycopg.Connection, where: str) -> None:
    version = _installed(connection, "version")
    if version is not None and version > JOURNAL_VERSION:
        msg = f"{where}: a newer release installed journal version {version}; use that"
        raise ConflictError(msg)


def _installed(connection: psycopg.Connection, column: str) -> Any:
    if connection.execute("SELECT to_regclass('pbscast.installation')").fetchone() == (None,):
        return None
    query = sql.SQL("SELECT {} FROM pbscast.installation").format(sql.Identifier(column))
    row = connection.execute(query).fetchone()
    return row and row[0]


def _in_force(connection: psycopg.Connection) -> InForce:
    cap_bytes, mode = connection.execute(
        "SELECT cap_bytes, pbscast.mode() FROM pbscast.control"
    ).fetchone() or (0, 0)
    return InForce(cap_bytes, not mode & 2, bool(mode & 1))


def _count_rows(connection: psycopg.Connection) -> int | None:
    if connection.execute("SELECT to_regclass('pbscast.journal')").fetchone() == (None,):
        return 0
    query = "SELECT count(*) FROM pbscast.journal WHERE op IN ('I', 'U', 'D', 'T')"
    try:
        row = connection.execute(query).fetchone()
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
        return None
    return row[0] if row else 0
