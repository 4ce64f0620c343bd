"""`pbscastd source`: capture inside a PBS datastore."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pbscast.errors import ConfigError, PbscastError
from pbscast_deploy.cli.options import Dsn, Site
from pbscast_deploy.config import check_site_name, load_settings
from pbscast_deploy.passfiles import ensure_password
from pbscast_ingest import capture
from pbscast_ingest.capture.script import DEFAULT_READER
from pbscast_store.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pbscast_store.records import SiteRow

_SECRETS = frozenset(
    ("password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret")
)
"""What a connection string may hold and nobody is to read; none is ever printed."""

app = typer.Typer(help="Capture inside a PBS datastore.", no_args_is_help=True)

PrintSql = Annotated[
    bool, typer.Option("--print-sql", help="Print all that would be run; change nothing.")
]
Reader = Annotated[str, typer.Option(help="Role that pbscastd reads as.")]
Passfile = Annotated[
    Path | None,
    typer.Option(
        help="Password file of the reader; made with a random password if it does not exist. "
        "By default pbscast-SITE.pgpass here, which is made only where the role has no password."
    ),
]
NewPassword = Annotated[
    bool, typer.Option("--new-password", help="Give the reader another password, in a new file.")
]
CapMb = Annotated[
    int | None,
    typer.Option(min=64, help="Size in MB at which the journal stops growing; 1024 at first."),
]
Notify = Annotated[
    bool | None,
    typer.Option(
        "--notify/--no-notify",
        help="Wake the reader by NOTIFY, as at first; else it looks 30 times a second.",
    ),
]


@app.command()
def install(  # noqa: PLR0913 - one for each option
    site: Site,
    dsn: Dsn,
    *,
    reader: Reader = DEFAULT_READER,
    passfile: Passfile = None,
    new_password: NewPassword = False,
    cap_mb: CapMb = None,
    notify: Notify = None,
    print_sql: PrintSql = False,
) -> None:
    """Install capture, mend it, or bring it up to this release. Safe to repeat.

    What is not asked for stays as it is.
    """
    _check(site, dsn)
    settings = capture.Settings(site, reader, cap_mb and cap_mb * 2**20, notify)
    if print_sql:
        typer.echo(capture.render_install(settings))
        return
    _put(capture.install, dsn, settings, passfile, new_password=new_password)


@app.command()
def upgrade(
    site: Site,
    dsn: Dsn,
    *,
    reader: Reader = DEFAULT_READER,
    passfile: Passfile = None,
    new_password: NewPassword = False,
    cap_mb: CapMb = None,
    notify: Notify = None,
) -> None:
    """As install, where capture is installed already; else it refuses."""
    _check(site, dsn)
    settings = capture.Settings(site, reader, cap_mb and cap_mb * 2**20, notify)
    _put(capture.upgrade, dsn, settings, passfile, new_password=new_password)


def _put(
    run: Callable[..., capture.InForce],
    dsn: str,
    settings: capture.Settings,
    passfile: Path | None,
    *,
    new_password: bool,
) -> None:
    site, reader = settings.site, settings.reader_role
    path = (passfile or Path(f"pbscast-{site}.pgpass")).absolute()
    if new_password and path.exists():
        raise ConfigError(
            f"--new-password: {path} exists: move it away, or name another --passfile"
        )
    password, made = None, False
    known = capture.reader_has_password(dsn, reader)
    if path.exists() or passfile or new_password or not known:
        password, made = ensure_password(path, reader)
    try:
        found = run(dsn, reader_password=password, **asdict(settings))
    except PbscastError as error:
        if made and not error.transient:  # else it may have been set all the same
            path.unlink()
        raise
    _say_what_is_in_force(site, found)
    if made:
        typer.echo(f"{site}: the reader's password is in {path}, for pbscastd's eyes alone")
    if password is None:
        typer.echo(f"{site}: role {reader} keeps the password it has; name its file in the dsn")
    _say_what_next(site, _reader_dsn(dsn, reader, path if password is not None else None))
    _say_how_to_be_admitted(dsn, reader)


@app.command()
def uninstall(site: Site, dsn: Dsn, *, print_sql: PrintSql = False) -> None:
    """Remove all that install put there; what the journal still holds is lost."""
    _check(site, dsn)
    if print_sql:
        typer.echo(capture.render_uninstall())
        return
    removed = capture.uninstall(dsn, site=site)
    typer.echo(f"{site}: capture is removed")
    if removed.rows is None:
        typer.echo(f"{site}: what the journal held, read or not, is gone; it could not be counted")
    elif removed.rows:
        typer.echo(f"{site}: {removed.rows} changes were in the journal, read or not, and are gone")
    if removed.roles:
        typer.echo(f"{site}: roles that stay: {', '.join(removed.roles)}")


@app.command()
def check(
    site: Site,
    dsn: Dsn,
    config: Annotated[
        Path | None,
        typer.Option(help="The configuration file, for the log: how far it has read, who reads."),
    ] = None,
) -> None:
    """Say in plain words what is there, what is not, and what to do. Status 1 if anything fails.

    With --config also how far the log is behind the journal, and who holds the site.
    """
    _check(site, dsn)
    report = capture.check(dsn, site=site, log=None if config is None else _log(config))
    for line in report.lines():
        typer.echo(line)
    if config is None:
        typer.echo("      how far the log has read is said with --config pbscast.toml")
    raise typer.Exit(1 if report.verdict is capture.Verdict.FAIL else 0)


def _log(config: Path) -> Callable[[], Sequence[SiteRow]]:
    dsn = load_settings(config).log.dsn
    return lambda: asyncio.run(_sites(dsn))


async def _sites(dsn: str) -> Sequence[SiteRow]:
    async with Log.open(dsn) as log:
        return await log.sites()


@app.command()
def pause(
    site: Site,
    dsn: Dsn,
    why: Annotated[str, typer.Option(help="Kept with the gap that the pause makes.")] = "",
) -> None:
    """The kill switch: from now on PBS saves as if nothing were installed.

    Takes no lock on any table; waits for an installation that has begun, and says whose.
    """
    _check(site, dsn)
    capture.pause(dsn, why or "paused by an administrator", site=site)
    typer.echo(f"{site}: capture is paused; `pbscastd source resume` takes it up again")


@app.command()
def resume(site: Site, dsn: Dsn) -> None:
    """Capture again after a pause; the tables are then compared with the log."""
    _check(site, dsn)
    capture.resume(dsn, site=site)
    typer.echo(f"{site}: capture goes on")


def _check(site: str, dsn: str) -> None:
    try:
        check_site_name(site)
        options = conninfo_to_dict(dsn)
    except ValueError as error:
        raise ConfigError(f"--site: {error}") from error
    except psycopg.ProgrammingError as error:
        # libpq's message repeats parts of it, maybe of the password.
        raise ConfigError("--dsn: not a PostgreSQL connection string") from error
    if _SECRETS & options.keys():
        typer.echo(
            "pbscastd: warning: a password on the command line is visible to everybody on this "
            "machine: use PGPASSWORD or a password file",
            err=True,
        )


def _reader_dsn(dsn: str, reader: str, passfile: Path | None) -> str:
    """What the reader connects with: nothing that was the administrator's to know."""
    given = conninfo_to_dict(dsn).items()
    options = {name: value for name, value in given if name not in {*_SECRETS, "passfile"}}
    if passfile is not None:
        options["passfile"] = str(passfile)
    return make_conninfo("", **options | {"user": reader})


