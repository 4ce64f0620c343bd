"""Why the log may lack an event: the gaps that it tells of itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from pbscast.events import Gap, Kind
from pbscast_store.log import Log
from pbscast_store.records import Record

_PAGE = 1000


class Dark(NamedTuple):
    """A period of which the log may lack events."""

    begin: datetime | None
    """None where the log does not know."""
    end: datetime
    why: str


class Gaps:
    """The periods of a site of which the log may lack events."""

    def __init__(self, dark: Iterable[Dark], tolerance: timedelta) -> None:
        self._dark = list(dark)
        self._tolerance = tolerance

    @classmethod
    async def of(cls, log: Log, site: str, tolerance: timedelta) -> Gaps:
        """Read the gaps of a site; what was before its first event is one of them."""
        dark: list[Dark] = []
        first = await log.read(site, 0, _PAGE)
        if first:
            began = min(record.time for record in first)
            # Not a second of tolerance here: what was after the log began has to be there.
            end = began - tolerance - timedelta(seconds=1)
            dark.append(Dark(None, end, f"before the log began, {stamp(began)}"))
        page: list[Record] = []
        while page := await log.history(
            Kind.SITE, site, site=site, after={site: page[-1].position} if page else None
        ):
            dark += [_dark(event) for event in map(Record.decode, page) if isinstance(event, Gap)]
        return cls(dark, tolerance)

    def explain(self, moment: datetime) -> str | None:
        """Say why there may be no event of a moment; None if there is no reason."""
        for dark in self._dark:
            late = dark.begin is not None and moment < dark.begin - self._tolerance
            if not late and moment <= dark.end + self._tolerance:
                return dark.why
        return None


def _dark(gap: Gap) -> Dark:
    end = gap.end or gap.time
    since = stamp(gap.begin) if gap.begin else "an unknown time"
    return Dark(gap.begin, end, f"explained by a gap from {since} to {stamp(end)} ({gap.cause})")


def stamp(moment: datetime) -> str:
    """Return a moment as reports show it, in UTC."""
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
