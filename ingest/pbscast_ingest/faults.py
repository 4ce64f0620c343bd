"""Where psycopg's errors become ours: what can be wrong with a PBS datastore.

    PbscastError
    └── DatastoreError
        ├── DatastoreUnavailableError   (UnavailableError) gone, starting, slow: comes back
        ├── DatastoreRefusedError       (AccessDeniedError) password, pg_hba.conf, a right
        ├── DatastoreUnsupportedError   (UnsupportedError) too old, no hstore, no known schema
        ├── DatastoreMissingError       (NotFoundError) no such database
        ├── DatastoreConfigError        (ConfigError) a connection string, a role that cannot be
        ├── JournalSilentError          (UnavailableError) heartbeats do not come through
        ├── UnreadableRowError          one row cannot be handed out, not even in part
        └── CaptureMissingError         (NotFoundError) changes are not being journaled

A worker retries all of them for ever; a command says the line and gives up.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class DatastoreError(PbscastError):
    """Root of everything that is wrong with a datastore; the line begins with where."""


class DatastoreUnavailableError(DatastoreError, UnavailableError):
    """The datastore cannot be reached, went away or did not answer in time."""


class DatastoreRefusedError(DatastoreError, AccessDeniedError):
    """The datastore refused the credentials, or our role lacks a right."""


class DatastoreUnsupportedError(DatastoreError, UnsupportedError):
    """The server or its schema is of a version this release does not serve."""


class DatastoreMissingError(DatastoreError, NotFoundError):
    """The server has no such database."""


class DatastoreConfigError(DatastoreError, ConfigError):
    """The connection string is malformed, or the role that is to read cannot be the reader."""


class JournalSilentError(DatastoreError, UnavailableError):
    """The datastore answers, but no heartbeat comes through its journal: connect anew."""


class UnreadableRowError(DatastoreError):
    """The datastore answers, but cannot hand out one row, not even in part."""


class CaptureMissingError(DatastoreError, NotFoundError):
    """The datastore answers, but changes are not being journaled: a gap has begun."""


_BY_STATE: Final[dict[str, type[DatastoreError]]] = {
    "28": DatastoreRefusedError,  # wrong password, no pg_hba.conf entry, no such role
    "42501": DatastoreRefusedError,  # insufficient privilege
    "25P03": DatastoreUnavailableError,  # we stalled with locks held, and lost the session
    "3D": DatastoreMissingError,  # no such database
    "3F": DatastoreUnsupportedError,  # no such schema
    "42": DatastoreUnsupportedError,  # no such table, column, function
    # Raised by capture/sql/install/10_preflight.sql.
    "PBC01": DatastoreUnsupportedError,
    "PBC02": DatastoreRefusedError,
    "PBC03": DatastoreUnsupportedError,
    "PBC04": DatastoreUnsupportedError,
    "PBC05": DatastoreUnsupportedError,
    "PBC06": DatastoreConfigError,
}
_CONTENT: Final = ("22", "54", "XX")
_CANCELED: Final = "57014"
# A refused connection brings no SQLSTATE, only the server's line.
_REFUSED: Final = re.compile(
    r"authentication failed|no pg_hba\.conf entry|role .* does not exist|no password supplied"
)
_NO_DATABASE: Final = re.compile(r"database .* does not exist")


def place(dsn: str) -> str:
    """How messages call the datastore: hosts, port and database, no user and no password."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "datastore"
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    port = f":{given['port']}" if given.get("port") else ""
    database = given.get("dbname") or given.get("user") or ""
    return "datastore " + f"{host}{port}/{database}".rpartition("@")[2].rstrip("/")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise what the driver raises inside as a DatastoreError of one line beginning with where."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
            # What libpq says repeats parts of it, of the password as well.
            raise DatastoreConfigError(f"{where}: malformed connection string") from error
        raise _fault(error)(f"{where}: {_line(error)}") from error
    except (OSError, TimeoutError) as error:
        raise DatastoreUnavailableError(
            f"{where}: {_line(error) or 'no answer in time'}"
        ) from error


def _fault(error: psycopg.Error) -> type[DatastoreError]:
    state = error.sqlstate or ""
    if not state:
        line = str(error)
        if _REFUSED.search(line):
            return DatastoreRefusedError
        return DatastoreMissingError if _NO_DATABASE.search(line) else DatastoreUnavailableError
    known = _BY_STATE.get(state) or _BY_STATE.get(state[:2])
    is_passing = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return known or (DatastoreUnavailableError if is_passing else DatastoreError)


def is_about_content(error: DatastoreError) -> bool:
    """Whether the server said that it cannot do what was asked: too large, damaged, too slow."""
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return state[:2] in _CONTENT or state == _CANCELED


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
