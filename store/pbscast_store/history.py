"""Putting the histories that several sites hold into one order. Pure."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

from pbscast_store.source import Place


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a search of one site has found, and how far it went."""

    places: Sequence[Place]
    """In the order of the search."""
    searched: int
    """The position up to which, in that order, all is found."""
    ended: bool
    """Whether nothing lies beyond."""


class Moved(NamedTuple):
    """A life of a job that was at several sites."""

    site: str
    id: str
    first_position: int
    last_position: int
    began: datetime
    ended: datetime | None
    reason: str | None


class Arrival(NamedTuple):
    """A job's life at a site to which it was moved."""

    first_position: int
    last_position: int
    left: datetime
    """When it was finalized at the site before."""


Arrivals = Mapping[tuple[str, str], Sequence[Arrival]]
"""By site and id."""

_Key = tuple[datetime, bool, str]
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Merged:
    """A page, and how far it went."""

    places: list[Place]
    positions: dict[str, int]
    """Of each site: up to there, in the order of the search, all is told."""
    more: bool
    """Whether anything may lie beyond."""


def merge(
    stretches: Mapping[str, Stretch],
    starts: Mapping[str, int],
    limit: int,
    max_bytes: int,
    arrivals: Arrivals,
    *,
    newest_first: bool = False,
) -> Merged:
    """The first of the places, within the limits but at least one if all sites could be searched.

    A site's events keep the order of their positions. Between sites the time decides, so a job
    that moved is one story as far as the clocks of the datastores agree; and what it did after the
    move comes after its finalize at the site it left, whatever the clocks say. A page ends where a
    site has not been searched further.
    """
    page: list[Place] = []
    positions = dict(starts)
    used = 0
    for site, place in _in_order(stretches, arrivals, newest_first=newest_first):
        if place is None:
            break
        used += place.bytes
        if page and (len(page) == limit or used > max_bytes):
            break
        page.append(place)
        positions[site] = place.position
    told = Counter(place.site for place in page)
    more = False
    for site, stretch in stretches.items():
        is_told = told[site] == len(stretch.places)
        if is_told:
            positions[site] = stretch.searched
        more |= not (is_told and stretch.ended)
    return Merged(page, positions, more)


def find_arrivals(lives: Iterable[Moved]) -> Arrivals:
    """The lives that began at another site before, by the clocks, the job was finalized as moved.

    PBS finalizes a moved job once the other server has it, and clocks differ; where the new life
    began later, the times alone give the right order.
    """
    by_id: dict[str, list[Moved]] = defaultdict(list)
    for life in lives:
        by_id[life.id].append(life)
    arrivals: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
    for same in by_id.values():
        for leaving in same:
            if leaving.reason != "moved" or leaving.ended is None:
                continue
            for life in same:
                if life.site != leaving.site and leaving.began <= life.began <= leaving.ended:
                    arrival = Arrival(life.first_position, life.last_position, leaving.ended)
                    arrivals[life.site, life.id].append(arrival)
    return arrivals


def _in_order(
    stretches: Mapping[str, Stretch], arrivals: Arrivals, *, newest_first: bool
) -> Iterator[tuple[str, Place | None]]:
    """All places; None where a site would have to be searched further to know what comes next."""
    key = partial(_key, arrivals)
    first = (_LATEST if newest_first else _EARLIEST), newest_first, ""
    runs = (_run(site, stretch, key, first) for site, stretch in sorted(stretches.items()))
    for _, site, place in heapq.merge(*runs, key=lambda item: item[0], reverse=newest_first):
        yield site, place


def _run(
    site: str, stretch: Stretch, key: Callable[[Place], _Key], start: _Key
) -> Iterator[tuple[_Key, str, Place | None]]:
    last = start
    for place in stretch.places:
        last = key(place)
        yield last, site, place
    if not stretch.ended:
        yield last, site, None


def _key(arrivals: Arrivals, place: Place) -> _Key:
    for arrival in arrivals.get((place.site, place.id), ()):
        if arrival.first_position <= place.position <= arrival.last_position:
            return max((place.time, False, place.site), (arrival.left, True, place.site))
    return place.time, False, place.site
