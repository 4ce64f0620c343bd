"""What is printed on: a console, how wide it is, which glyphs and whether colours can be had."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console

if TYPE_CHECKING:
    from rich.text import Text

NARROW: Final = 60
"""Columns below which what stands side by side is put on lines of its own."""
_LEAST: Final = 20


class Glyphs(NamedTuple):
    """What ASCII has another sign for."""

    arrow: str
    more: str
    line: str
    tick: str
    dash: str


_UTF: Final = Glyphs(arrow="→", more="…", line="─", tick="┴", dash="—")
_ASCII: Final = Glyphs(arrow=">", more="..", line="-", tick="+", dash="-")


class _Console(Console):
    """Leaves it to the command what it means that nobody reads on."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Paper:
    """Standard output. A letter that its encoding lacks is printed as a question mark."""

    def __init__(self, console: Console | None = None) -> None:
        if console is None and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        self.console = console or _Console(
            highlight=False, soft_wrap=True, markup=False, emoji=False
        )
        self.glyphs = _UTF if self.console.encoding.startswith("utf") else _ASCII

    @property
    def width(self) -> int:
        """Columns; those of a pipe are $COLUMNS or 80."""
        return max(_LEAST, self.console.width)

    @property
    def wraps(self) -> bool:
        """Whether long lines are to be broken here: on a terminal, never in a pipe."""
        return self.console.is_terminal

    @property
    def colours(self) -> bool:
        """Whether a colour would be seen."""
        return self.console.color_system is not None and not self.console.no_color

    def put(self, *lines: Text | str) -> None:
        """Print lines, each whole and written through at once."""
        for line in lines:
            self.console.print(line)
        self.console.file.flush()
