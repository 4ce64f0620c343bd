"""Where events are read from: PostgreSQL's table, or whatever keeps the same promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import asyncpg

from pbscast_store import queries
from pbscast_store.bounds import EVER, NEVER, Bounds, logged_since
from pbscast_store.queries import AnyConnection, LoggedSpan
from pbscast_store.records import Record
from pbscast_store.statements import query

END: Final = 2**63 - 1
"""Beyond every position."""


@dataclass(frozen=True, slots=True)
class Window:
    """Events after one position and before another, of a range of time, in one of two orders."""

    after: int = 0
    before: int = END
    begin: datetime | None = None
    """Of the events' times, included; None: no bound."""
    end: datetime | None = None
    """Not included."""
    newest_first: bool = False

    @property
    def logged_since(self) -> datetime:
        """From when on its events were logged: after they happened, as far as clocks agree."""
        return NEVER if self.begin is None else logged_since(self.begin)

    @property
    def order(self) -> str:
        return "newest" if self.newest_first else "oldest"

    def beyond(self, position: int) -> Window:
        """What is left of it once it was searched, in its order, up to a position."""
        if self.newest_first:
            return replace(self, before=min(self.before, position))
        return replace(self, after=max(self.after, position))


class Place(NamedTuple):
    """Where an event stands, what it is about, and how large it is."""

    site: str
    position: int
    time: datetime
    logged: datetime
    bytes: int
    id: str
    incarnation: int


class LifeSpan(NamedTuple):
    """A life of an object at a site: between which positions, both its own, its events stand."""

    id: str
    incarnation: int
    first: int
    last: int


class LastEvent(NamedTuple):
    """The last event of a life up to some moment."""

    life: int
    """Index of the life among those that were asked for."""
    position: int
    revision: int
    bytes: int
    """Of the payload."""
    beginning: str
    """The payload's first characters."""
    finalized: bool
    """Whether the finalize is among the life's events up to there; told only of positions."""


class EventSource(Protocol):
    """Every event of the log. Raises UnavailableError when it cannot be read.

    Pages hold the first events of their window, in its order; one that is not full is the last.
    """

    async def read(self, site: str, after: int, limit: int, max_bytes: int) -> list[Record]:
        """The events after a position, oldest first; no more bytes of payload, but one event."""

    async def began(self, site: str) -> datetime | None:
        """The time of the site's first event; None: it has none."""

    async def life_places(
        self, site: str, kind: str, lives: Sequence[LifeSpan], window: Window, limit: int
    ) -> list[Place]:
        """Where the events of lives stand."""

    async def scanned_places(self, site: str, kind: str, window: Window, limit: int) -> list[Place]:
        """Where the events of all objects of a kind stand."""

    async def events_at(self, places: Sequence[Place]) -> list[Record]:
        """The events at places, in the order of the places."""

    async def last_events(
        self,
        site: str,
        kind: str,
        lives: Sequence[LifeSpan],
        moment: datetime | int,
        characters: int,
    ) -> list[LastEvent]:
        """Of each life its last event whose time, or position, is not beyond the moment.

        Lives that had none are left out. `characters` of the payload are told at most.
        """

    def events_of(
        self, site: str, kind: str, lives: Sequence[LifeSpan]
    ) -> AsyncGenerator[Record, None]:
        """All events of lives within their spans, life by life in the order given; streamed.

        One connection is used as long as it lasts: close the generator if you leave it early.
        """


Seen = Callable[[AnyConnection], Awaitable[None]]
"""What is done over a connection once it is settled what a stream will see."""


class EventTable:
    """The events that PostgreSQL has."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._bounds = Bounds(pool)

    async def read(self, site: str, after: int, limit: int, max_bytes: int) -> list[Record]:
        [since], [until] = await self._bounds.logged(site, [after + 1], [after + limit])
        page = await self._read(site, after, limit, max_bytes, (since, until))
        if not page and until != EVER:  # what was there has been archived
            page = await self._read(site, after, limit, max_bytes, (since, EVER))
        return page

    async def _read(
        self, site: str, after: int, limit: int, max_bytes: int, logged: LoggedSpan
    ) -> list[Record]:
        return await queries.read_events(self._pool, site, after, limit, max_bytes, logged)

    async def began(self, site: str) -> datetime | None:
        page = await self.read(site, 0, 1, 1)
        return page[0].time if page else None

    async def life_places(
        self, site: str, kind: str, lives: Sequence[LifeSpan], window: Window, limit: int
    ) -> list[Place]:
        rows = await self._pool.fetch(
            query(f"life_places_{window.order}"),
            kind,
            site,
            *_columns(lives),
            window.after,
            window.before,
            window.begin,
            window.end,
            limit,
            *await self._logged(site, lives, window),
        )
        return [Place(**row) for row in rows]

    async def scanned_places(self, site: str, kind: str, window: Window, limit: int) -> list[Place]:
        [since], [until] = await self._bounds.logged(site, [window.after], [window.before])
        since = max(since, window.logged_since)
        rows = await self._pool.fetch(
            query(f"scanned_places_{window.order}"),
            kind,
            site,
            window.after,
            window.before,
            window.begin,
            window.end,
            limit,
            since,
            until,
        )
        return [Place(**row) for row in rows]

    async def events_at(self, places: Sequence[Place]) -> list[Record]:
        rows = await self._pool.fetch(
            query("events_at"),
            [place.site for place in places],
            [place.position for place in places],
            [place.logged for place in places],
        )
        return [Record(**row) for row in rows]

    async def last_events(
        self,
        site: str,
        kind: str,
        lives: Sequence[LifeSpan],
        moment: datetime | int,
        characters: int,
    ) -> list[LastEvent]:
        time = moment if isinstance(moment, datetime) else None
        position = None if isinstance(moment, datetime) else moment
        rows = await self._pool.fetch(
            query("last_events"),
            site,
            kind,
            *_columns(lives),
            time,
            position,
            characters,
            *await self._logged(site, lives),
        )
        return [
            LastEvent(life=row["number"] - 1, **{name: row[name] for name in _TOLD}) for row in rows
        ]

    async def events_of(
        self, site: str, kind: str, lives: Sequence[LifeSpan], seen: Seen | None = None
    ) -> AsyncGenerator[Record, None]:
        """As the source's; `seen` is done before the first event, were there none.

        It must ask nothing over another connection: when readers have all connections, and each
        waits for one more, none goes on.
        """
        logged = await self._logged(site, lives)
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            text, asked = query("events_of_lives"), (site, kind, *_columns(lives), *logged)
            rows = aiter(connection.cursor(text, *asked, prefetch=_PREFETCH))
            row = await anext(rows, None)
            if seen is not None:
                await seen(connection)
            while row is not None:
                yield Record(**row)
                row = await anext(rows, None)

    async def _logged(
        self, site: str, lives: Sequence[LifeSpan], window: Window | None = None
    ) -> tuple[list[datetime], list[datetime]]:
        firsts, lasts = [life.first for life in lives], [life.last for life in lives]
        since, until = await self._bounds.logged(site, firsts, lasts)
        if window is not None:
            since = [max(moment, window.logged_since) for moment in since]
        return since, until


_TOLD: Final = ("position", "revision", "bytes", "beginning", "finalized")
_PREFETCH: Final = 200


def _columns(lives: Sequence[LifeSpan]) -> list[list[object]]:
    return [[life[column] for life in lives] for column in range(len(LifeSpan._fields))]
