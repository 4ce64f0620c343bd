"""`pbscastd simulate`: a PBS server as its datastore sees it, where there is no PBS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from pbscast_deploy.cli.options import Dsn, Site
from pbscast_deploy.simulator.datastore import DATABASE, create_datastore
from pbscast_deploy.simulator.load import LoadGenerator, Pace
from pbscast_deploy.simulator.record import Record
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import read_trace

app = typer.Typer(
    help="Stand in for a PBS server: for trials, never on a real datastore.", no_args_is_help=True
)


@app.command()
def schema(
    dsn: Dsn,
    name: Annotated[str, typer.Option(help="Name of the database to make.")] = DATABASE,
) -> None:
    """Make an empty PBS datastore: a new database, SQL_ASCII, with the PBS schema."""
    create_datastore(dsn, name)
    typer.echo(f"datastore {name} is made")


@app.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="A recorded trace, one JSON object a line.")],
    dsn: Dsn,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="1: as recorded, 10: ten times as fast.")
    ] = None,
) -> None:
    """Write a recorded trace as PBS wrote it, as fast as possible unless told otherwise."""
    written = asyncio.run(_replay(trace, dsn, speed))
    typer.echo(f"{written} changes written")


@app.command()
def load(  # noqa: PLR0913 - a command's options
    site: Site,
    dsn: Dsn,
    *,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Changes a second; without it as many as go.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="How long; without it until Ctrl-C.")
    ] = None,
    history: Annotated[bool, typer.Option(help="Whether the site keeps job history.")] = True,
    seed: Annotated[int, typer.Option(help="The same seed gives the same jobs.")] = 0,
    first_id: Annotated[int, typer.Option(help="Job ids from here on must be free.")] = 10_000,
    record: Annotated[
        Path | None, typer.Option(help="Append every committed change of a job to this file.")
    ] = None,
) -> None:
    """Write a steady load, shaped like the lives of real jobs."""
    keeper = Record(record)
    try:
        generator = LoadGenerator(
            dsn, site, history=history, seed=seed, first_id=first_id, on_commit=keeper
        )
        pace = asyncio.run(_load(generator, rate, seconds))
    finally:
        keeper.close()
    typer.echo(f"{pace.changes} changes written, {pace.rate:.1f} a second")


async def _replay(trace: Path, dsn: str, speed: float | None) -> int:
    changes = read_trace(trace)
    async with Replay(changes, dsn) as replaying:
        await replaying.seed()
        with Progress(*Progress.get_default_columns(), transient=True) as progress:
            task = progress.add_task("replay", total=len(changes))
            await replaying.run(speed=speed, on_change=lambda _: progress.advance(task))
        return replaying.position


async def _load(generator: LoadGenerator, rate: float | None, seconds: float | None) -> Pace:
    async with generator:
        return await generator.run(rate=rate, seconds=seconds)
