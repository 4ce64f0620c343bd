"""``pbscast jobs``: which jobs there are and were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pbscast.cli.gathering import counted
from pbscast.cli.lines import put_object
from pbscast.cli.options import (
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
)
from pbscast.cli.running import run, say
from pbscast.client import connect
from pbscast.requests import JobsRequest
from pbscast.selection import SelectionOptions, request
from pbscast.terminal.moments import put_lives
from pbscast.terminal.paper import Paper
from pbscast.times import parse_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pbscast.lives import Life

Limit = Annotated[int, typer.Option(min=1, help="The most rows of a table; --json has no limit.")]


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
    limit: Limit = 1000,
    as_json: AsJson = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """List jobs, one row for each life, ended or not; the latest begun first.

    --since and --until: those that lasted into that time.
    """
    selection: SelectionOptions = {
        "sites": site or None,
        "owners": owner or None,
        "queues": queue or None,
        "projects": project or None,
        "names": name or None,
        "states": state or None,
        "reached": reached or None,
        "reasons": reason or None,
        "exit_statuses": exit_status or None,
    }

    async def work() -> None:
        begin, end = parse_range(since, until)
        ids = job_ids or None
        request(JobsRequest, ids, selection, begin=begin, end=end)
        async with connect(servers, creds) as client:
            lives = client.jobs(
                ids, begin=begin, end=end, newest_first=not oldest_first, **selection
            )
            if as_json:
                async for life in lives:
                    put_object(life)
            else:
                await _print_table(lives, limit)

    run(work())


async def _print_table(lives: AsyncIterator[Life], limit: int) -> None:
    found: list[Life] = []
    async for life in counted(lives, "jobs"):
        if len(found) == limit:
            say(f"there are more than {limit}: ask more closely, or give --limit or --json")
            break
        found.append(life)
    if found:
        put_lives(found, Paper(), datetime.now(UTC))
    else:
        say("no job matches")
