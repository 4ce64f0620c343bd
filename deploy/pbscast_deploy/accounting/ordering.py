"""Lines of a report in the order in which one reads the files, whatever their number."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast_deploy.accounting.findings import Asked, Finding


class Ordering:
    """Keeps lines and gives them by file and line, then those of the log alone by position.

    A wrong time zone may make a difference of every record of a year: SQLite spills what does not
    fit into memory to a temporary file.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._ranks = {name: rank for rank, name in enumerate(files)}
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE line (rank, number, position, text, json)")

    def put(self, item: Finding | Asked) -> None:
        """Keep one."""
        place, position = item.place, item.position or 0
        rank = len(self._ranks) if place is None else self._ranks[place.file]
        number = 0 if place is None else place.line
        row = (rank, number, position, str(item), json.dumps(item.as_json(), ensure_ascii=False))
        self._rows.execute("INSERT INTO line VALUES (?, ?, ?, ?, ?)", row)

    def lines(self, *, as_json: bool) -> Iterator[str]:
        """Give all that was kept, as text or as JSON objects."""
        order = "ORDER BY rank, number, position, rowid"
        found: Iterable[Any] = self._rows.execute(f"SELECT text, json FROM line {order}")  # noqa: S608 - a constant
        for text, encoded in found:
            yield encoded if as_json else text

    def close(self) -> None:
        """Forget everything."""
        self._rows.close()
