"""`pbscastd export`: events for other programs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pbscast.errors import UsageError
from pbscast.events import EventName, Kind
from pbscast.times import EXPECTED, parse_time
from pbscast_deploy.cli.options import Config
from pbscast_deploy.cli.period import check_period
from pbscast_deploy.cli.progress import counting
from pbscast_deploy.config import Settings, load_settings
from pbscast_store.export import STDOUT, Exported, Format, Put, Wanted, exporting
from pbscast_store.export import export as export_events
from pbscast_store.log import Log

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime


def export(  # noqa: PLR0913 - one for each option
    config: Config,
    form: Annotated[
        Format,
        typer.Option("--format", help="CloudEvents as JSON Lines; CSV; Parquet."),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The file to write; replaced when all is written. - is standard output."),
    ],
    *,
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be repeated.")] = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Only this kind of object.")] = None,
    event: Annotated[list[EventName] | None, typer.Option(help="Only events of this name.")] = None,
    owner: Annotated[list[str] | None, typer.Option(help="Only jobs of this user.")] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help=f"{EXPECTED}.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Not included.")] = None,
    spreadsheet: Annotated[
        bool,
        typer.Option(
            "--spreadsheet",
            help="Of CSV: put ' before what a spreadsheet would compute; users name jobs.",
        ),
    ] = False,
) -> None:
    """Write the log's events, archived ones too, site by site in their order.

    Values are written as they are; a CSV that is opened in a spreadsheet needs --spreadsheet.
    """
    if spreadsheet and form is not Format.CSV:
        raise UsageError("--spreadsheet: only with --format csv")
    wanted = Wanted(
        dict.fromkeys(site or []),
        kind or [],
        event or [],
        owner or [],
        _moment(begin, "--from"),
        _moment(end, "--to"),
    )
    if wanted.begin and wanted.end and wanted.begin >= wanted.end:
        raise UsageError("the period is empty: --from has to be before --to")
    settings = load_settings(config)
    place = exporting(out, form, spreadsheet=spreadsheet)
    done = asyncio.run(_export(settings, wanted, place))
    what = "standard output" if out == STDOUT else out
    typer.echo(f"{what} is written: {done.number:,} events", err=True)
    if done.thinned:
        typer.echo(f"{done.thinned:,} thinned usage events of that time are not in it", err=True)


async def _export(
    settings: Settings, wanted: Wanted, place: AbstractContextManager[Put]
) -> Exported:
    async with Log.open(settings.log.dsn, settings.archive.directory) as log:
        if wanted.begin or wanted.end:
            known = [row.name for row in await log.sites()]
            sites = [site for site in wanted.sites or known if site in known]
            await check_period(log, sites, wanted.begin, wanted.end)
        with counting() as counters, place as put:
            return await export_events(log, wanted, put, counters.reach)


def _moment(text: str | None, option: str) -> datetime | None:
    return None if text is None else parse_time(text, option)
