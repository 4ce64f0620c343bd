"""Progress bars of commands that take long: on a terminal's standard error, else none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Counters:
    """One bar for each thing that is worked on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def advance(self, what: str, by: int, total: int) -> None:
        """So many more are done, of so many."""
        self._progress.advance(self._task(what, total), by)

    def reach(self, what: str, done: int, total: int) -> None:
        """So many are done by now, of so many."""
        self._progress.update(self._task(what, total), completed=done)

    def _task(self, what: str, total: int) -> TaskID:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        return self._tasks[what]


@contextmanager
def counting() -> Iterator[Counters]:
    """Bars that are gone when all is done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield Counters(progress)
