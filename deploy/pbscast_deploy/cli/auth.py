"""`pbscastd auth`: who may see what."""

from __future__ import annotations

import asyncio
import logging
import socket
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from pbscast.errors import ConfigError, UsageError
from pbscast.newfile import create
from pbscast.times import parse_duration
from pbscast_deploy.auth.keys import PRIVATE
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.config import check_site_name
from pbscast_fanout.askers import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCAL: Final = ("localhost", "127.0.0.1")
_LONGEST: Final = 3650 * 86_400

app = typer.Typer(
    help="Who may see what: keys, accounts and credentials, enforced by nats-server.",
    no_args_is_help=True,
)

Directory = Annotated[
    Path,
    typer.Option("--dir", envvar="PBSCASTD_AUTH_DIR", help="The directory that init made."),
]
Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        help="Tell this nats-server (nats://host:4222) at once; may be repeated.",
    ),
]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="The directory; it must not exist.")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name or address of a nats-server, for its certificate; repeatable."),
    ] = None,
) -> None:
    """Make the keys, the accounts, a first certificate and a nats-server configuration."""
    Realm.init(directory, list(dict.fromkeys((*(host or [socket.getfqdn()]), *_LOCAL))))
    typer.echo(f"{directory}: keys, accounts and certificates are made")
    typer.echo(f"{directory}/keys is for you alone: keep a copy in a safe place")
    typer.echo(f"copy {directory}/server to each nats-server, {directory}/server/tls/ca.pem to")
    typer.echo("clients; then: pbscastd auth issue pbscastd --role service --out FILE")


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="The user's name at the PBS servers.")],
    directory: Directory,
    role: Annotated[Role, typer.Option(help="What he may see.")],
    out: Annotated[Path, typer.Option(help="The credentials file; never replaced.")],
    ttl: Annotated[str, typer.Option(help="How long it is valid: 12h, 30d.")] = "30d",
    sites: Annotated[
        str | None, typer.Option(help="These sites alone, separated by commas.")
    ] = None,
    server: Servers = None,
) -> None:
    """Make a credentials file for somebody, who then passes it to pbscast (PBSCAST_CREDS)."""
    principal = Principal(name, role, _sites(sites))
    seconds = parse_duration(ttl, "--ttl")
    if not 0 < seconds <= _LONGEST:
        raise UsageError(f"--ttl: not more than nothing and at most ten years: {ttl!r}")
    if out.exists():
        raise ConfigError(f"{out}: exists: credentials are never overwritten")
    issued = Realm(directory).issue(principal, timedelta(seconds=seconds))
    try:
        create(out, issued.content.encode(), PRIVATE)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from error
    until = f"{issued.credential.expires:%Y-%m-%d %H:%M}Z"
    typer.echo(f"{out}: {name} as {role}, {issued.credential.key}, until {until}")
    _tell(Realm(directory), server, [issued.account])


@app.command()
def revoke(
    who: Annotated[str, typer.Argument(help="A name, or the public key of one credential.")],
    directory: Directory,
    server: Servers = None,
) -> None:
    """Make credentials invalid; the servers that are told cut their connections at once."""
    realm = Realm(directory)
    changed = realm.revoke(who)
    typer.echo(f"{who}: revoked")
    _tell(realm, server, changed)


@app.command("list")
def list_(directory: Directory) -> None:
    """Show what has been issued."""
    table = Table("name", "role", "sites", "state", "issued", "expires", "key", box=None)
    for one in Realm(directory).issued():
        person = one.principal
        days = (f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}Z" for moment in (one.issued, one.expires))
        table.add_row(
            person.name, person.role, ",".join(person.sites) or "all", one.state, *days, one.key
        )
    Console(width=None if Console().is_terminal else 200).print(table)


@app.command()
def push(directory: Directory, server: Servers = None) -> None:
    """Tell the servers all accounts: new servers, or ones that could not be reached before."""
    if not server:
        raise UsageError("--server: name the nats-server to tell")
    realm = Realm(directory)
    accounts = realm.refresh()
    _tell(realm, server, accounts)
    typer.echo(f"{len(accounts)} accounts told")


def _tell(realm: Realm, servers: Sequence[str] | None, accounts: Sequence[str]) -> None:
    if servers:
        # It warns of each TLS connection of nats-py that ends.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        asyncio.run(tell(realm, servers, accounts))
    else:
        typer.echo("no --server was told: pbscastd auth push --server URL", err=True)


def _sites(text: str | None) -> tuple[str, ...]:
    names = [] if text is None else text.split(",")
    try:
        return tuple(sorted({check_site_name(name) for name in names}))
    except ValueError as error:
        raise UsageError(f"--sites: {error}") from error
