"""The SQL files of this package."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

_SQL: Final = resources.files(__package__) / "sql"


@cache
def statement(name: str) -> bytes:
    """Return the text of ``sql/<name>.sql``."""
    return (_SQL / f"{name}.sql").read_bytes()
