"""``pbscast watch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pbscast.cli.lines import EventLines
from pbscast.cli.options import AsMessages, Creds, Kinds, Many, Owner, Servers, Site
from pbscast.cli.running import run, say
from pbscast.cli.unknown import telling_unknown
from pbscast.client import connect
from pbscast.connection import ConnectionState
from pbscast.errors import UsageError
from pbscast.events import EventName
from pbscast.notices import Boundary, Missed, Unreadable
from pbscast.options import WatchOptions, plan_watch
from pbscast.starts import Start, beginning, last, since
from pbscast.states import JobState
from pbscast.times import parse_time

if TYPE_CHECKING:
    from pbscast.watch import Watch


def watch_command(  # noqa: PLR0913 - one parameter for each option of the command
    job_ids: Annotated[
        Many, typer.Argument(metavar="JOBID", help="19.sitea, 19, 6[].sitea …")
    ] = None,
    *,
    site: Site = None,
    owner: Owner = None,
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
    kind: Kinds = None,
    as_json: AsMessages = False,
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
    lines = EventLines(as_json=as_json)

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
            connect(servers, creds, on_state=StateTeller()) as client,
            client.watch(job_ids or None, **wanted) as watch,
            telling_unknown(client, job_ids or (), site or ()),
        ):
            await _print_watch(watch, lines)

    run(follow())


async def _print_watch(watch: Watch, lines: EventLines) -> None:
    async for item, body in watch.with_bodies():
        match item:
            case Boundary():
                continue
            case Missed() | Unreadable():
                say(str(item))
            case _:
                lines.put(item, body or b"")


class StateTeller:
    """Says once that the connection is lost, and once that it is back."""

    def __init__(self) -> None:
        self._lost = False

    def __call__(self, state: ConnectionState) -> None:
        if state is ConnectionState.RECONNECTING:
            self._lost = True
            say("connection lost, waiting for it to come back; nothing will be missing")
        elif state is ConnectionState.CONNECTED and self._lost:
            self._lost = False
            say("connected again")


def _start(*, from_start: bool, since_time: str | None, last_state: bool) -> Start | None:
    if sum((from_start, since_time is not None, last_state)) > 1:
        raise UsageError("--from-start, --since and --last exclude one another")
    if since_time is not None:
        return since(parse_time(since_time, "--since"))
    if from_start:
        return beginning()
    return last() if last_state else None
