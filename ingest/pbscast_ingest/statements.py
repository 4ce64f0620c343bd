"""The SQL files of this package."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_PACKAGE: Final = resources.files(__package__)


@cache
def statement(name: str, hstore: str = "") -> bytes:
    """Return the text of ``sql/<name>.sql``; ``<hstore>`` in it is the schema of the extension.

    Sessions search pg_catalog alone. The arguments of hstore's functions have exactly their types,
    so that none that somebody else put into that schema fits better.
    """
    text = _read(_PACKAGE / "sql" / f"{name}.sql")
    return text.replace("<hstore>", sql.Identifier(hstore).as_string()).encode()


@cache
def capture_statement(name: str) -> bytes:
    """Return the text of ``capture/sql/<name>.sql``."""
    return _read(_PACKAGE / "capture" / "sql" / f"{name}.sql").encode()


@cache
def capture_script(name: str) -> tuple[str, ...]:
    """Return the files of ``capture/sql/<name>/``, in their order."""
    folder = _PACKAGE / "capture" / "sql" / name
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return tuple(_read(file) for file in files)


def _read(file: Traversable) -> str:
    return file.read_text("utf-8")
