"""`pbscastd auth`: who may see what."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from pbscast.errors import ConfigError, UsageError
from pbscast.newfile import create
from pbscast.settings import checked_servers
from pbscast_deploy.auth.accounts import replace
from pbscast_deploy.auth.certificates import end_of, hosts_of, make_certificates, renewed
from pbscast_deploy.auth.founding import lay_certificates
from pbscast_deploy.auth.keys import PRIVATE, is_public
from pbscast_deploy.auth.layout import Policy, Principal
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.cli.authority import (
    Directory,
    Servers,
    announce,
    listed_sites,
    report_servers,
    validity,
    warn_of_ends,
)
from pbscast_deploy.cli.enrolling import bar, broker, enrol
from pbscast_fanout.askers import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCAL: Final = ("localhost", "127.0.0.1")
_ALL: Final = "all"
_LONGEST: Final = 3650 * 86_400

app = typer.Typer(
    help="Who may see what: keys, accounts and credentials, enforced by nats-server.",
    no_args_is_help=True,
)


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
        str | None,
        typer.Option(
            help="These sites alone, separated by commas, or all; by default those that he has."
        ),
    ] = None,
    server: Servers = None,
) -> None:
    """Make a credentials file for somebody, who then passes it to pbscast (PBSCAST_CREDS).

    Other sites hold for all that was issued to him in this role.
    """
    realm = Realm(directory)
    before = realm.sites_of(name, role)
    wanted = listed_sites(None if sites == _ALL else sites, "--sites")
    principal = Principal(name, role, wanted if sites else before or ())
    duration = validity(ttl, _LONGEST, "ten years")
    with _reserved(out):
        issued = realm.issue(principal, duration)
        replace(out, issued.content.encode())
    until = f"{issued.credential.expires:%Y-%m-%d %H:%M}Z"
    typer.echo(f"{out}: {name} as {role}, {issued.credential.key}, until {until}")
    if before not in (None, principal.sites):
        now, then = (",".join(some or ()) or _ALL for some in (principal.sites, before))
        typer.echo(f"{name} as {role}, by whatever credential: sites {now}, before: {then}")
    announce(realm, server, [issued.account])


@contextmanager
def _reserved(out: Path) -> Iterator[None]:
    """Make an empty file first: nothing is issued that cannot be written."""
    try:
        create(out, b"", PRIVATE)
    except FileExistsError as error:
        raise ConfigError(f"{out}: exists: credentials are never overwritten") from error
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        yield
    except BaseException:
        out.unlink(missing_ok=True)
        raise


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
    if not is_public(who):
        typer.echo(f"a broker gives {who} another: pbscastd auth bar {who} keeps out", err=True)
    announce(realm, server, changed)


@app.command("list")
def list_(directory: Directory) -> None:
    """Show what has been issued, and which servers have not been told what."""
    table = Table("name", "role", "sites", "state", "issued", "expires", "key", box=None)
    realm = Realm(directory)
    for one in realm.issued():
        person = one.principal
        days = (f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}Z" for moment in (one.issued, one.expires))
        table.add_row(
            person.name, person.role, ",".join(person.sites) or _ALL, one.state, *days, one.key
        )
    Console(width=None if Console().is_terminal else 200).print(table)
    if barred := realm.barred():
        typer.echo(f"barred: {', '.join(barred)}")
    report_servers(realm)
    warn_of_ends(realm)


@app.command()
def push(
    directory: Directory,
    server: Servers = None,
    *,
    settle: Annotated[
        bool,
        typer.Option(
            "--settle", help="End what rights of before have opened also where nothing has changed."
        ),
    ] = False,
) -> None:
    """Tell all servers that are known all accounts, also what they were told before."""
    realm = Realm(directory)
    if not server and not realm.servers():
        raise UsageError("--server: name the nats-server to tell")
    accounts = realm.refresh()
    announce(realm, server, accounts, everybody=settle)
    typer.echo(f"{len(accounts)} accounts told")
    report_servers(realm)
    warn_of_ends(realm)


@app.command()
def forget(
    server: Annotated[str, typer.Argument(help="A nats-server that is no more, by its URL.")],
    directory: Directory,
) -> None:
    """Tell a server nothing any more."""
    (url,) = checked_servers([server])
    Realm(directory).forget(url)


@app.command()
def rekey(
    role: Annotated[Role, typer.Argument(help="Whose key has leaked.")],
    directory: Directory,
    server: Servers = None,
) -> None:
    """Give a role another key; whatever the one before has signed is void."""
    realm = Realm(directory)
    changed = realm.rekey(role)
    typer.echo(f"{directory}/keys/{role}.nk is another: issue to {role}s anew")
    announce(realm, server, changed)


@app.command()
def sites(
    directory: Directory,
    *,
    opened: Annotated[
        str | None, typer.Option("--open", help="Here users see everybody's jobs: sitea,siteb.")
    ] = None,
    closed: Annotated[
        str | None, typer.Option("--closed", help="Here users see their own jobs alone.")
    ] = None,
    any_site: Annotated[
        bool, typer.Option("--any", help="Back to the beginning: of every site, own jobs alone.")
    ] = False,
    server: Servers = None,
) -> None:
    """Say at which sites users see everybody's jobs; without options, show it.

    All sites have to be named: of one that is not, users see nothing.
    """
    realm = Realm(directory)
    if opened or closed or any_site:
        is_open, is_closed = listed_sites(opened, "--open"), listed_sites(closed, "--closed")
        if any_site and (opened or closed):
            raise UsageError("--any names no sites: leave --open and --closed out")
        if both := set(is_open) & set(is_closed):
            raise UsageError(f"{', '.join(sorted(both))}: open and closed at once")
        decided = {**dict.fromkeys(is_open, True), **dict.fromkeys(is_closed, False)}
        realm.decide(Policy(decided))
        announce(realm, server)
    for site, is_site_open in sorted(realm.policy.sites.items()) or [("every site", False)]:
        typer.echo(f"{site}: users see {'all jobs' if is_site_open else 'their own jobs'}")


@app.command()
def certificates(
    directory: Directory,
    *,
    renew: Annotated[
        bool, typer.Option("--renew", help="A new server certificate, by the same authority.")
    ] = False,
    new_authority: Annotated[
        bool,
        typer.Option("--new-authority", help="Another authority as well: the old one has leaked."),
    ] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name or address of a nats-server; by default those it is for now."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A new directory: a certificate of its own for one server (a leaf's)."),
    ] = None,
) -> None:
    """Show how long the certificates of the servers are valid, or make new ones."""
    realm = Realm(directory)
    now = realm.certificates
    hosts = list(dict.fromkeys((*host, *_LOCAL))) if host else hosts_of(now.server)
    if out is not None:
        if not host or renew or new_authority:
            raise UsageError("--out: with --host alone, of the server that is to have it")
        lay_certificates(out, now := renewed(now, hosts))
        typer.echo(f"copy {out} to that server, in place of server/tls")
    elif renew or new_authority:
        new = make_certificates(hosts) if new_authority else renewed(now, hosts)
        realm.replace_certificates(new)
        typer.echo(f"copy {directory}/server/tls to each nats-server, and have it reload")
        if new.authority != now.authority:
            typer.echo(f"copy {directory}/server/tls/ca.pem to clients, daemons and brokers")
        now = new
    typer.echo(f"server: until {end_of(now.server):%Y-%m-%d}: {', '.join(hosts_of(now.server))}")
    typer.echo(f"authority: until {end_of(now.authority):%Y-%m-%d}")
    warn_of_ends(realm)


app.command()(enrol)
app.command()(bar)
app.command()(broker)
