"""``pbscast at`` and ``pbscast diff``: how jobs stood at a moment, what two moments differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pbscast.cli.gathering import counted
from pbscast.cli.lines import put_object
from pbscast.cli.options import (
    AsJson,
    Creds,
    Many,
    Name,
    OfKind,
    Owner,
    Project,
    Queue,
    Servers,
    Site,
    Stands,
    of_kind,
    parse_ids,
    parse_position,
    selected,
)
from pbscast.cli.running import run, say
from pbscast.client import connect
from pbscast.errors import NotFoundError, UsageError
from pbscast.events import Kind
from pbscast.ids import split_subjob
from pbscast.requests import AtRequest, DifferenceRequest
from pbscast.selection import request
from pbscast.terminal.moments import put_difference, put_in_full, put_standings
from pbscast.terminal.paper import Paper
from pbscast.times import EXPECTED, check_order, parse_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from pbscast.client import Client
    from pbscast.lives import Difference, Life, Standing


def at_command(  # noqa: PLR0913 - one parameter for each option of the command
    when: Annotated[
        Many, typer.Argument(metavar="TIME [JOBID]", help=f"{EXPECTED}; then 19.sitea …")
    ] = None,
    *,
    position: Annotated[
        Many, typer.Option(metavar="SITE:N", help="Instead of TIME: after this event of the log.")
    ] = None,
    kind: OfKind = Kind.JOB,
    site: Site = None,
    owner: Owner = None,
    queue: Queue = None,
    project: Project = None,
    name: Name = None,
    state: Stands = None,
    as_json: AsJson = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """Tell how jobs stood at a moment: one in full, or a table of all that lived then.

    Filters go by where a job stood then. With --kind nodes, queues, reservations …
    """
    filters = selected(
        sites=site, owners=owner, queues=queue, projects=project, names=name, states=state
    )

    selection = filters | of_kind(kind)

    async def work() -> None:
        words = list(when or ())
        moment = _positions(position) if position else _time(words, "TIME")
        ids = parse_ids(words, kind)
        request(AtRequest, ids or None, selection, moment=moment)
        async with connect(servers, creds) as client:
            standings = client.at(moment, ids or None, attributes=as_json or bool(ids), **selection)
            missing = _Missing(ids)
            if as_json:
                async for standing in missing.without(standings):
                    put_object(standing)
            else:
                await _print_standings(missing.without(standings), ids)
            if not filters:
                await missing.explain(client, kind)

    run(work())


def diff_command(  # noqa: PLR0913 - one parameter for each option of the command
    when: Annotated[
        Many, typer.Argument(metavar="TIME1 TIME2 [JOBID]", help=f"Each {EXPECTED}.")
    ] = None,
    *,
    position: Annotated[
        Many, typer.Option(metavar="SITE:N:M", help="Instead of times: two places in the log.")
    ] = None,
    kind: OfKind = Kind.JOB,
    site: Site = None,
    owner: Owner = None,
    queue: Queue = None,
    project: Project = None,
    name: Name = None,
    state: Stands = None,
    as_json: AsJson = False,
    servers: Servers = None,
    creds: Creds = None,
) -> None:
    """Tell what two moments differ in: + appeared, - ended, * both, ~ changed.

    Filters go by where a job stood at either moment.
    """
    selection = of_kind(kind) | selected(
        sites=site, owners=owner, queues=queue, projects=project, names=name, states=state
    )

    async def work() -> None:
        words = list(when or ())
        begin: datetime | Mapping[str, int]
        end: datetime | Mapping[str, int]
        if position:
            begin, end = _ranges(position)
        else:
            begin, end = _times(words)
        ids = parse_ids(words, kind)
        request(DifferenceRequest, ids or None, selection, begin=begin, end=end)
        async with connect(servers, creds) as client:
            differences = client.difference(begin, end, ids or None, **selection)
            if as_json:
                async for difference in differences:
                    put_object(difference)
            else:
                await _print_differences(differences, ids)

    run(work())


class _Missing:
    """Those of the jobs asked for that did not exist at a moment."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = dict.fromkeys(ids)

    async def without(self, standings: AsyncIterator[Standing]) -> AsyncIterator[Standing]:
        """Pass standings on; an array is not missing if one of its subjobs is told."""
        async for standing in standings:
            for told in (standing.id, split_subjob(standing.id)[0]):
                self._ids.pop(told, None)
            yield standing

    async def explain(self, client: Client, kind: Kind) -> None:
        """Raise NotFoundError, which says when they came, if there are any."""
        if self._ids:
            ids = list(self._ids)
            lives = [life async for life in client.jobs(ids, kind=kind, newest_first=False)]
            raise NotFoundError("; ".join(_when_it_came(job_id, lives) for job_id in ids))


def _when_it_came(job_id: str, lives: list[Life]) -> str:
    for life in lives:
        if job_id in {life.id, split_subjob(life.id)[0]}:
            return (
                f"{job_id} did not exist then: {life.site} has it from"
                f" {life.began.astimezone():%Y-%m-%d %H:%M:%S%z} on"
            )
    return f"{job_id} did not exist then"


async def _print_standings(standings: AsyncIterator[Standing], ids: list[str]) -> None:
    paper, rows = Paper(), []
    async for standing in counted(standings, "objects"):
        if standing.id in ids:
            put_in_full(standing, paper)
        else:
            rows.append(standing)
    if rows:
        put_standings(rows, paper)
    elif not ids:
        say("nothing that matches lived then")


async def _print_differences(differences: AsyncIterator[Difference], ids: list[str]) -> None:
    paper, count = Paper(), 0
    async for difference in differences:
        count += 1
        put_difference(difference, paper, in_full=difference.after.id in ids)
    if not count:
        say("nothing that matches differs")


def _time(words: list[str], which: str) -> datetime:
    if not words:
        raise UsageError(f"{which} is missing: {EXPECTED}")
    return parse_time(words.pop(0), which)


def _times(words: list[str]) -> tuple[datetime, datetime]:
    begin, end = _time(words, "TIME1"), _time(words, "TIME2")
    check_order(begin, end, "TIME1", "TIME2")
    return begin, end


def _positions(texts: list[str]) -> dict[str, int]:
    return dict(map(parse_position, texts))


def _ranges(texts: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    begins, ends = {}, {}
    for text in texts:
        place, end = parse_position(text)
        site, begin = parse_position(place)
        if end < begin:
            raise UsageError(f"--position: {text!r} goes back: {end} is before {begin}")
        begins[site], ends[site] = begin, end
    return begins, ends
