"""``pbscast subscribe`` and ``pbscast subscriptions``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from pbscast.cli.lines import put_bytes, put_object
from pbscast.cli.options import (
    AsJson,
    AsMessages,
    Creds,
    JobIds,
    Kinds,
    Many,
    Name,
    Owner,
    Project,
    Queue,
    Servers,
    Stands,
)
from pbscast.cli.options import Site as Sites
from pbscast.cli.running import run, say
from pbscast.cli.unknown import telling_unknown
from pbscast.cli.watch import StateTeller
from pbscast.client import connect
from pbscast.errors import NotFoundError, UsageError
from pbscast.events import EventName, Kind
from pbscast.lives import Standing
from pbscast.notices import Boundary, Missed, Unreadable
from pbscast.render import render_matched, render_standing
from pbscast.subscribing import check_key, subscribe_request
from pbscast.subscriptions import Delivery
from pbscast.terminal.paper import Paper
from pbscast.terminal.tables import Cell, Column, put_table
from pbscast.times import parse_duration
from pbscast.told import Begin, Complete, Matched

if TYPE_CHECKING:
    from pbscast.client import Client
    from pbscast.subscribing import SubscribeOptions
    from pbscast.subscription import Subscription
    from pbscast.subscriptions import Registered
    from pbscast.told import Item

_TOLD: Final = [event.value for event in EventName if event is not EventName.PURGE]

_COLUMNS: Final = (
    Column("subscription"),
    Column("expires"),
    Column("delivery", 2),
    Column("shared", 1),
    Column("ids"),
    Column("pending"),
)


def subscribe_command(  # noqa: PLR0913 - one parameter for each option of the command
    job_ids: JobIds = None,
    *,
    ids_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="More JOBIDs, between blanks; - reads stdin."),
    ] = None,
    site: Sites = None,
    owner: Owner = None,
    queue: Queue = None,
    project: Project = None,
    name: Name = None,
    state: Stands = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION", help="""'Resource_List.ncpus >= 64 and state == "R"'."""
        ),
    ] = None,
    kind: Kinds = None,
    event: Annotated[
        Many, typer.Option(metavar="|".join(_TOLD), help="Only these events; may be repeated.")
    ] = None,
    attribute: Annotated[
        Many, typer.Option(help="Only events that touch one of these, and only these in them.")
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Lives on for 90s, 30m, 2h, 1d unread; default 10m."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Live on after the end, for --attach.")
    ] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="Each message to one of those that --attach.")
    ] = False,
    at_most_once: Annotated[
        bool, typer.Option("--at-most-once", help="Keep nothing for a reader that is away.")
    ] = False,
    attach: Annotated[
        str | None, typer.Option(metavar="SUBSCRIPTION", help="Go on with one that is there.")
    ] = None,
    as_json: AsMessages = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """Print how jobs stand, then what happens to them, until every JOBID has ended or Ctrl-C.

    The service applies the filter, so it can say more than that of watch.
    """
    given: dict[str, Any] = {
        "sites": site,
        "owners": owner,
        "queues": queue,
        "projects": project,
        "names": name,
        "states": state,
        "where": where,
        "kinds": kind,
        "events": event,
        "attributes": attribute,
        "shared": shared,
        "delivery": Delivery.AT_MOST_ONCE if at_most_once else None,
        "lease": lease,
    }

    async def work() -> None:
        options = _options(given)
        if attach is not None and (job_ids or ids_from or keep or options):
            raise UsageError("--attach goes on with what is there: give nothing else with it")
        ids = [*(job_ids or ()), *_read_ids(ids_from)]
        subscribe_request(ids or None, options)
        if attach is not None:
            check_key(attach)
        on_state = None if at_most_once else StateTeller()
        async with connect(servers, creds, on_state=on_state) as client:
            if attach is None:
                subscription = client.subscribe(ids or None, keep=keep, **options)
            else:
                subscription = client.attach(attach)
            jobs = ids if not kind or Kind.JOB in kind else ()
            async with subscription, telling_unknown(client, jobs, site or ()):
                if keep or shared:
                    say(f"subscription {subscription.id}")
                await _print(subscription, _Lines(as_json=as_json))

    run(work())


def subscriptions_command(
    *,
    end: Annotated[
        Many, typer.Option(metavar="SUBSCRIPTION", help="End this one; may be repeated.")
    ] = None,
    as_json: AsJson = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """List the registered subscriptions, or end some."""

    async def work() -> None:
        keys = [check_key(key) for key in end or ()]
        async with connect(servers, creds) as client:
            unknown = [key for key in keys if not await client.unsubscribe(key)]
            if unknown:
                raise NotFoundError(f"there is no subscription {', '.join(unknown)}")
            if not keys:
                await _list(client, as_json=as_json)

    run(work())


def _read_ids(source: Path | None) -> list[str]:
    if source is None:
        return []
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--ids-from: {source} cannot be read: {error}") from error
    if not (ids := text.split()):
        raise UsageError(f"--ids-from: there is no JOBID in {source}")
    return ids


def _options(given: dict[str, Any]) -> SubscribeOptions:
    options = {name: value for name, value in given.items() if value}
    if "lease" in options:
        options["lease"] = parse_duration(options["lease"], "--lease")
    return cast("SubscribeOptions", options)


async def _print(subscription: Subscription, lines: _Lines) -> None:
    async for item, body in subscription.with_bodies():
        lines.put(item, body)


class _Lines:
    """For people, or as JSON to the byte as it is on NATS."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._paper = Paper()

    def put(self, item: Item, body: bytes | None) -> None:
        """Print one item; what is no answer goes to stderr."""
        if isinstance(item, Missed | Unreadable):
            say(str(item))
        elif self._as_json:
            put_bytes(body or b"")
        else:
            self._put_text(item)

    def _put_text(self, item: Begin | Standing | Boundary | Matched | Complete) -> None:
        match item:
            case Standing():
                self._paper.put(render_standing(item))
            case Matched():
                self._paper.put(render_matched(item, arrow=self._paper.glyphs.arrow))
            case Complete():
                say("every job has ended")
            case Begin() | Boundary():
                pass


async def _list(client: Client, *, as_json: bool) -> None:
    if as_json:
        async for item in client.subscriptions():
            put_object(item)
        return
    rows = [_row(item) async for item in client.subscriptions()]
    if rows:
        put_table(_COLUMNS, rows, Paper())
    else:
        say("there is no subscription")


def _row(item: Registered) -> list[Cell]:
    return [
        Cell(item.id, "bold"),
        Cell(f"{item.expires.astimezone():%Y-%m-%d %H:%M:%S}"),
        Cell(item.delivery),
        Cell("yes" if item.shared else "no"),
        Cell(str(item.ids or "-")),
        Cell(str(item.pending) if item.ids else "-"),
    ]
