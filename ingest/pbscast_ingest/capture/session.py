"""Connections of an administrator to a PBS datastore, and what their failures mean."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pbscast.errors import ConfigError
from pbscast_ingest.faults import place, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

# The server keeps text in SQL_ASCII, unconverted; messages about it are for people.
_DEFAULTS: Final = {
    "application_name": "pbscastd source",
    "client_encoding": "utf8",
    "connect_timeout": "10",
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
        DatastoreError: whatever is wrong with the datastore, as its class says.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"malformed datastore DSN{_UNSHOWN}") from error
    if any("@" in str(given.get(part) or "") for part in ("host", "port", "dbname")):
        raise ConfigError(f"malformed datastore DSN{_UNSHOWN}")
    with translated(place(dsn)):
        connection = psycopg.connect(make_conninfo("", **{**_DEFAULTS, **given}), autocommit=True)
        with connection:
            # Nobody else's functions run with a superuser's rights.
            connection.execute("SET search_path = pg_catalog, pg_temp")
            yield connection
