"""Reading a long answer, with a count on a terminal while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_Item = TypeVar("_Item")


async def counted(items: AsyncIterator[_Item], what: str) -> AsyncIterator[_Item]:
    """Yield the items; how many there were is shown on stderr if that is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} " + what), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=None)
        async for item in items:
            progress.advance(task)
            yield item
