"""`pbscastd audit`: proof that the log is complete, in order and untouched."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from pbscast.errors import ConfigError, UsageError
from pbscast_deploy.cli.options import Config
from pbscast_deploy.cli.reconcile import reconcile
from pbscast_deploy.config import load_settings
from pbscast_store.audit import checkpoints, keys
from pbscast_store.audit.verify import verify as verify_log

if TYPE_CHECKING:
    from pbscast_deploy.config import AuditSettings
    from pbscast_store.audit.findings import Verdict
    from pbscast_store.audit.keys import PublicKeys

_INTERVALS: Final = 3
"""Of signing, after which a checkpoint is too old where signatures are required."""

app = typer.Typer(
    help="Proof that the log is complete, in order and untouched.", no_args_is_help=True
)
app.command()(reconcile)


@app.command()
def key(
    out: Annotated[Path, typer.Option(help="The file of the private key; never replaced.")],
) -> None:
    """Make a key to sign checkpoints with, and its public key in OUT.pub."""
    public = keys.make_key(out)
    typer.echo(f"private key: {out} (for pbscastd's eyes alone)")
    typer.echo(f"public key: {public} (for whoever verifies; keep a copy elsewhere)")
    typer.echo(f'\n# for pbscast.toml:\n[audit]\nkey = "{out.absolute()}"')


@app.command()
def checkpoint(
    config: Config,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write all checkpoints to this file, as JSON Lines, to be kept elsewhere."
        ),
    ] = None,
) -> None:
    """Sign the log of every site as it stands now, if [audit] names a key."""
    settings = load_settings(config)
    if settings.audit.key is not None:
        made = asyncio.run(
            checkpoints.sign(settings.log.dsn, keys.load_private_key(settings.audit.key))
        )
        for one in made:
            typer.echo(f"{one.site}: checkpoint {one.number} at position {one.position}")
        if not made:
            typer.echo("nothing was logged since the last checkpoints")
    elif export is None:
        raise ConfigError(f"{config}: audit.key: not set: make one by `pbscastd audit key`")
    if export is not None:
        everything = asyncio.run(checkpoints.read_stored(settings.log.dsn))
        checkpoints.write_file(export, everything)
        typer.echo(f"{export} is written: {len(everything)} checkpoints", err=True)


@app.command()
def verify(
    config: Config,
    site: Annotated[str | None, typer.Option(help="This site alone.")] = None,
    checkpoints_file: Annotated[
        Path | None, typer.Option("--checkpoints", help="Checkpoints that were exported before.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(help="Check signatures with this; may hold several keys, one after another."),
    ] = None,
    *,
    require_signed: Annotated[
        bool,
        typer.Option(
            "--require-signed",
            help="A site fails as well if nothing of it was signed, or nothing for three times"
            " [audit] interval_seconds.",
        ),
    ] = False,
) -> None:
    """Check the whole log; name the first event of each site that fails. Status 1 if any does."""
    settings = load_settings(config)
    exported = checkpoints.read_file(checkpoints_file) if checkpoints_file else []
    trusted = public_keys(public_key, settings.audit)
    if require_signed and trusted is None:
        raise UsageError("--require-signed: signatures are checked with a --public-key: name it")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        verdicts = asyncio.run(
            verify_log(
                settings.log.dsn,
                site=site,
                keys=trusted,
                exported=exported,
                archives=settings.archive.directory,
                progress=_Bars(progress),
            )
        )
    longest = _INTERVALS * settings.audit.interval_seconds if require_signed else None
    unsigned = [fault for verdict in verdicts if (fault := _unsigned(verdict, longest))]
    for verdict in verdicts:
        _say(verdict)
    for fault in unsigned:
        typer.echo(f"FAILED {fault}")
    is_clean = all(verdict.is_clean for verdict in verdicts) and not unsigned
    raise typer.Exit(0 if is_clean else 1)


def _unsigned(verdict: Verdict, longest: float | None) -> str | None:
    """What is missing of signatures, if they are required, and may be so many seconds old."""
    if longest is None or verdict.signed_up_to >= verdict.position:
        return None
    if not verdict.checkpoints:
        return f"{verdict.site}: no checkpoint is signed: who can write the log can rewrite it"
    age = time() - verdict.signed / 1_000_000
    if age <= longest:
        return None
    return (
        f"{verdict.site}: nothing after position {verdict.signed_up_to:,} is signed, and that was"
        f" {timedelta(seconds=int(age))} ago: does the daemon still sign?"
    )


def public_keys(given: Path | None, settings: AuditSettings) -> PublicKeys | None:
    """The keys to check signatures with: those given, or as the configuration has them, if any."""
    path = given or settings.public_key
    if path is None and settings.key is not None:
        beside = keys.public_path(settings.key)
        path = beside if beside.exists() else None
    return None if path is None else keys.load_public_keys(path)


class _Rate(TextColumn):
    """How many events, and how many a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        pace = f", {rate:,.0f}/s" if rate else ""
        return Text(f"{task.completed:,.0f} of {task.total or 0:,.0f} events{pace}")


class _Bars:
    """One bar for each site."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, site: str, done: int, total: int) -> None:
        if site not in self._tasks:
            self._tasks[site] = self._progress.add_task(site, total=total)
        self._progress.update(self._tasks[site], completed=done)


def _say(verdict: Verdict) -> None:
    if verdict.finding is not None:
        typer.echo(f"FAILED {verdict.finding}")
        return
    lives = verdict.tale.incarnations
    typer.echo(
        f"{verdict.site}: {verdict.position:,} events of {lives:,} lives are complete and in order,"
        " and the projection says what they say"
    )
    for line in _reservations(verdict):
        typer.echo(f"{verdict.site}: {line}")


def _reservations(verdict: Verdict) -> list[str]:
    """What the verdict does not cover, or not with the same certainty."""
    lines = []
    if verdict.chained_after:
        lines.append(
            f"events 1 to {verdict.chained_after:,} were logged before there was a hash chain: no"
            " digest covers them"
        )
    if verdict.tale.thinned:
        lines.append(
            f"{verdict.tale.thinned:,} archived usage events were thinned: that they were logged is"
            " proved, what they said is not kept"
        )
    if not verdict.checkpoints:
        lines.append("nothing is signed: who can write the log can rewrite it, chain and all")
    elif verdict.checkpoints == 1:
        lines.append(f"1 signed checkpoint agrees, at position {verdict.signed_up_to:,}")
    else:
        lines.append(
            f"{verdict.checkpoints:,} signed checkpoints agree, the last at position"
            f" {verdict.signed_up_to:,}"
        )
    if verdict.checkpoints and not verdict.is_signature_checked:
        lines[-1] += "; signatures were not checked: no --public-key"
    if verdict.tale.oddities:
        steps = ", ".join(f"{step} {count}x" for step, count in verdict.tale.oddities.items())
        lines.append(
            f"steps that no documented life of a PBS job has: {steps}; the first at"
            f" {verdict.tale.first_oddity}"
        )
    return lines
