"""The SQL files of this package."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from psycopg import sql

_SQL: Final = resources.files(__package__) / "sql"


@cache
def statement(name: str, hstore: str = "") -> bytes:
    """Return the text of ``sql/<name>.sql``; ``<hstore>`` in it is the schema of the extension.

    Sessions search pg_catalog alone. The arguments of hstore's functions have exactly their types,
    so that none that somebody else put into that schema fits better.
    """
    text = (_SQL / f"{name}.sql").read_text("utf-8")
    return text.replace("<hstore>", sql.Identifier(hstore).as_string()).encode()
