"""The command line.

Exit status: 0 done; 1 any other failure; 2 wrong usage; 3 a server is unavailable; 4 access denied;
5 not found; 130 interrupted. What is asked for goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from pbscast.broker import BROKER_VARIABLE
from pbscast.cli.history import history_command
from pbscast.cli.jobs import jobs_command
from pbscast.cli.moments import at_command, diff_command
from pbscast.cli.options import Creds, Servers
from pbscast.cli.running import invoke
from pbscast.cli.subscribe import subscribe_command, subscriptions_command
from pbscast.cli.watch import watch_command
from pbscast.settings import CREDS_VARIABLE, SERVERS_VARIABLE
from pbscast.tls import CA_VARIABLE

app = typer.Typer(
    help="Follow PBS jobs as they change.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("watch")(watch_command)
app.command("subscribe")(subscribe_command)
app.command("subscriptions")(subscriptions_command)
app.command("history")(history_command)
app.command("jobs")(jobs_command)
app.command("at")(at_command)
app.command("diff")(diff_command)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer's form of a callback
    if asked:
        print(f"pbscast {version('pbscast')}")  # noqa: T201 - what was asked for
        raise typer.Exit


@app.callback(
    epilog=f"The environment says how to get in. ${SERVERS_VARIABLE}: the NATS servers."
    f" ${CREDS_VARIABLE}: a credentials file; or ${BROKER_VARIABLE}: the socket of a broker that"
    f" hands credentials out. ${CA_VARIABLE}: for tls:// servers, a file with the certificates of"
    " the authority that vouches for them, if it is no public one."
)
def options(
    context: typer.Context,
    *,
    servers: Servers = None,
    creds: Creds = None,
    _: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Follow PBS jobs as they change, and see what became of them."""
    given = {name: value for name, value in (("servers", servers), ("creds", creds)) if value}
    context.default_map = {str(command.name): given for command in app.registered_commands}


def main() -> None:
    """Entry point of ``pbscast``."""
    sys.exit(invoke(app, "pbscast"))
