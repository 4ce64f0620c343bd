"""``pbscast jobs``: which jobs there are and were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pbscast.cli.gathering import counted
from pbscast.cli.lines import put_object
from pbscast.cli.options import (
    After,
    AsJson,
    Creds,
    ExitStatus,
    HowEnded,
    JobIds,
    Name,
    Owner,
    Project,
    Queue,
    Reached,
    Servers,
    Since,
    Site,
    Stands,
    Until,
    name_positions,
    parse_positions,
    selected,
)
from pbscast.cli.running import run, say
from pbscast.client import connect
from pbscast.requests import JobsRequest
from pbscast.selection import request
from pbscast.terminal.moments import put_lives
from pbscast.terminal.paper import Paper
from pbscast.times import parse_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pbscast.lives import Life

_ROWS: Final = 1000
"""Of a table, which is laid out as a whole."""


def jobs_command(  # noqa: PLR0913 - one parameter for each option of the command
    job_ids: JobIds = None,
    *,
    site: Site = None,
    owner: Owner = None,
    queue: Queue = None,
    project: Project = None,
    name: Name = None,
    state: Stands = None,
    reached: Reached = None,
    reason: HowEnded = None,
    exit_status: ExitStatus = None,
    since: Since = None,
    until: Until = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="By beginning.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"So many jobs, and how to go on then; a table has {_ROWS} unless told."
        ),
    ] = None,
    after: After = None,
    as_json: AsJson = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """List jobs, one row for each life, ended or not; the latest begun first.

    --since and --until: those that lasted into that time. --queue, --project, --name and --state
    go by where a job stood last, not by what it has left.
    """
    selection = selected(
        sites=site,
        owners=owner,
        queues=queue,
        projects=project,
        names=name,
        states=state,
        reached=reached,
        reasons=reason,
        exit_statuses=exit_status,
    )

    async def work() -> None:
        begin, end = parse_range(since, until)
        ids = job_ids or None
        start = {} if after is None else parse_positions(after, "--after")
        request(JobsRequest, ids, selection, begin=begin, end=end)
        async with connect(servers, creds) as client:
            found = client.jobs(
                ids,
                begin=begin,
                end=end,
                newest_first=not oldest_first,
                after=start,
                **selection,
            )
            lives = _first(found, limit or (None if as_json else _ROWS), start)
            if as_json:
                async for life in lives:
                    put_object(life)
            else:
                await _print_table(lives)

    run(work())


async def _first(
    lives: AsyncIterator[Life], limit: int | None, start: Mapping[str, int]
) -> AsyncIterator[Life]:
    """Yield so many; say how to go on if there are more."""
    told, number = dict(start), 0
    async for life in lives:
        if number == limit:
            say(f"there are more: go on with --after {name_positions(told)}")
            return
        number += 1
        yield life
        told[life.site] = life.first_position


async def _print_table(lives: AsyncIterator[Life]) -> None:
    if found := [life async for life in counted(lives, "jobs")]:
        put_lives(found, Paper(), datetime.now(UTC))
    else:
        say("no job matches")
