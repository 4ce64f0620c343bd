"""`pbscastd source`: capture inside a PBS datastore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pbscast.errors import ConfigError
from pbscast_deploy.cli.options import Dsn, Site
from pbscast_deploy.config import check_site_name
from pbscast_deploy.passfiles import ensure_password
from pbscast_ingest import capture
from pbscast_ingest.capture.script import DEFAULT_CAP_BYTES, DEFAULT_READER

app = typer.Typer(help="Capture inside a PBS datastore.", no_args_is_help=True)

PrintSql = Annotated[
    bool, typer.Option("--print-sql", help="Print all that would be run; change nothing.")
]


@app.command()
def install(
    site: Site,
    dsn: Dsn,
    *,
    reader: Annotated[str, typer.Option(help="Role that pbscastd reads as.")] = DEFAULT_READER,
    passfile: Annotated[
        Path | None,
        typer.Option(
            help="Password file of the reader; made with a random password if it does not exist. "
            "By default pbscast-SITE.pgpass here."
        ),
    ] = None,
    cap_mb: Annotated[
        int, typer.Option(min=1, help="Size in MB at which the journal stops growing.")
    ] = DEFAULT_CAP_BYTES // 2**20,
    notify: Annotated[
        bool,
        typer.Option(help="Wake the reader by NOTIFY; else it looks 30 times a second."),
    ] = True,
    print_sql: PrintSql = False,
) -> None:
    """Install capture, mend it, or bring it up to this release. Safe to repeat."""
    _check(site, dsn)
    if print_sql:
        settings = capture.Settings(site, reader, cap_mb * 2**20, notify)
        typer.echo(capture.render_install(settings))
        return
    path = (passfile or Path(f"pbscast-{site}.pgpass")).absolute()
    password, made = ensure_password(path, reader)
    capture.install(
        dsn,
        site=site,
        reader_role=reader,
        reader_password=password,
        cap_bytes=cap_mb * 2**20,
        notify=notify,
    )
    _say_what_next(site, _reader_dsn(dsn, reader, path), path if made else None)


@app.command()
def uninstall(site: Site, dsn: Dsn, *, print_sql: PrintSql = False) -> None:
    """Remove all that install put there; what the journal still holds is lost."""
    _check(site, dsn)
    if print_sql:
        typer.echo(capture.render_uninstall())
        return
    capture.uninstall(dsn)
    typer.echo(f"{site}: capture is removed")


@app.command()
def check(site: Site, dsn: Dsn) -> None:
    """Say in plain words what is there, what is not, and what to do. Status 1 if anything fails."""
    _check(site, dsn)
    report = capture.check(dsn)
    for line in report.lines():
        typer.echo(line)
    raise typer.Exit(1 if report.verdict is capture.Verdict.FAIL else 0)


@app.command()
def pause(
    site: Site,
    dsn: Dsn,
    why: Annotated[str, typer.Option(help="Kept with the gap that the pause makes.")] = "",
) -> None:
    """The kill switch: from now on PBS saves as if nothing were installed. Takes no lock."""
    _check(site, dsn)
    capture.pause(dsn, why or "paused by an administrator")
    typer.echo(f"{site}: capture is paused; `pbscastd source resume` takes it up again")


@app.command()
def resume(site: Site, dsn: Dsn) -> None:
    """Capture again after a pause; the tables are then compared with the log."""
    _check(site, dsn)
    capture.resume(dsn)
    typer.echo(f"{site}: capture goes on")


def _check(site: str, dsn: str) -> None:
    try:
        check_site_name(site)
        options = conninfo_to_dict(dsn)
    except ValueError as error:
        raise ConfigError(f"--site: {error}") from error
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"--dsn: not a PostgreSQL connection string: {error}") from error
    if options.get("password"):
        typer.echo(
            "pbscastd: warning: a password on the command line is visible to everybody on this "
            "machine: use PGPASSWORD or a password file",
            err=True,
        )


def _reader_dsn(dsn: str, reader: str, passfile: Path) -> str:
    options = conninfo_to_dict(dsn)
    options.pop("password", None)
    return make_conninfo("", **options | {"user": reader, "passfile": str(passfile)})


def _say_what_next(site: str, dsn: str, made: Path | None) -> None:
    typer.echo(f"{site}: capture is installed")
    if made is not None:
        typer.echo(f"{site}: the reader's password is in {made}, for pbscastd's eyes alone")
    quoted = dsn.replace("\\", "\\\\").replace('"', '\\"')
    typer.echo(f'\n# for pbscast.toml:\n[[site]]\nname = "{site}"\ndsn = "{quoted}"')
