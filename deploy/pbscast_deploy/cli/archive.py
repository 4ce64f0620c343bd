"""`pbscastd archive`: what is old leaves PostgreSQL and stays readable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from pbscast.errors import ConfigError, ConflictError
from pbscast_deploy.cli.audit import public_keys
from pbscast_deploy.cli.options import Config
from pbscast_deploy.cli.progress import Counters, counting
from pbscast_deploy.config import load_settings
from pbscast_store.audit.verify import verify

if TYPE_CHECKING:
    from pbscast_deploy.config import Settings
    from pbscast_store.archive.keeping import Kept


def archive(
    config: Config,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
) -> None:
    """Move events older than [retention] live into Parquet files, whole months at a time.

    The whole log is audited first: nothing moves if anything fails. What is archived is read back
    and verified before it leaves PostgreSQL, and is found by all commands afterwards. Archived
    usage events older than [retention] usage are thinned. Daemons go on. Safe to interrupt and to
    repeat; meant for a timer.
    """
    settings = load_settings(config)
    directory = settings.archive.directory
    if directory is None:
        raise ConfigError(f"{config}: archive.directory: not set: where are archives to be?")
    with counting() as counters:
        number = asyncio.run(_keep(settings, directory, counters, dry_run=dry_run))
    if not number:
        typer.echo("nothing is old enough")


async def _keep(settings: Settings, directory: Path, counters: Counters, *, dry_run: bool) -> int:
    if not dry_run and [one async for one in _steps(settings, directory, counters, dry_run=True)]:
        await _audit(settings, directory, counters)
    number = 0
    async with aclosing(_steps(settings, directory, counters, dry_run=dry_run)) as kept:
        async for one in kept:
            typer.echo(_line(one, dry_run=dry_run))
            number += 1
    return number


def _steps(
    settings: Settings, directory: Path, counters: Counters, *, dry_run: bool
) -> AsyncGenerator[Kept, None]:
    # The other commands, the daemon above all, need no pyarrow.
    from pbscast_store.archive.keeping import keep  # noqa: PLC0415

    return keep(
        settings.log.dsn,
        directory,
        settings.policy(),
        dry_run=dry_run,
        progress=counters.advance,
    )


async def _audit(settings: Settings, directory: Path, counters: Counters) -> None:
    """Evidence stays where it is: raises ConflictError if the log is not what it has to be."""
    verdicts = await verify(
        settings.log.dsn,
        keys=public_keys(None, settings.audit),
        archives=directory,
        progress=lambda site, done, total: counters.reach(f"{site} audited", done, total),
    )
    for verdict in verdicts:
        if verdict.finding is not None:
            raise ConflictError(
                f"nothing was archived or thinned, for the audit fails: {verdict.finding}"
            )


def _line(kept: Kept, *, dry_run: bool) -> str:
    done = f"would be {kept.action}" if dry_run else kept.action
    line = f"{kept.site}: {kept.partition}: events {kept.first:,} to {kept.last:,} {done}"
    if kept.thinned:
        line += f", {kept.thinned:,} usage events reduced to their digests"
    return f"{line}, {decimal(kept.bytes)}" if kept.bytes else line
