"""`pbscastd log`: the event log's database."""

from __future__ import annotations

import asyncio

import typer

from pbscast_deploy.cli.options import Config
from pbscast_deploy.config import load_settings
from pbscast_store.log import Log

app = typer.Typer(help="The event log's database.", no_args_is_help=True)


@app.command()
def migrate(config: Config) -> None:
    """Make the log's tables, or bring them up to this release. Safe to repeat."""
    found, version = asyncio.run(Log.migrate_at(load_settings(config).log.dsn))
    if found == version:
        typer.echo(f"the log is up to date: schema version {version}")
    elif found == 0:
        typer.echo(f"the log is made: schema version {version}")
    else:
        typer.echo(f"the log is migrated: from schema version {found} to {version}")
