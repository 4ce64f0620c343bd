"""How the jobs that a subscription names stand at all sites, by the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from pbscast.events import Finalize, Kind, Reason, Site
from pbscast.selection import MOST_VALUES, Selection
from pbscast_fanout.matching import Completion

if TYPE_CHECKING:
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.destinations import Destinations
    from pbscast_store.latest import LatestLife
    from pbscast_store.log import Log

_EVENTS: Final = 100


class Witness(NamedTuple):
    """A job that lives: while it does, the subscription is not complete."""

    site: str
    id: str


@dataclass(slots=True)
class Survey:
    """What was found."""

    positions: dict[str, int] = field(default_factory=dict)
    """Of each site that the subscription covers: nothing later was looked at."""
    open: int = 0
    """How many of the ids have not ended; of those that were looked at if there is a witness."""
    witness: Witness | None = None
    """The first that was found at one of the worker's sites, upon which the search ended."""
    left: datetime | None = None
    """When the last of them went to a server of which the log knows nothing; None: none did."""


def is_followed(definition: Definition) -> bool:
    """Whether it ends when all of its ids have, and all of them are known."""
    request = definition.request
    return bool(request.ids) and Kind.JOB in request.kinds and not request.more


async def survey(
    log: Log,
    destinations: Destinations,
    definition: Definition,
    is_ours: Callable[[str], bool] = lambda _: False,
) -> Survey:
    """Look at all ids, the last ones first: who runs jobs in turn waits for these.

    Each id is looked at at one moment, at all sites. Raises what the log raises.
    """
    ids, confined = definition.request.ids, definition.request.sites
    known = [Site(row.name) for row in await log.sites()]
    sites = tuple(site for site in known if definition.covers(site))
    found = Survey(open=len(ids) if not sites else 0)
    for end in range(len(ids) if sites else 0, 0, -MOST_VALUES):
        part = ids[max(0, end - MOST_VALUES) : end]
        latest = await log.latest_lives(part, sites)
        lives = [life for life in latest.lives if _may_see(definition, life)]
        for site, position in latest.positions.items():
            found.positions[site] = max(position, found.positions.get(site, 0))
        ours = (life for life in lives if life.ended is None and is_ours(life.site))
        if (youngest := max(ours, key=_began, default=None)) is not None:
            found.open += 1
            found.witness = Witness(youngest.site, youngest.id)
            return found
        completion = Completion(part, sites=confined)
        for life in lives:
            was_moved = life.reason == Reason.MOVED
            completion.note_life(
                life.site, life.id, has_ended=life.ended is not None, was_moved=was_moved
            )
        if not completion.is_complete:
            trail = _Trail(log, destinations, sites)
            completion.give_up(await trail.gone(completion.open_ids(), lives))
            if trail.left is not None:
                found.left = max(trail.left, found.left or trail.left)
        found.open += completion.pending
    return found


def _may_see(definition: Definition, life: LatestLife) -> bool:
    only = definition.only_at(life.site)
    return only is None or life.owner == only


def _began(life: LatestLife) -> datetime:
    return life.began


class Move(NamedTuple):
    """The end of a job's latest life at a site."""

    site: str
    began: datetime
    ended: datetime
    target: str | None
    """Where it went; None: where the subscription is not told of it."""


def left_for_good(moves: Sequence[Move]) -> datetime | None:
    """Return when a job that lives nowhere left all sites; None: it may be on its way to one.

    It has arrived where it went if a life there began after the one that it left: a job stays
    longer at a site than clocks differ. Who has arrived everywhere and lives nowhere went on.
    """
    began = {move.site: move.began for move in moves}
    for move in moves:
        if move.target is not None and not (
            move.target in began and began[move.target] > move.began
        ):
            return None
    return max((move.ended for move in moves if move.target is None), default=None)


class _Trail:
    """Where jobs went that were moved and live nowhere."""

    def __init__(self, log: Log, destinations: Destinations, sites: Sequence[str]) -> None:
        self.left: datetime | None = None
        self._log = log
        self._destinations = destinations
        self._sites = sites

    async def gone(self, open_ids: Iterable[str], known: Sequence[LatestLife]) -> list[str]:
        """Return those of the ids that went where the subscription is not told of them."""
        lives: dict[str, list[LatestLife]] = defaultdict(list)
        for life in known:
            lives[life.id].append(life)
        gone = []
        for job_id in open_ids:
            left = await self._left(lives.get(job_id, []))
            if left is not None:
                gone.append(job_id)
                self.left = max(left, self.left or left)
        return gone

    async def _left(self, lives: Sequence[LatestLife]) -> datetime | None:
        moves = []
        for life in lives:
            if life.ended is None or life.reason != Reason.MOVED:
                return None
            destination = await self._destination(life)
            if destination is None:
                return None
            target = await self._destinations.site_of(destination)
            covered = target if target in self._sites else None
            moves.append(Move(life.site, life.began, life.ended, covered))
        return left_for_good(moves)

    async def _destination(self, life: LatestLife) -> str | None:
        last = await self._log.read(life.site, life.position - 1, 1)
        event = last[0].decode() if last else None
        if isinstance(event, Finalize):
            return event.destination
        selection = Selection(ids=(life.id,), sites=(Site(life.site),))
        page = await self._log.events(selection, newest_first=True, limit=_EVENTS)
        for event in (record.decode() for record in page.records):
            if isinstance(event, Finalize) and event.incarnation == life.incarnation:
                return event.destination
        return None
