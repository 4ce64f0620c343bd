"""The SQL files of this package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_INCLUDE: Final = re.compile(r"-- include (\w+)$", re.MULTILINE)
_SQL: Final = resources.files(__package__) / "sql"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    script: str


@cache
def query(name: str) -> str:
    """The text of `sql/queries/<name>.sql`.

    A line that ends in `-- include <part>` is followed by `sql/parts/<part>.sql`, in parentheses.
    """
    return _INCLUDE.sub(_part, (_SQL / "queries" / f"{name}.sql").read_text())


def _part(include: re.Match[str]) -> str:
    return f"(\n{(_SQL / 'parts' / f'{include[1]}.sql').read_text()})"


@cache
def migrations() -> tuple[Migration, ...]:
    """Every step, in order: number n stands at index n - 1."""
    files = sorted((_SQL / "migrations").iterdir(), key=lambda file: file.name)
    return tuple(_migration(file.name, file.read_text()) for file in files)


def migration_table() -> str:
    """What has to be there before the first step."""
    return (_SQL / "migration_table.sql").read_text()


def _migration(file: str, script: str) -> Migration:
    number, _, name = file.removesuffix(".sql").partition("_")
    return Migration(int(number), name, script)
