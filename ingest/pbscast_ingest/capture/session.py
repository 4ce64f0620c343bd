"""Connections of an administrator to a PBS datastore, and what their failures mean."""

from __future__ import annotations

import os
import re
import socket
from contextlib import contextmanager, suppress
from threading import Timer
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pbscast.errors import ConfigError
from pbscast_ingest.faults import DatastoreError, place, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

# The server keeps text in SQL_ASCII, unconverted; messages about it are for people.
_DEFAULTS: Final = {
    "application_name": "pbscastd source",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "tcp_user_timeout": "15000",
}

# An administrator in trouble gets an answer, whatever hangs: a lock, a query, the server itself.
_LIMITS: Final = "SET lock_timeout = '1s'; SET statement_timeout = '10s'"
ANSWER_SECONDS: Final = 15.0
"""After which a server that does not answer one statement is given up."""

# What libpq says repeats parts of it, of the password as well.
_UNSHOWN: Final = (
    " (not shown, since it may hold a password): in a URI, special characters of a password are"
    " written as %XX"
)


_ADVICE: Final = {
    r"password authentication failed|no password supplied": (
        "give that role's password by PGPASSWORD or a password file; PBS keeps the name of its user"
        " in PBS_HOME/server_priv/db_user"
    ),
    r"no pg_hba\.conf entry": "admit this machine and role in the datastore's pg_hba.conf, reload",
    r"Connection refused|No such file or directory": (
        "is the datastore up (`pbs_dataservice status`), and is this its host and port (15007)?"
    ),
    r"timeout expired|no answer|could not receive data|server closed the connection": (
        "the server hangs or the network drops packets: look at PBS's PostgreSQL on its own machine"
    ),
    r"database .* does not exist": "PBS calls its database pbs_datastore",
    r"lock timeout|statement timeout": "a lock is held there: look at pg_locks, and try again",
}


class _Impatient(psycopg.Connection[tuple[Any, ...]]):
    """Hangs up on a server that does not answer a statement in time."""

    def execute(self, *args: Any, **kwargs: Any) -> psycopg.Cursor[tuple[Any, ...]]:
        timer = Timer(ANSWER_SECONDS, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            return super().execute(*args, **kwargs)
        except psycopg.OperationalError as error:
            if timer.finished.is_set():
                msg = f"no answer within {ANSWER_SECONDS:g} s"
                raise psycopg.OperationalError(msg) from error
            raise
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError), socket.socket(fileno=os.dup(self.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


@contextmanager
def administrator(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection in autocommit mode, closed at the end.

    No lock is awaited for more than a second, no query for ten, no answer for fifteen.

    Raises:
        ConfigError: the DSN is malformed.
        DatastoreError: whatever is wrong with the datastore, as its class says, and what to do.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"malformed datastore DSN{_UNSHOWN}") from error
    if any("@" in str(given.get(part) or "") for part in ("host", "port", "dbname")):
        raise ConfigError(f"malformed datastore DSN{_UNSHOWN}")
    try:
        with translated(place(dsn)):
            connection = _Impatient.connect(
                make_conninfo("", **{**_DEFAULTS, **given}), autocommit=True
            )
            with connection:
                # Nobody else's functions run with a superuser's rights.
                connection.execute("SET search_path = pg_catalog, pg_temp; " + _LIMITS)
                yield connection
    except DatastoreError as error:
        raise advised(error) from error


def advised(error: DatastoreError) -> DatastoreError:
    """The same with what to do about it, where that is known."""
    line = str(error)
    for pattern, advice in _ADVICE.items():
        if re.search(pattern, line) and advice not in line:
            return type(error)(f"{line}: {advice}")
    return error
