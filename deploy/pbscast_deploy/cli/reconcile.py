"""`pbscastd audit reconcile`: PBS's accounting log beside the event log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import Progress

from pbscast.errors import UsageError
from pbscast_deploy.accounting.files import AccountingFiles
from pbscast_deploy.accounting.findings import Finding, Summary
from pbscast_deploy.accounting.reconciliation import TOLERANCE, Reconciliation
from pbscast_deploy.accounting.report import notes, table
from pbscast_deploy.cli.options import Config, Site
from pbscast_deploy.config import Settings, load_settings
from pbscast_store.log import Log


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
        float, typer.Option(min=0, help="Seconds by which the times of both may differ.")
    ] = TOLERANCE.total_seconds(),
    timezone: Annotated[
        str | None,
        typer.Option(help="Zone of the PBS server (Europe/Berlin); by default this machine's."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a difference, at last one of the sums.")
    ] = False,
) -> None:
    """Compare PBS's own accounting log with the event log, record by record.

    A line for each difference, then the sums. Only what the files cover is compared: a file named
    YYYYMMDD covers that day. Exit status: 0 all agrees, 1 something differs, 2 the command line is
    wrong.
    """
    settings = load_settings(config)
    try:
        given = AccountingFiles(files, None if timezone is None else ZoneInfo(timezone))
    except UsageError as error:
        raise typer.BadParameter(str(error), param_hint="ACCOUNTING_FILE...") from error
    except (KeyError, ValueError, OSError) as error:
        hint = f"no such time zone: {timezone}"
        raise typer.BadParameter(hint, param_hint="--timezone") from error
    summary = asyncio.run(
        _reconcile(settings, site, given, timedelta(seconds=tolerance), _printer(as_json))
    )
    _conclude(summary, as_json=as_json)
    raise typer.Exit(1 if summary.differences else 0)


async def _reconcile(
    settings: Settings,
    site: str,
    files: AccountingFiles,
    tolerance: timedelta,
    tell: Callable[[Finding], None],
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
            findings = work.run(lambda read: progress.advance(task, read))
            async with aclosing(findings):
                async for finding in findings:
                    tell(finding)
        return work.summary


def _printer(as_json: bool) -> Callable[[Finding], None]:  # noqa: FBT001 - the option's value
    if as_json:
        return lambda finding: _print_json(finding.as_json())
    return lambda finding: typer.echo(str(finding))


def _print_json(values: Any) -> None:
    typer.echo(json.dumps(values, ensure_ascii=False))


def _conclude(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        _print_json({"kind": "summary", **summary.as_json()})
        return
    Console().print(table(summary))
    for note in notes(summary):
        typer.echo(note)
