"""`pbscastd`: the commands of an operator.

Exit status, as that of `pbscast`: 0 done; 1 any other failure; 2 the command line or the
configuration is wrong; 3 a server is unavailable; 4 access denied; 5 not found; 70 a fault of
pbscastd itself, so that nobody takes one for a log that differs; 130 interrupted.
What is asked for goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import traceback
from importlib.metadata import version
from typing import Annotated, Final

import typer

from pbscast.cli.running import EXIT_STATUS, INTERRUPTED, invoke
from pbscast.errors import PbscastError
from pbscast_deploy.cli.archive import archive
from pbscast_deploy.cli.audit import app as audit
from pbscast_deploy.cli.auth import app as auth
from pbscast_deploy.cli.export import export
from pbscast_deploy.cli.log import app as log
from pbscast_deploy.cli.options import Config
from pbscast_deploy.cli.report import report
from pbscast_deploy.cli.simulate import app as simulate
from pbscast_deploy.cli.source import app as source
from pbscast_deploy.config import load_settings
from pbscast_deploy.daemon import Daemon
from pbscast_deploy.demo.play import play
from pbscast_deploy.logs import configure_logs

_FAULT: Final = 70
"""The exit status of a fault in here."""

_NEW_CONTAINERS: Final = 20_000
"""Between two looks for cycles. A page of rows is more than ten thousand of them and no cycle; to
look at them every 700, as Python does, takes a fourth of the processor time of a backlog."""

app = typer.Typer(
    name="pbscastd",
    help="Records every change of every PBS job and tells it at once to whoever asked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Else what stands in square brackets, sections of the configuration above all, is left out.
    rich_markup_mode=None,
)
app.add_typer(source, name="source")
app.command()(report)
app.command()(export)
app.command()(archive)
app.add_typer(log, name="log")
app.add_typer(audit, name="audit")
app.add_typer(auth, name="auth")
app.add_typer(simulate, name="simulate")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"pbscastd {version('pbscast-server')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@app.command()
def run(config: Config) -> None:
    """Run the daemon: ingest, fan-out or both, as the configuration says. Ends on SIGTERM."""
    settings = load_settings(config)
    configure_logs(settings.daemon.log_format)
    gc.set_threshold(_NEW_CONTAINERS)
    asyncio.run(Daemon(settings).run())


@app.command()
def demo() -> None:
    """Two PBS sites on this machine: recorded changes, then a steady load until Ctrl-C.

    With DEMO_ONCE=1 in the environment it stops after the recorded changes; its last line is then a
    JSON object of what was written, logged and delivered.
    """
    raise typer.Exit(asyncio.run(play()))


def main() -> None:
    """Run a command; every known trouble is one line and an exit status."""
    try:
        sys.exit(invoke(app, "pbscastd"))
    except PbscastError as error:
        line = " ".join(str(error).split())
        typer.echo(f"pbscastd: {line}", err=True)
        sys.exit(next(status for kind, status in EXIT_STATUS if isinstance(error, kind)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us has had enough; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception:  # noqa: BLE001 - whatever nobody has foreseen
        traceback.print_exc()
        sys.exit(_FAULT)
