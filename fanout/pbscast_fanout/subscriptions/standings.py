"""How objects stood, from the log: for those who join, and of objects that do."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from pbscast.events import Kind
from pbscast.ids import split_subjob
from pbscast.selection import MOST_VALUES, Selection
from pbscast.states import JobState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

    from pbscast.events import Site
    from pbscast.lives import Standing
    from pbscast.subscriptions import Filter
    from pbscast_fanout.subscriptions.composing import Arrival
    from pbscast_fanout.subscriptions.joining import Join
    from pbscast_store.log import Log

OBJECTS: Final = tuple(kind for kind in Kind if kind is not Kind.SITE)
_ABREAST: Final = 4
_JOB_STATES: Final = frozenset(JobState)

Spot = tuple[str, str, int]
"""Kind, id and position."""


async def living(
    log: Log, site: Site, position: int, *, attributes: bool
) -> AsyncIterator[list[Standing]]:
    """Give all objects that lived after an event, in parts. Raises what the log raises."""
    for kind in OBJECTS:
        selection = Selection(kind=kind, sites=(site,))
        async for page in _at(log, selection, site, position, attributes=attributes):
            yield page


async def joining(log: Log, site: Site, join: Join) -> AsyncIterator[list[Standing]]:
    """Give what may belong to a subscription at an errand's position: expressions are left out."""
    for selection in _selections(join, site):
        async for page in _at(log, selection, site, join.position, attributes=True):
            yield page


async def joining_together(
    log: Log, site: Site, joins: Sequence[Join]
) -> AsyncIterator[dict[Join, list[Standing]]]:
    """The same for several at one position that are about ids, few enough to be asked at once."""
    naming: dict[str, list[Join]] = defaultdict(list)
    for join in joins:
        for named in join.ids:
            naming[named].append(join)
    kinds = sorted({kind for join in joins for kind in join.request.kinds} & set(OBJECTS))
    for kind in kinds:
        selection = Selection(kind=kind, sites=(site,), ids=tuple(naming))
        async for page in _at(log, selection, site, joins[0].position, attributes=True):
            found: dict[Join, list[Standing]] = defaultdict(list)
            for standing in page:
                array = split_subjob(standing.id)[0]
                for join in {*naming.get(standing.id, ()), *naming.get(array, ())}:
                    found[join].append(standing)
            yield found


async def arrived(log: Log, site: Site, arrivals: Collection[Arrival]) -> Mapping[Spot, Standing]:
    """Return how each of them was left by its event. Raises what the log raises."""
    found: dict[Spot, Standing] = {}
    ids: dict[Kind, set[str]] = defaultdict(set)
    for arrival in arrivals:
        ids[arrival.kind].add(arrival.id)
    for kind, wanted in ids.items():
        async for standing in _now(log, site, kind, wanted):
            found[kind, standing.id, standing.position] = standing
    # Those of which something has been logged since are looked up one by one.
    missing = [item for item in arrivals if (item.kind, item.id, item.position) not in found]
    turns = asyncio.Semaphore(_ABREAST)

    async def look_up(arrival: Arrival) -> None:
        async with turns:
            standing = await _one(log, site, arrival)
        if standing is not None:
            found[arrival.kind, arrival.id, arrival.position] = standing

    # No task group: it would wrap what the log raises.
    await asyncio.gather(*map(look_up, missing))
    return found


async def _now(log: Log, site: Site, kind: Kind, ids: set[str]) -> AsyncIterator[Standing]:
    for chunk in _chunks(sorted(ids)):
        selection, missing, spot = Selection(kind=kind, ids=chunk, sites=(site,)), set(chunk), None
        while missing:
            page = await log.snapshot(selection, attributes=True, after=spot, known_only=True)
            for _, standing in page.rows:
                if standing.id in missing:
                    missing.discard(standing.id)
                    yield standing
            if (spot := page.next) is None:
                break


async def _one(log: Log, site: Site, arrival: Arrival) -> Standing | None:
    selection = Selection(kind=arrival.kind, ids=(arrival.id,), sites=(site,))
    async for page in _at(log, selection, site, arrival.position, attributes=True):
        for standing in page:
            if standing.id == arrival.id:  # An array's subjobs come with it.
                return standing
    return None


async def _at(
    log: Log, selection: Selection, site: Site, position: int, *, attributes: bool
) -> AsyncIterator[list[Standing]]:
    spot = None
    while position:
        page = await log.at(
            selection, {site: position}, attributes=attributes, after=spot, known_only=True
        )
        yield [standing for _, standing in page.rows]
        if (spot := page.next) is None:
            break


def _selections(join: Join, site: Site) -> Iterator[Selection]:
    criteria = join.request
    for kind in criteria.kinds:
        if kind is Kind.SITE:
            continue
        if join.ids:
            for chunk in _chunks(join.ids):
                yield Selection(kind=kind, sites=(site,), ids=chunk)
        elif not criteria.ids:
            for selection in _selection(criteria, kind, site):
                yield from _narrowed(selection, join.only)


def _narrowed(selection: Selection, only: str | None) -> Iterator[Selection]:
    """Of jobs only what may be told: others may be many."""
    if only is None or selection.kind is not Kind.JOB:
        yield selection
    elif not selection.owners or only in selection.owners:
        yield selection.model_copy(update={"owners": (only,)})


def _selection(criteria: Filter, kind: Kind, site: Site) -> Iterator[Selection]:
    """None at all where nothing of the kind can be meant."""
    states = criteria.states
    if kind is Kind.JOB:
        states = tuple(state for state in states if state in _JOB_STATES)
    if states or not criteria.states:
        yield Selection(
            kind=kind,
            sites=(site,),
            names=criteria.names,
            owners=criteria.owners,
            projects=criteria.projects,
            queues=criteria.queues,
            states=states,
        )


def _chunks(ids: list[str] | tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(ids), MOST_VALUES):
        yield tuple(ids[start : start + MOST_VALUES])
