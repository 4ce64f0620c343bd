"""What the demo shows: on a terminal a live table, elsewhere a line per finalize."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from pbscast.events import Finalize
from pbscast.palette import BAD_REASONS, STATE_STYLES

if TYPE_CHECKING:
    from pbscast.events import Event
    from pbscast_deploy.tally import JobView, Tally

_PLAIN_WIDTH: Final = 130
_REFRESHES: Final = 8
_FRAME_ROWS: Final = 14
_STATES_SHOWN: Final = 9


class Screen:
    """Draws what a tally holds; `heard` must be called for every event."""

    def __init__(self, tally: Tally, total: int) -> None:
        self.console = Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)
        self._tally = tally
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(None),
            MofNCompleteColumn(),
            expand=True,
        )
        self._replay: TaskID = self._progress.add_task("replay", total=total)
        self._footer: RenderableType = Text()
        self._live: Live | None = None

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Draw until the end of the block."""
        if not self.console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._render, console=self.console, refresh_per_second=_REFRESHES
        ) as self._live:
            yield
        self._live = None

    def say(self, text: str) -> None:
        """Print one line above whatever is drawn."""
        self.console.print(text)

    def wrote(self) -> None:
        """One more change was written."""
        self._progress.advance(self._replay)

    def heard(self, event: Event) -> None:
        """Tell of an end where no table can be drawn."""
        if self._live is None and isinstance(event, Finalize):
            status = "" if event.exit_status is None else f", exit status {event.exit_status}"
            where = f" to {event.destination}" if event.destination else ""
            self.say(f"  {event.site:6} {event.id:14} {event.reason}{where}{status}")

    def advise(self, *commands: str) -> None:
        """Show commands for a second terminal."""
        lines = Text("\n".join(f"  {command}" for command in commands))
        self._footer = Panel(lines, title="in a second terminal", title_align="left")
        if not self.console.is_terminal:
            self.console.print(self._footer)

    def summarize(self) -> None:
        """Print every job's way and end."""
        table = _job_table("every job, from submission to the end")
        for job in sorted(self._tally.jobs.values(), key=lambda job: job.life):
            _add_row(table, job)
        self.console.print(table)

    def conclude(self) -> None:
        """Print the counts."""
        self.console.print(self._counts())

    def _render(self) -> RenderableType:
        rows = max(5, self.console.size.height - _FRAME_ROWS)
        jobs = sorted(self._tally.jobs.values(), key=lambda job: job.time, reverse=True)
        table = _job_table("jobs that changed last")
        for job in islice(jobs, rows):
            _add_row(table, job)
        return Group(table, self._counts(), self._progress, self._footer)

    def _counts(self) -> Text:
        tally = self._tally
        return Text(
            f"{tally.delivered} events delivered, {tally.finalized} of {len(tally.jobs)} job lives "
            f"ended, {tally.gaps} gaps, {tally.duplicates} duplicates, "
            f"{tally.out_of_order} out of order",
            style="bold",
        )


def _job_table(title: str) -> Table:
    table = Table(title=title, expand=True, title_justify="left", pad_edge=False)
    for name, width in (("site", 6), ("job", 14), ("name", 12), ("owner", 8), ("queue", 12)):
        table.add_column(name, max_width=width, no_wrap=True)
    table.add_column("states", ratio=1, no_wrap=True)
    table.add_column("finalize", ratio=1, no_wrap=True)
    return table


def _add_row(table: Table, job: JobView) -> None:
    life = job.life
    table.add_row(life.site, life.id, job.name, job.owner, job.queue, _way(job), _end(job))


def _way(job: JobView) -> Text:
    letters = [state for state, _ in job.states]
    visible = [now for i, now in enumerate(letters) if i == 0 or letters[i - 1] != now]
    text = Text("… " if len(visible) > _STATES_SHOWN else "")
    for letter in visible[-_STATES_SHOWN:]:
        text.append(f"{letter} ", style=STATE_STYLES.get(letter, ""))
    return text


def _end(job: JobView) -> Text:
    if not job.ends:
        return Text()
    reason, exit_status = job.ends[-1]
    text = Text(reason.value, style="red" if reason in BAD_REASONS else "green")
    if job.destination:
        text.append(f" to {job.destination}")
    if exit_status is not None:
        text.append(f", exit {exit_status}")
    return text
