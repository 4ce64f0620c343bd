"""Whether the log can say how things were at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from pbscast import wire
from pbscast.errors import NotFoundError, UsageError
from pbscast_store.bounds import logged_since
from pbscast_store.records import Record
from pbscast_store.search import Scope, check_positions
from pbscast_store.source import EventSource
from pbscast_store.standings import Moment

_SKEW: Final = timedelta(minutes=1)
"""By how much the asker's clock may be ahead of ours."""


async def at_each_site(
    source: EventSource, scope: Scope, moment: datetime | Mapping[str, int]
) -> dict[str, Moment]:
    """The moment at each site that is asked about.

    Raises UsageError for a time in the future and for a position beyond a site's log; NotFoundError
    for a time before the log of every site, and for a site that is not asked about or not known.
    """
    if isinstance(moment, datetime):
        await _check_time(source, scope, moment)
        return {site.name: moment for site in scope.sites}
    check_positions(scope, moment)
    return dict(moment)


async def position_before(
    source: EventSource, site: str, first: int, last: int, moment: datetime
) -> int:
    """Of two positions and those between the one after which events of this time and later stand.

    Times grow with positions, or nearly so.
    """
    low, high = min(first, last), last
    while low < high:
        middle = (low + high) // 2
        page = await source.read(site, middle, 1, 1)
        if page and page[0].time >= moment:
            high = middle
        else:
            low = middle + 1
    return low


class Readable(Protocol):
    """What `Log` has, and whatever reads like it."""

    async def read(self, site: str, after: int, limit: int) -> Sequence[Record]:
        """As `Log.read`."""


async def position_logged_before(log: Readable, site: str, last: int, moment: datetime) -> int:
    """A position up to `last` after which all events of this time and later stand.

    Unlike times `logged` never goes back, and an event is logged after it happened, by clocks that
    differ by a day at most: so there may be as much as a day of earlier events behind it.
    """
    since = logged_since(moment)
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        page = await log.read(site, middle, 1)
        if not page or page[0].logged >= since:
            high = middle
        else:
            low = middle + 1
    return low


async def _check_time(source: EventSource, scope: Scope, moment: datetime) -> None:
    if moment > datetime.now(UTC) + _SKEW:
        raise UsageError(f"{wire.format_time(moment)} lies in the future")
    begin: datetime | None = None
    for site in scope.sites:
        began = await source.began(site.name)
        if began is None:
            continue
        if began <= moment:
            return
        begin = began if begin is None else min(begin, began)
    if begin is not None:
        raise NotFoundError(
            f"the log begins at {wire.format_time(begin)}:"
            f" nothing is known of {wire.format_time(moment)}"
        )
