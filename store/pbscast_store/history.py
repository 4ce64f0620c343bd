"""Putting the histories that several sites hold of one object into one order. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import groupby

from pbscast_store.queries import Place


def merge(places: Iterable[Place], limit: int, max_bytes: int) -> list[Place]:
    """The first of the places (given by site, then position), within the limits but at least one.

    A site's events keep the order of their positions. Between sites the time decides, so a job
    that moved is one story as far as the clocks of the datastores agree.
    """
    by_site = [list(group) for _, group in groupby(places, key=lambda place: place.site)]
    page: list[Place] = []
    used = 0
    for place in heapq.merge(*by_site, key=lambda place: (place.time, place.site)):
        used += place.bytes
        if page and (len(page) == limit or used > max_bytes):
            break
        page.append(place)
    return page
