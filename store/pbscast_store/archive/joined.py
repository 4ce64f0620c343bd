"""The whole log: what PostgreSQL has, and before it what is archived.

PostgreSQL is asked first. A partition is registered in the transaction that drops it, so what is
missing there is known to be archived when the archives are asked afterwards; what both have told is
taken from the archives.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pbscast.errors import DecodeError
from pbscast.events import EventName, Kind
from pbscast_store.archive.archives import Archives
from pbscast_store.archive.mentions import Mention
from pbscast_store.records import Record
from pbscast_store.source import EventTable, LastEvent, LifeSpan, Place, Window

_STREAMED_BYTES: Final = 16 * 2**20
"""Of payload, that `events_of` holds at once."""

_ATTEMPTS: Final = 3
"""To read an archive that is thinned meanwhile."""

_MICROSECOND: Final = timedelta(microseconds=1)

_Key = tuple[str, int]
"""Id and incarnation."""


class JoinedEvents:
    """An `EventSource` of the table and the archives; raises what both raise."""

    def __init__(self, table: EventTable, archives: Archives) -> None:
        self._table = table
        self._archives = archives

    async def read(self, site: str, after: int, limit: int, max_bytes: int) -> list[Record]:
        if after < self._archives.last(site):
            page = await self._archives.read(site, after, limit, max_bytes)
            if page:
                return page
        page = await self._table.read(site, after, limit, max_bytes)
        # Positions have no gaps: what is missing at the beginning has been archived.
        if not page or page[0].position > after + 1:
            await self._archives.look()
            page = await self._archives.read(site, after, limit, max_bytes) or page
        return page

    async def began(self, site: str) -> datetime | None:
        page = await self._table.read(site, 0, 1, 1)
        if not page or page[0].position > 1:
            await self._archives.look()
            earliest = self._archives.began(site)
            if earliest is not None:
                return earliest
        return page[0].time if page else None

    async def passed(self, site: str, moment: datetime) -> int:
        """A position up to which all events are earlier, as far as whole archives tell."""
        await self._archives.look()
        return self._archives.passed(site, moment)

    async def life_places(
        self, site: str, kind: str, lives: Sequence[LifeSpan], window: Window, limit: int
    ) -> list[Place]:
        new = await self._table.life_places(site, kind, lives, window, limit)
        await self._archives.look()
        narrow = self._archived_part(site, window)
        if narrow is None:
            return new
        async with aclosing(self._mentions(site, kind, lives, narrow)) as archives:
            old = [one.place(site) async for mentions in archives for one in mentions]
        return _joined(old, new, narrow, limit)

    async def scanned_places(self, site: str, kind: str, window: Window, limit: int) -> list[Place]:
        new = await self._table.scanned_places(site, kind, window, limit)
        await self._archives.look()
        narrow = self._archived_part(site, window)
        if narrow is None:
            return new
        old = await self._archives.scanned(site, kind, narrow, limit)
        return _joined(old, new, narrow, limit)

    async def events_at(self, places: Sequence[Place]) -> list[Record]:
        new = [one for one in places if one.position > self._archives.last(one.site)]
        found = {
            (record.site, record.position): record
            for record in (await self._table.events_at(new) if new else [])
        }
        missing: dict[str, list[int]] = {}
        for one in places:
            if (one.site, one.position) not in found:
                missing.setdefault(one.site, []).append(one.position)
        if missing:
            await self._archives.look()
        for site, positions in missing.items():
            records = await self._archives.at(site, positions)
            found.update(((site, position), record) for position, record in records.items())
        keys = ((one.site, one.position) for one in places)
        return [found[key] for key in keys if key in found]

    async def last_events(
        self,
        site: str,
        kind: str,
        lives: Sequence[LifeSpan],
        moment: datetime | int,
        characters: int,
    ) -> list[LastEvent]:
        found = {
            last.life: last
            for last in await self._table.last_events(site, kind, lives, moment, characters)
        }
        await self._archives.look()
        last = self._archives.last(site)
        # An event in the table is later than all archived ones; only its finalize may be older.
        asked = {
            index: life
            for index, life in enumerate(lives)
            if life.first <= last
            and (index not in found or (isinstance(moment, int) and not found[index].finalized))
        }
        old, records = await self._told_archived(site, kind, asked, moment, found)
        for index, (one, finalized) in old.items():
            if index not in found:
                beginning = records[one.position].payload[:characters]
                found[index] = LastEvent(
                    index, one.position, one.revision, one.bytes, beginning, finalized=False
                )
            is_over = finalized or found[index].finalized
            found[index] = found[index]._replace(finalized=is_over)
        return [found[index] for index in sorted(found)]

    async def events_of(
        self, site: str, kind: str, lives: Sequence[LifeSpan]
    ) -> AsyncGenerator[Record, None]:
        # Once it is settled what the table's stream sees, no partition that it needs can go.
        async with aclosing(self._table.events_of(site, kind, lives, self._archives.look)) as table:
            new = await anext(table, None)
            last = self._archives.last(site)
            for part, records in self._parts(await self._by_life(site, kind, lives, last)):
                archived = await self._archives.at(site, records) if records else {}
                for life, positions in part:
                    for position in positions:
                        if position in archived:
                            yield archived[position]
                    while new is not None and (new.id, new.incarnation) == life[:2]:
                        if new.position > last:
                            yield new
                        new = await anext(table, None)

    def _archived_part(self, site: str, window: Window) -> Window | None:
        """What of a window is archived; None if nothing."""
        last = self._archives.last(site)
        return (
            None if last <= window.after else replace(window, before=min(window.before, last + 1))
        )

    async def _mentions(
        self, site: str, kind: str, lives: Sequence[LifeSpan], window: Window
    ) -> AsyncGenerator[list[Mention], None]:
        """Of these lives alone, an archive's at a time."""
        if lives:
            window = replace(
                window,
                after=max(window.after, min(life.first for life in lives) - 1),
                before=min(window.before, max(life.last for life in lives) + 1),
            )
            spans = {(life.id, life.incarnation): life for life in lives}
            ids = {life.id for life in lives}
            async with aclosing(self._archives.mentions(site, kind, ids, window)) as archives:
                async for mentions in archives:
                    yield [one for one in mentions if _belongs(one, spans)]

    async def _told_archived(
        self,
        site: str,
        kind: str,
        lives: Mapping[int, LifeSpan],
        moment: datetime | int,
        known: Collection[int],
    ) -> tuple[dict[int, tuple[Mention, bool]], dict[int, Record]]:
        """As `_last_archived`, and the events themselves of lives that are not `known`."""
        for _ in range(_ATTEMPTS):
            old = await self._last_archived(site, kind, lives, moment) if lives else {}
            positions = {one.position for index, (one, _) in old.items() if index not in known}
            records = await self._archives.at(site, positions) if positions else {}
            if not (missing := positions - records.keys()):
                return old, records
            # An archive was thinned between the two: by now its index knows.
        raise DecodeError(
            f"{site}:{min(missing)}: the archive's index of objects tells of this event, which is"
            " not there: the archive was changed, put back a copy"
        )

    async def _last_archived(
        self, site: str, kind: str, lives: Mapping[int, LifeSpan], moment: datetime | int
    ) -> dict[int, tuple[Mention, bool]]:
        """Of each life its last mention up to the moment, and whether a finalize is among them."""
        indexes = {(life.id, life.incarnation): index for index, life in lives.items()}
        window = (
            Window(end=moment + _MICROSECOND, newest_first=True)
            if isinstance(moment, datetime)
            else Window(before=moment + 1, newest_first=True)
        )
        # Jobs alone are finalized. Other objects live so long that to look no further matters.
        looks_on = isinstance(moment, int) and kind == Kind.JOB
        found: dict[int, tuple[Mention, bool]] = {}
        async with aclosing(self._mentions(site, kind, list(lives.values()), window)) as archives:
            async for mentions in archives:
                for one in mentions:
                    index = indexes[one.id, one.incarnation]
                    last, finalized = found.get(index, (one, False))
                    finalizes = looks_on and one.event == EventName.FINALIZE
                    found[index] = last, finalized or finalizes
                if len(found) == len(lives) and not looks_on:
                    break
        return found

    async def _by_life(
        self, site: str, kind: str, lives: Sequence[LifeSpan], last: int
    ) -> list[tuple[LifeSpan, list[Mention]]]:
        old = [life for life in lives if life.first <= last]
        found: dict[_Key, list[Mention]] = {}
        archived = Window(before=last + 1)
        async with aclosing(self._mentions(site, kind, old, archived)) as archives:
            async for mentions in archives:
                for one in mentions:
                    found.setdefault((one.id, one.incarnation), []).append(one)
        return [(life, found.get((life.id, life.incarnation), [])) for life in lives]

    @staticmethod
    def _parts(
        lives: Iterable[tuple[LifeSpan, list[Mention]]],
    ) -> Iterator[tuple[list[tuple[LifeSpan, list[int]]], list[int]]]:
        """Some lives at a time, with the positions of all their events: no row is read twice."""
        part: list[tuple[LifeSpan, list[int]]] = []
        used = 0
        for life, mentions in lives:
            used += sum(one.bytes for one in mentions)
            if part and used > _STREAMED_BYTES:
                yield part, [position for _, positions in part for position in positions]
                part, used = [], sum(one.bytes for one in mentions)
            part.append((life, [one.position for one in mentions]))
        if part:
            yield part, [position for _, positions in part for position in positions]


def _joined(
    old: Sequence[Place], new: Sequence[Place], archived: Window, limit: int
) -> list[Place]:
    """The first of both, in the window's order."""
    rest = [place for place in new if place.position >= archived.before]
    both = [*rest, *old] if archived.newest_first else [*old, *rest]
    return both[:limit]


def _belongs(mention: Mention, spans: Mapping[_Key, LifeSpan]) -> bool:
    life = spans.get((mention.id, mention.incarnation))
    return life is not None and life.first <= mention.position <= life.last