def _say_what_is_in_force(site: str, found: capture.InForce) -> None:
    doorbell = "with" if found.notify else "without"
    text = f"journal up to {found.cap_bytes // 2**20} MB, {doorbell} doorbell"
    typer.echo(f"{site}: capture is installed: {text}")
    if found.paused:
        typer.echo(f"{site}: capture is paused; `pbscastd source resume` takes it up again")


def _say_what_next(site: str, dsn: str) -> None:
    quoted = dsn.replace("\\", "\\\\").replace('"', '\\"')
    typer.echo(f'\n# for pbscast.toml:\n[[site]]\nname = "{site}"\ndsn = "{quoted}"')


def _say_how_to_be_admitted(dsn: str, reader: str) -> None:
    options = conninfo_to_dict(dsn)
    host = str(options.get("host") or options.get("hostaddr") or "")
    if not host or host.startswith(("/", "@")):
        typer.echo("# the dsn names a local socket: on another machine give host=, port= of PBS's")
    database = options.get("dbname") or "pbs_datastore"
    typer.echo(
        "# the datastore's pg_hba.conf must admit it, ahead of lines that do not; then reload:"
    )
    typer.echo(f"#   host  {database}  {reader}  ADDRESS-OF-PBSCASTD/32  scram-sha-256")
