"""Connections of an administrator to a PBS datastore, and what their failures mean."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

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

# The server keeps text in SQL_ASCII, unconverted; messages about it are for people.
_DEFAULTS: Final = {
    "application_name": "pbscastd source",
    "client_encoding": "utf8",
    "connect_timeout": "10",
}

_BY_SQLSTATE: Final[dict[str, type[PbscastError]]] = {
    "PBC01": UnsupportedError,
    "PBC02": AccessDeniedError,
    "PBC03": UnsupportedError,
    "PBC04": UnsupportedError,
    "PBC05": UnsupportedError,
    "PBC06": ConfigError,
    "42501": AccessDeniedError,
    "25P03": UnavailableError,  # we stalled with locks held, so the server ended the session
}


# What libpq says repeats parts of it, of the password as well.
_UNSHOWN: Final = (
    " (not shown, since it may hold a password): in a URI, special characters of a password are"
    " written as %XX"
)


@contextmanager
def administrator(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection in autocommit mode, closed at the end.

    Raises:
        ConfigError: the DSN is malformed.
        UnavailableError: no server answers there, or it went away meanwhile.
        AccessDeniedError: wrong or missing password, or too few rights.
        NotFoundError: there is no such database.
        UnsupportedError: a server or schema that pbscast does not serve.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"malformed datastore DSN{_UNSHOWN}") from error
    if any("@" in str(given.get(part) or "") for part in ("host", "port", "dbname")):
        raise ConfigError(f"malformed datastore DSN{_UNSHOWN}")
    try:
        connection = psycopg.connect(make_conninfo("", **{**_DEFAULTS, **given}), autocommit=True)
    except psycopg.OperationalError as error:
        raise _refused(place(dsn), error) from error
    try:
        with connection:
            # Nobody else's functions run with a superuser's rights.
            connection.execute("SET search_path = pg_catalog, pg_temp")
            yield connection
    except psycopg.Error as error:
        raise translated(place(dsn), error) from error


def place(dsn: str) -> str:
    """Where a DSN points to, for messages: never the password."""
    given = conninfo_to_dict(dsn)
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    port = f":{given['port']}" if given.get("port") else ""
    text = f"{host}{port}/{given.get('dbname') or given.get('user') or ''}"
    return text.rpartition("@")[2]


def one_line(error: Exception) -> str:
    """A driver's message without its line breaks and the server's severity."""
    return " ".join(str(error).split()).replace("FATAL: ", "").replace("ERROR: ", "")


def translated(where: str, error: psycopg.Error) -> PbscastError:
    """The error of our tree for a driver's error on an open connection."""
    text = (error.diag.message_primary or one_line(error)).strip()
    kind = _BY_SQLSTATE.get(error.sqlstate or "")
    if kind is not None:
        return kind(f"datastore {where}: {text}")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return UnavailableError(f"datastore {where}: {text}")
    return PbscastError(f"datastore {where}: {text} (SQLSTATE {error.sqlstate})")


def _refused(where: str, error: psycopg.OperationalError) -> PbscastError:
    text = one_line(error)
    if "authentication failed" in text or "no password supplied" in text or "pg_hba" in text:
        return AccessDeniedError(f"datastore {where} refused the login: {text}")
    if "does not exist" in text and "database" in text:
        return NotFoundError(f"datastore {where}: {text}")
    return UnavailableError(f"datastore {where} cannot be reached: {text}")
