"""`pbscastd auth enrol`, `bar` and `broker`: people who need no file of their own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from pbscast.errors import ConfigError, UsageError
from pbscast.settings import checked_servers
from pbscast_deploy.auth.broker import Broker, Terms
from pbscast_deploy.auth.keys import Key, Kind
from pbscast_deploy.auth.layout import is_name
from pbscast_deploy.auth.people import everybody, lowest_uid, members
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.cli.authority import (
    Directory,
    Servers,
    announce,
    read_text,
    shortened,
    validity,
    warn_of_ends,
)
from pbscast_deploy.logs import configure_logs

_WEEK: Final = 7 * 86_400


def enrol(
    directory: Directory,
    name: Annotated[
        list[str] | None,
        typer.Argument(help="Users' names at the PBS servers; - reads them from standard input."),
    ] = None,
    *,
    passwd: Annotated[
        bool, typer.Option("--passwd", help="All people that this machine's user database lists.")
    ] = False,
    group: Annotated[
        list[str] | None, typer.Option(help="All people of this group; may be repeated.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Close the accounts of all other users.")
    ] = False,
    server: Servers = None,
) -> None:
    """Let users in by what a broker hands them. Safe to repeat, from cron too.

    Who is barred stays out.
    """
    lowest = lowest_uid()
    found = {*(everybody(lowest) if passwd else ())}
    for one in group or ():
        found.update(members(one, lowest))
    strange = sorted(one for one in found if not is_name(one))
    if strange:
        typer.echo(f"no names that PBS knows, left out: {shortened(strange)}", err=True)
    names = [*_typed(name or []), *sorted(found.difference(strange))]
    if not names:
        raise UsageError("nobody to enrol: NAME, -, --passwd or --group")
    realm = Realm(directory)
    done = realm.enrol(names, prune=prune)
    for what, who in (("made", done.made), ("left", done.left), ("barred", done.barred)):
        if who:
            typer.echo(f"{what}: {shortened(who)}")
    typer.echo(f"{len(done.made) + len(done.kept)} users enrolled")
    announce(realm, server)
    warn_of_ends(realm)


def bar(
    name: Annotated[list[str], typer.Argument(help="Names of users, operators or auditors.")],
    directory: Directory,
    *,
    lift: Annotated[bool, typer.Option("--lift", help="Let them in again.")] = False,
    server: Servers = None,
) -> None:
    """Keep somebody out until that is lifted: connections, brokers, enrolment and issue.

    What was issued before stays revoked when it is lifted.
    """
    realm = Realm(directory)
    changed: list[str] = []
    for one in name:
        changed += realm.lift(one) if lift else realm.bar(one)
        typer.echo(f"{one}: {'let in again' if lift else 'barred'}")
    announce(realm, server, changed)


def broker(
    socket: Annotated[Path, typer.Option(help="The Unix socket; PBSCAST_BROKER of the users.")],
    key: Annotated[Path, typer.Option(help="A copy of the file keys/user.nk, readable by us.")],
    server: Annotated[
        list[str], typer.Option("--server", help="What users are to connect to; repeatable.")
    ],
    ca: Annotated[
        Path | None,
        typer.Option(help="Certificates to trust there (ca.pem), if this machine does not."),
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long each is valid: 30m, 12h.")] = "12h",
    uid_min: Annotated[
        int | None, typer.Option(help="The lowest uid of people; by default of /etc/login.defs.")
    ] = None,
    log_format: Annotated[str, typer.Option(help="console or json.")] = "console",
) -> None:
    """On a login node: hand each user a short-lived credential, as whom the kernel says he is.

    Ends on SIGTERM. Root and users of the system get none.
    """
    signer = Key.load(key)
    if signer.kind is not Kind.ACCOUNT:
        raise ConfigError(f"key {key}: is not keys/user.nk")
    terms = Terms(
        signer=signer,
        ttl=int(validity(ttl, _WEEK, "a week").total_seconds()),
        servers=checked_servers(server),
        ca=None if ca is None else read_text(ca, "certificates"),
        lowest_uid=lowest_uid() if uid_min is None else uid_min,
    )
    configure_logs(log_format)
    asyncio.run(Broker(terms).serve(socket))


def _typed(names: list[str]) -> list[str]:
    read = [word for name in names if name == "-" for word in sys.stdin.read().split()]
    return [*(name for name in names if name != "-"), *read]
