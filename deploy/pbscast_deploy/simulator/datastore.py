"""Makes an empty PBS datastore."""

from __future__ import annotations

from importlib import resources

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pbscast.errors import UnavailableError

DATABASE = "pbs_datastore"


def create_datastore(admin_dsn: str, name: str = DATABASE) -> str:
    """Makes database `name` with the PBS schema; returns its libpq connection string.

    SQL_ASCII with the C locale, from template0, as PBS makes it. `admin_dsn` names any database of
    the server and a role that may create databases and the extension hstore. Blocks, for about
    0.2 seconds. Raises UnavailableError with the server's reason.
    """
    dsn = make_conninfo(admin_dsn, dbname=name)
    create = sql.SQL(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    ).format(sql.Identifier(name))
    schema = resources.files(__package__).joinpath("pbs_schema.sql").read_bytes()
    try:
        with psycopg.connect(admin_dsn, autocommit=True) as connection:
            connection.execute(create)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(schema)
    except psycopg.Error as error:
        raise UnavailableError(f"cannot make the datastore {name}: {error}".strip()) from error
    return dsn
