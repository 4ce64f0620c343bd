"""Which rows of a journal may still have to be trimmed: pure.

A hole may be filled, and its rows read, long after the rows above it were trimmed. It is kept as a
range of its own, so that what lies between is not looked through again for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbscast_ingest.cursor import Cursor


class Untrimmed:
    """The ranges of seq in which a connection has not yet deleted all that there was."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        """Ascending, disjoint, all below the mark."""
        self._mark = 0
        """From here on nothing was deleted."""

    def of(self, cursor: Cursor) -> tuple[list[int], list[int]]:
        """Return the ranges, lows and highs, in which a cursor has read all but its last row."""
        ranges = [*self._all(cursor)]
        return [low for low, _ in ranges], [high for _, high in ranges]

    def pass_over(self, cursor: Cursor, last: int | None) -> None:
        """Take note that those ranges are empty up to a row, or all of them: None."""
        left = [] if last is None else [r for r in self._all(cursor) if r[1] > last]
        rest = [(max(low, (last or 0) + 1), high) for low, high in left]
        holes = [(hole.low, hole.high) for hole in cursor.holes]
        self._ranges, self._mark = sorted(rest + holes), max(self._mark, cursor.top)

    def _all(self, cursor: Cursor) -> Iterator[tuple[int, int]]:
        for low, high in [*self._ranges, (self._mark, cursor.top - 1)]:
            for hole in cursor.holes:
                if low <= hole.high and hole.low <= high:
                    if low < hole.low:
                        yield low, hole.low - 1
                    low = hole.high + 1  # noqa: PLW2901 - what is left of the range
            if low <= high:
                yield low, high
