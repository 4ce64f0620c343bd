"""`pbscastd report`: a period of the log on one page."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pbscast.census import Census
from pbscast.errors import NotFoundError, UsageError
from pbscast.newfile import new_file
from pbscast.times import EXPECTED, parse_time
from pbscast_deploy.cli.options import Config
from pbscast_deploy.cli.period import check_period
from pbscast_deploy.config import Settings, load_settings
from pbscast_deploy.report.reading import Reading, read_site
from pbscast_store.log import Log


def report(
    config: Config,
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help=f"{EXPECTED}.")],
    html: Annotated[Path, typer.Option(help="The page to write; it needs no network to view.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Not included.")] = "now",
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be repeated.")] = None,
) -> None:
    """Draw what the jobs of a period did: states over time, waits, runs and ends."""
    now = datetime.now(UTC)
    census = Census(parse_time(begin, "--from"), min(parse_time(end, "--to"), now))
    if census.begin >= census.end:
        raise UsageError("the period is empty: --from has to be in the past and before --to")
    settings = load_settings(config)
    # The other commands, the daemon above all, need no plots.
    from pbscast_deploy.report.page import report_page  # noqa: PLC0415

    with new_file(html) as file:
        reading, sites = asyncio.run(_read(settings, site or [], census))
        for piece in report_page(reading, sites, now):
            file.write(piece)
    typer.echo(f"{html} is written: {census.lives} lives, {reading.events} events", err=True)


async def _read(settings: Settings, wanted: list[str], census: Census) -> tuple[Reading, list[str]]:
    reading = Reading(census)
    async with Log.open(settings.log.dsn, settings.archive.directory) as log:
        known = [row.name for row in await log.sites()]
        for name in wanted:
            if name not in known:
                raise NotFoundError(f"--site: no such site: {name} (known: {', '.join(known)})")
        sites = list(dict.fromkeys(wanted)) or known
        reading.known_from = await check_period(log, sites, census.begin, census.end)
        with _progress() as progress:
            for name in sites:
                length = (census.end - census.begin).total_seconds()
                task = progress.add_task(name, total=length)

                def reached(time: datetime, task: TaskID = task) -> None:
                    progress.update(task, completed=(time - census.begin).total_seconds())

                await read_site(log, name, reading, reached)
                progress.update(task, completed=length)
    return reading, sites


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
