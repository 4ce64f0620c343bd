"""The command line: ``pbscast watch`` and ``pbscast history``.

Exit status: 0 done; 1 any other failure; 2 wrong usage; 3 a server is unavailable; 4 access denied;
5 not found; 130 interrupted. What is asked for goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from pbscast.client import connect
from pbscast.connection import ConnectionState
from pbscast.errors import (
    AccessDeniedError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UsageError,
)
from pbscast.events import EventName, Kind
from pbscast.notices import Boundary, Missed, Unreadable
from pbscast.options import WatchOptions, plan_watch
from pbscast.render import render
from pbscast.requests import HistoryRequest
from pbscast.selection import request
from pbscast.settings import CREDS_VARIABLE, SERVERS_VARIABLE
from pbscast.starts import Start, beginning, last, since
from pbscast.states import JobState

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pbscast.client import Client
    from pbscast.events import AnyEvent
    from pbscast.watch import Watch

EXIT_STATUS: Final[tuple[tuple[type[PbscastError], int], ...]] = (
    (UsageError, 2),
    (UnavailableError, 3),
    (AccessDeniedError, 4),
    (NotFoundError, 5),
    (PbscastError, 1),
)
INTERRUPTED: Final = 130

_DURATION: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

app = typer.Typer(
    help="Follow PBS jobs as they change.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Servers = Annotated[
    str | None,
    typer.Option(help=f"NATS servers, comma-separated; default ${SERVERS_VARIABLE}, this machine."),
]
Creds = Annotated[
    str | None, typer.Option(help=f"NATS credentials file; default ${CREDS_VARIABLE}.")
]
Json = Annotated[bool, typer.Option("--json", help="One CloudEvents object a line, as on NATS.")]
Many = list[str] | None


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer's form of a callback
    if asked:
        print(f"pbscast {version('pbscast')}")  # noqa: T201 - what was asked for
        raise typer.Exit


@app.callback()
def options(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Follow PBS jobs as they change."""


@app.command("watch")
def watch_command(  # noqa: PLR0913 - one parameter for each option of the command
    job_ids: Annotated[
        Many, typer.Argument(metavar="JOBID", help="19.sitea, 19, 6[].sitea …")
    ] = None,
    *,
    site: Annotated[
        Many, typer.Option(help="Only this site; may be repeated, as all filters.")
    ] = None,
    owner: Annotated[Many, typer.Option(help="Only this user's jobs.")] = None,
    queue: Annotated[Many, typer.Option(help="Only jobs in this queue.")] = None,
    state: Annotated[
        list[JobState] | None,
        typer.Option(
            help="Only events after which the job is in this state.", case_sensitive=False
        ),
    ] = None,
    event: Annotated[
        list[EventName] | None, typer.Option(help="Only these events: submit, state, finalize …")
    ] = None,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="Only these objects: job, node, queue, site …")
    ] = None,
    as_json: Json = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="All that NATS still holds.")
    ] = False,
    since_time: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="2026-11-22T14:05, or 2h: ago.")
    ] = None,
    last_state: Annotated[
        bool, typer.Option("--last", help="First, how each object stands.")
    ] = False,
    until_finished: Annotated[
        bool, typer.Option("--until-finished", help="Stop when every JOBID has ended.")
    ] = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """Print events as they happen, until Ctrl-C."""
    output = _Output(as_json=as_json)

    async def follow() -> None:
        wanted: WatchOptions = {
            "sites": site or None,
            "owners": owner or None,
            "queues": queue or None,
            "states": state or None,
            "kinds": kind or None,
            "events": event or None,
            "start": _start(from_start=from_start, since_time=since_time, last_state=last_state),
            "until_finished": until_finished,
        }
        plan_watch(job_ids or None, **wanted)
        async with (
            connect(servers, creds, on_state=_StateTeller()) as client,
            client.watch(job_ids or None, **wanted) as watch,
        ):
            await _print_watch(watch, output)

    _run(follow())


@app.command("history")
def history_command(
    job_id: Annotated[str, typer.Argument(metavar="JOBID", help="19.sitea, 6[].sitea …")],
    *,
    site: Annotated[str | None, typer.Option(help="Only its life at this site.")] = None,
    as_json: Json = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """Print all that the log holds of a job, oldest first; of an array with its subjobs."""
    output = _Output(as_json=as_json, with_date=True)

    async def tell() -> None:
        request(HistoryRequest, job_id, {"sites": site})
        async with connect(servers, creds) as client:
            await _print_history(client, job_id, site, output)

    _run(tell())


async def _print_watch(watch: Watch, output: _Output) -> None:
    async for item, body in watch.with_bodies():
        match item:
            case Boundary():
                continue
            case Missed() | Unreadable():
                _say(str(item))
            case _:
                output.put(item, body or b"")


async def _print_history(client: Client, job_id: str, site: str | None, output: _Output) -> None:
    async for item in client.history_with_bodies(job_id, sites=site):
        output.put(item.event, item.body)


class _Output:
    """Lines on stdout, each written through at once."""

    def __init__(self, *, as_json: bool, with_date: bool = False) -> None:
        self._as_json = as_json
        self._with_date = with_date
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._arrow = "→" if self._console.encoding.startswith("utf") else ">"

    def put(self, event: AnyEvent, body: bytes) -> None:
        if self._as_json:
            sys.stdout.buffer.write(body + b"\n")
            sys.stdout.buffer.flush()
        else:
            line = render(event, with_date=self._with_date, arrow=self._arrow)
            self._console.print(line)
            self._console.file.flush()


class _StateTeller:
    """Says once that the connection is lost, and once that it is back."""

    def __init__(self) -> None:
        self._lost = False

    def __call__(self, state: ConnectionState) -> None:
        if state is ConnectionState.RECONNECTING:
            self._lost = True
            _say("connection lost, waiting for it to come back; nothing will be missing")
        elif state is ConnectionState.CONNECTED and self._lost:
            self._lost = False
            _say("connected again")


def _start(*, from_start: bool, since_time: str | None, last_state: bool) -> Start | None:
    if sum((from_start, since_time is not None, last_state)) > 1:
        raise UsageError("--from-start, --since and --last exclude one another")
    if since_time is not None:
        return since(_parse_time(since_time))
    if from_start:
        return beginning()
    return last() if last_state else None


def _parse_time(text: str) -> datetime:
    if match := _DURATION.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        # A time without zone is this machine's local time.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = f"--since: not a time: {text!r} (expected 2026-11-22T14:05, or 90s, 30m, 2h, 1d)"
        raise UsageError(msg) from error


def _run(work: Coroutine[None, None, None]) -> None:
    try:
        asyncio.run(work)
    except PbscastError as error:
        _say(str(error))
        raise typer.Exit(_exit_status(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read us has had enough; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def _exit_status(error: PbscastError) -> int:
    return next(status for kind, status in EXIT_STATUS if isinstance(error, kind))


def _say(text: str) -> None:
    print(f"pbscast: {text}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the user's


def main() -> None:
    """Entry point of ``pbscast``."""
    app()
