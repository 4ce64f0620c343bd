"""``pbscast history``: what became of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pbscast.cli.gathering import counted
from pbscast.cli.lines import EventLines
from pbscast.cli.options import (
    After,
    Creds,
    ExitStatus,
    HowEnded,
    Html,
    JobIds,
    Name,
    OfKind,
    Owner,
    Project,
    Queue,
    Reached,
    Servers,
    Since,
    Site,
    Until,
    name_positions,
    of_kind,
    parse_ids,
    parse_positions,
    selected,
)
from pbscast.cli.running import run, say
from pbscast.client import connect
from pbscast.errors import NotFoundError, UsageError
from pbscast.events import Kind
from pbscast.newfile import new_file
from pbscast.requests import HistoryRequest
from pbscast.revisions import Revisions
from pbscast.selection import SelectionOptions, request
from pbscast.story import Story
from pbscast.terminal.paper import Paper
from pbscast.terminal.telling import tell
from pbscast.times import parse_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pbscast.client import Client
    from pbscast.history import Recorded


MOST_EVENTS: Final = 500_000
"""That one picture is made of: all its lives are kept in memory."""


def history_command(  # noqa: PLR0913 - one parameter for each option of the command
    job_ids: JobIds = None,
    *,
    kind: OfKind = Kind.JOB,
    site: Site = None,
    owner: Owner = None,
    queue: Queue = None,
    project: Project = None,
    name: Name = None,
    state: Reached = None,
    reason: HowEnded = None,
    exit_status: ExitStatus = None,
    since: Since = None,
    until: Until = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="The latest first.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Of --events or --json: so many, and how to go on then."),
    ] = None,
    after: After = None,
    events: Annotated[bool, typer.Option("--events", help="One plain line an event.")] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Of each JOBID every event: all values, old and new, and positions."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One CloudEvents object a line, as on NATS.")
    ] = False,
    html: Html = None,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """Tell what became of a job: of an array with its subjobs, of a moved job at each site.

    Without a JOBID: of all jobs for which every given filter holds, a bar each; where they are more
    than a hundred, a bar for several. Of --kind node, queue, resv … the events, a line each.
    --queue, --project and --name go by where a job stood last, not by what it has left.
    """
    selection = of_kind(kind) | selected(
        sites=site,
        owners=owner,
        queues=queue,
        projects=project,
        names=name,
        reached=state,
        reasons=reason,
        exit_statuses=exit_status,
    )

    async def work() -> None:
        ids = parse_ids(job_ids or (), kind)
        asked = _Question.of(ids, selection, since, until, newest_first=newest_first)
        if sum((events, verbose, as_json, html is not None)) > 1:
            raise UsageError("--events, --verbose, --json and --html exclude one another")
        if verbose and not job_ids:
            raise UsageError("--verbose tells of given jobs: give a JOBID")
        in_lines = events or as_json or kind is not Kind.JOB
        if in_lines and (verbose or html is not None):
            raise UsageError("--verbose and --html are for jobs")
        if (limit is not None or after is not None) and not in_lines:
            raise UsageError("--limit and --after are for lists of events: give --events or --json")
        part = _Part.of(limit, after)
        if html is not None:
            await _draw(asked, html, servers, creds)
            return
        async with connect(servers, creds) as client:
            if in_lines:
                lines = EventLines(as_json=as_json, with_date=True)
                await _print_events(asked, part, client, lines)
            else:
                await _tell(asked, client, in_full=verbose)

    run(work())


@dataclass(frozen=True)
class _Question:
    ids: list[str]
    selection: SelectionOptions
    begin: datetime | None
    end: datetime | None
    newest_first: bool

    @classmethod
    def of(
        cls,
        ids: list[str],
        selection: SelectionOptions,
        since: str | None,
        until: str | None,
        *,
        newest_first: bool,
    ) -> _Question:
        """Check what is asked. Raises InvalidJobId or UsageError."""
        begin, end = parse_range(since, until)
        if not ids and begin is None and not selection:
            raise UsageError("of which jobs? Give a JOBID, or at least one filter or --since")
        request(HistoryRequest, ids or None, selection, begin=begin, end=end)
        return cls(ids, selection, begin, end, newest_first)

    async def read(
        self,
        client: Client,
        *,
        newest_first: bool,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Recorded]:
        """Ask the log, and say in the end how many events it passed over."""
        revisions = Revisions()
        items = client.history_with_bodies(
            self.ids or None,
            begin=self.begin,
            end=self.end,
            newest_first=newest_first,
            after=after,
            limit=limit,
            **self.selection,
        )
        async for recorded in items:
            revisions.observe(recorded.event)
            yield recorded
        if number := revisions.missing:
            other = "" if self.begin is None and self.end is None else ", or of another time"
            say(f"{number:,} events between these are not told: usage that was thinned{other}")

    async def story(self, client: Client) -> Story:
        """Read all of it. Raises NotFoundError if there is nothing, UsageError if too much."""
        story, number = Story(self.ids), 0
        async for recorded in counted(self.read(client, newest_first=False), "events"):
            number += 1
            if number > MOST_EVENTS:
                raise UsageError(
                    f"more than {MOST_EVENTS:,} events, too many for one picture: narrow it down"
                    " with --since, --until or a filter (--events and --json have no limit)"
                )
            story.observe(recorded.event, recorded.hand_over)
        if not story.courses:
            when = "" if self.begin is None and self.end is None else " in that time"
            raise NotFoundError(f"the log holds no event of such a job{when}")
        return story


@dataclass(frozen=True)
class _Part:
    """Which of the events are to be told: the first of those after some."""

    limit: int | None
    after: dict[str, int]

    @classmethod
    def of(cls, limit: int | None, after: str | None) -> _Part:
        """Read the options. Raises UsageError."""
        return cls(limit, {} if after is None else parse_positions(after, "--after"))


async def _print_events(asked: _Question, part: _Part, client: Client, lines: EventLines) -> None:
    """Print them; one event more than is printed says that there are more."""
    told = dict(part.after)
    items = asked.read(
        client,
        newest_first=asked.newest_first,
        after=part.after,
        limit=None if part.limit is None else part.limit + 1,
    )
    number = 0
    async for recorded in items:
        if number == part.limit:
            say(f"there are more: go on with --after {name_positions(told)}")
            return
        number += 1
        lines.put(recorded.event, recorded.body)
        told[recorded.event.site] = recorded.event.position


async def _tell(asked: _Question, client: Client, *, in_full: bool) -> None:
    story = await asked.story(client)
    now = datetime.now(UTC)
    tell(story, Paper(), now, newest_first=asked.newest_first, in_full=in_full)


async def _draw(asked: _Question, path: Path, servers: str | None, creds: str | None) -> None:
    try:
        from pbscast.plots.history import history_page  # noqa: PLC0415 - plotly is an extra
    except ModuleNotFoundError as error:
        raise UsageError("--html needs plotly: pip install 'pbscast[plots]'") from error
    with new_file(path) as file:
        async with connect(servers, creds) as client:
            story = await asked.story(client)
        for piece in history_page(story, datetime.now(UTC), asked.begin, asked.end):
            file.write(piece)
    count = len(story.courses)
    say(f"{path} is written: {count:,} {'life' if count == 1 else 'lives'}")
