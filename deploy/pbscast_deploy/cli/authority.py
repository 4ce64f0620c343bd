"""What the commands of `pbscastd auth` have in common."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pbscast.errors import ConfigError, UsageError
from pbscast.settings import checked_servers
from pbscast.times import parse_duration
from pbscast_deploy.auth.certificates import end_of
from pbscast_deploy.auth.servers import address
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.auth.tokens import decode
from pbscast_deploy.config import check_site_name
from pbscast_deploy.logs import hush_tls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast_deploy.auth.realm import Realm

_SOON: Final = timedelta(days=45)
_NAMES_SHOWN: Final = 10

Directory = Annotated[
    Path,
    typer.Option("--dir", envvar="PBSCASTD_AUTH_DIR", help="The directory that init made."),
]
Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        help="A nats-server (tls://host:4222) to tell from now on; one of each cluster.",
    ),
]


def announce(
    realm: Realm,
    named: Sequence[str] | None,
    accounts: Sequence[str] = (),
    *,
    everybody: bool = False,
) -> None:
    """Tell each server that is named or known what it lacks, and these tokens of accounts.

    What was made by rights of before ends, of those who were lacking or of everybody. Warns where
    there is no server, and where no worker runs. Raises UnavailableError, AccessDeniedError or
    ConfigError, which names those that could not be told.
    """
    known = realm.servers()
    servers = {one.address: one.url for one in known if accounts or realm.lacking(one)}
    servers.update((address(url), url) for url in checked_servers(named or ()))
    try:
        if servers:
            hush_tls()
            told = tell(realm, servers.values(), accounts, everybody=everybody)
            if not asyncio.run(told):
                typer.echo("no worker runs that ends what rights of before have opened:", err=True)
                typer.echo("pbscastd auth push when one does", err=True)
        elif not known:
            typer.echo("no --server was told: pbscastd auth push --server URL", err=True)
    finally:
        if realm.renew_configuration():
            typer.echo(f"copy {realm.configuration} to each nats-server: one whose store is empty")
            typer.echo("goes by it, and would trust what is revoked")


def report_servers(realm: Realm) -> None:
    """Say of each server that is known whether it has been told everything, and what is left."""
    for one in realm.servers():
        names = sorted({decode(token)["name"] for token in realm.lacking(one).values()})
        words = f"has not been told of {shortened(names)}: pbscastd auth push" if names else "told"
        typer.echo(f"{one.place}: {words}")
    if left := sorted({asker.name for asker in realm.unsettled().values()}):
        words = f"what rights of before have opened may go on for {shortened(left)}"
        typer.echo(f"{words}: pbscastd auth push when a worker runs")


def shortened(names: Sequence[str]) -> str:
    """Return the first of these names, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def warn_of_ends(realm: Realm) -> None:
    """Say on stderr which certificate of the directory ends soon."""
    for name in ("server.pem", "ca.pem"):
        path = realm.authority.with_name(name)
        if not path.exists():
            continue  # others are in use
        end = end_of(path.read_bytes())
        if end - datetime.now(UTC) < _SOON:
            typer.echo(
                f"{path}: valid until {end:%Y-%m-%d}: pbscastd auth certificates --renew", err=True
            )


def validity(ttl: str, longest: int, words: str) -> timedelta:
    """Return how long a credential is to be valid. Raises UsageError."""
    seconds = parse_duration(ttl, "--ttl")
    if not 0 < seconds <= longest:
        raise UsageError(f"--ttl: not more than nothing and at most {words}: {ttl!r}")
    return timedelta(seconds=seconds)


def listed_sites(text: str | None, option: str) -> tuple[str, ...]:
    """Return the sites of an option, by name. Raises UsageError."""
    names = [] if text is None else text.split(",")
    try:
        return tuple(sorted({check_site_name(name) for name in names}))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def read_text(path: Path, what: str) -> str:
    """Return a file's text. Raises ConfigError."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path}: cannot be read: {error}") from error
