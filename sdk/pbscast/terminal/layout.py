"""Texts that keep their indent where a terminal breaks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from pbscast.terminal.paper import Paper

INDENT: Final = 2


def put_wrapped(text: Text, paper: Paper, *, indent: int = INDENT) -> None:
    """Print a text that begins with an indent, also where a terminal breaks it."""
    if paper.wraps:
        paper.console.print(Padding(text, (0, 0, 0, indent)), soft_wrap=False)
    else:
        paper.put(Text(" " * indent).append_text(text))
