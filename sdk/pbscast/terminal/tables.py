"""Tables: aligned columns under a heading; a terminal too narrow for all gets those that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.text import Text

from pbscast.render import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast.terminal.paper import Paper

_GAP: Final = 2
_LEAST: Final = 4


class Column(NamedTuple):
    """A column's heading, and in which order columns are left out where there is no room."""

    name: str
    leave: int = 0
    """The highest goes first; 0 stays."""


class Cell(NamedTuple):
    """A text that PBS may have made, and its style."""

    text: str
    style: str = ""


def put_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], paper: Paper) -> None:
    """Print all of it; in a pipe nothing is left out or cut."""
    widths = [
        max(len(column.name), *(len(row[place].text) for row in rows)) if rows else 0
        for place, column in enumerate(columns)
    ]
    shown = _fitting(columns, widths, paper) if paper.wraps else list(range(len(columns)))
    heading = [Cell(columns[place].name, "dim") for place in shown]
    paper.put(_line(heading, [widths[place] for place in shown], paper))
    for row in rows:
        cells = [row[place] for place in shown]
        paper.put(_line(cells, [widths[place] for place in shown], paper))


def _fitting(columns: Sequence[Column], widths: Sequence[int], paper: Paper) -> list[int]:
    shown = list(range(len(columns)))
    while sum(widths[place] + _GAP for place in shown) > paper.width + _GAP:
        place = max(shown, key=lambda place: columns[place].leave)
        if columns[place].leave == 0:
            break
        shown.remove(place)
    return shown


def _line(cells: Sequence[Cell], widths: Sequence[int], paper: Paper) -> Text:
    line = Text(no_wrap=paper.wraps, overflow="ellipsis" if paper.wraps else None)
    for cell, width in zip(cells, widths, strict=True):
        line.append(printable(cell.text).ljust(width + _GAP), cell.style)
    line.rstrip()
    if paper.wraps and len(line) > max(_LEAST, paper.width):
        line.truncate(paper.width - len(paper.glyphs.more))
        line.append(paper.glyphs.more)
    return line
