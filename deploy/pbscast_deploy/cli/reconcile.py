"""`pbscastd audit reconcile`: PBS's accounting log beside the event log."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, closing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import Progress

from pbscast.errors import UsageError
from pbscast_deploy.accounting.files import AccountingFiles
from pbscast_deploy.accounting.findings import Summary
from pbscast_deploy.accounting.ordering import Ordering
from pbscast_deploy.accounting.reconciliation import TOLERANCE, Reconciliation
from pbscast_deploy.accounting.report import notes, table
from pbscast_deploy.cli.options import Config, Site
from pbscast_deploy.config import Settings, load_settings
from pbscast_store.log import Log

_NOTHING: Final = 6
"""The exit status where neither side had anything to be compared with."""


def reconcile(
    config: Config,
    site: Site,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="ACCOUNTING_FILE...",
            help="Files of PBS's server_priv/accounting, .gz too, in any order; - reads one from "
            "standard input.",
        ),
    ],
    *,
    tolerance: Annotated[
        float, typer.Option(min=0, max=86400, help="Seconds by which the times of both may differ.")
    ] = TOLERANCE.total_seconds(),
    timezone: Annotated[
        str | None,
        typer.Option(help="Zone of the PBS server (Europe/Berlin); by default this machine's."),
    ] = None,
    who: Annotated[
        bool, typer.Option("--who", help="Also a line for each end that was asked for: by whom.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a difference, at last one of the sums.")
    ] = False,
) -> None:
    """Compare PBS's own accounting log with the event log, record by record.

    A line for each difference, then the sums. Only what the files cover is compared: a file with
    YYYYMMDD in its name covers that day. Exit status: 0 what could be compared agrees, 1 something
    differs, 6 nothing could be compared.
    """
    settings = load_settings(config)
    try:
        given = AccountingFiles(files, None if timezone is None else ZoneInfo(timezone))
    except UsageError as error:
        raise typer.BadParameter(str(error), param_hint="ACCOUNTING_FILE...") from error
    except (KeyError, ValueError, OSError) as error:
        hint = f"no such time zone: {timezone}"
        raise typer.BadParameter(hint, param_hint="--timezone") from error
    with closing(Ordering(str(file.path) for file in given.files)) as found:
        work = _reconcile(settings, site, given, timedelta(seconds=tolerance), found, who=who)
        summary = asyncio.run(work)
        for line in found.lines(as_json=as_json):
            typer.echo(line)
    _conclude(summary, as_json=as_json)
    raise typer.Exit(1 if summary.differences else _NOTHING if summary.is_empty else 0)


async def _reconcile(
    settings: Settings,
    site: str,
    files: AccountingFiles,
    tolerance: timedelta,
    found: Ordering,
    *,
    who: bool,
) -> Summary:
    console = Console(stderr=True)
    async with Log.open(settings.log.dsn, settings.archive.directory) as log:
        work = Reconciliation(log, site, files, tolerance)
        with Progress(
            *Progress.get_default_columns(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ) as progress:
            task = progress.add_task("accounting", total=files.bytes or None)
            findings = work.run(
                lambda read: progress.advance(task, read), found.put if who else None
            )
            async with aclosing(findings):
                async for finding in findings:
                    found.put(finding)
        return work.summary


def _conclude(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"kind": "summary", **summary.as_json()}, ensure_ascii=False))
        return
    Console().print(table(summary))
    for note in notes(summary):
        typer.echo(note)
