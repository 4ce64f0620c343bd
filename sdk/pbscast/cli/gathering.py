"""Reading a long answer, with a count on a terminal while it lasts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_Item = TypeVar("_Item")


async def counted(items: AsyncIterator[_Item], what: str) -> AsyncIterator[_Item]:
    """Yield the items; how many there were is shown on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        async for item in items:
            yield item
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and seldom seen
    from rich.progress import (  # noqa: PLC0415 - the same
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} " + what), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        async for item in items:
            progress.advance(task)
            yield item
