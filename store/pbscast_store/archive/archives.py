"""Reading what is no longer in PostgreSQL, as if it still were."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbscast.errors import ConfigError, DecodeError
from pbscast_store.archive import catalog
from pbscast_store.archive.catalog import ArchiveRow, Version
from pbscast_store.archive.examining import Examination
from pbscast_store.archive.files import reading
from pbscast_store.archive.manifest import manifest_name
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.thinning import Entry
from pbscast_store.queries import Executor
from pbscast_store.records import Record
from pbscast_store.source import Place, Window

if TYPE_CHECKING:
    from pbscast_store.archive.bundles import Bundle

_OPEN: Final = 16
"""Archives that are kept open."""


class Archives:
    """The events that archives hold: of each site the first ones, without gaps.

    A partition is registered here in the transaction that drops it. So who asks PostgreSQL first
    and archives afterwards misses nothing, but may be told of an event twice.

    Every method raises ConfigError where something archived is asked for and no directory was
    given; NotFoundError or DecodeError, naming the file, if an archive is missing or damaged.
    """

    def __init__(self, executor: Executor, directory: Path | None) -> None:
        self._executor = executor
        self._directory = directory
        self._version = Version(0, None)
        self._rows: dict[str, list[ArchiveRow]] = {}
        self._bundles: OrderedDict[Path, tuple[object, Bundle]] = OrderedDict()
        self._opening = threading.Lock()

    async def look(self, executor: Executor | None = None) -> None:
        """Finds out what has been archived; all other methods know what the last look told.

        Who holds a connection gives it: the pool may have no other.
        """
        executor = executor or self._executor
        version = await catalog.version(executor)
        if version != self._version:
            rows: dict[str, list[ArchiveRow]] = {}
            for row in await catalog.archives(executor):
                rows.setdefault(row.site, []).append(row)
            self._rows, self._version = rows, version

    def rows(self, site: str) -> Sequence[ArchiveRow]:
        """What the table of archives says of a site, by position."""
        return self._rows.get(site, [])

    def last(self, site: str) -> int:
        """Up to this position the archives have the site's events; 0: they have none."""
        rows = self._rows.get(site)
        return rows[-1].last_position if rows else 0

    def began(self, site: str) -> datetime | None:
        """The time of the first archived event; None: there is none."""
        rows = self._rows.get(site)
        return rows[0].earliest if rows else None

    def passed(self, site: str, moment: datetime) -> int:
        """Up to this position all archived events are earlier, as whole archives tell."""
        passed = 0
        for row in self._rows.get(site, []):
            if row.latest >= moment:
                break
            passed = row.last_position
        return passed

    async def read(self, site: str, after: int, limit: int, max_bytes: int) -> list[Record]:
        """The archived events after a position, oldest first; none if there are none.

        A page ends as that of `Log.read` does, or where the archives do. Thinned events are passed
        over.
        """
        for row in _overlapping(self._rows.get(site, []), after, None):
            bundle = await self._bundle(row)
            page, after = await asyncio.to_thread(bundle.read, after, limit, max_bytes)
            if page:
                return page
        return []

    async def mentions(
        self, site: str, kind: str, ids: Collection[str], window: Window
    ) -> AsyncGenerator[list[Mention], None]:
        """Where archived events of objects stand, an archive's at a time, in the window's order."""
        wanted = sorted(ids)
        for row in _within(self._rows.get(site, []), window):
            bundle = await self._bundle(row)
            yield await asyncio.to_thread(bundle.mentions, kind, wanted, window)

    async def scanned(self, site: str, kind: str, window: Window, limit: int) -> list[Place]:
        """Where the archived events of a kind stand: the first ones of a window, in its order."""
        found: list[Place] = []
        for row in _within(self._rows.get(site, []), window):
            bundle = await self._bundle(row)
            found += await asyncio.to_thread(bundle.scanned, kind, window, limit - len(found))
            if len(found) >= limit:
                break
        return found

    async def at(self, site: str, positions: Collection[int]) -> dict[int, Record]:
        """The archived events at these positions, by position; without those that were thinned."""
        wanted = sorted(set(positions))
        found: dict[int, Record] = {}
        for row in _overlapping(self._rows.get(site, []), wanted[0] - 1, wanted[-1]):
            begin = bisect_left(wanted, row.first_position)
            end = bisect_left(wanted, row.last_position + 1)
            if here := wanted[begin:end]:
                bundle = await self._bundle(row)
                records = await asyncio.to_thread(bundle.at, here)
                found.update((record.position, record) for record in records)
        return found

    async def scan(self, row: ArchiveRow) -> AsyncGenerator[list[Entry], None]:
        """Every event of an archive in order, in bounded pages.

        Raises DecodeError, at the latest after the last page, unless the index of objects, the
        manifest and the row say of these events what they say themselves.
        """
        bundle = await self._bundle(row)
        if bundle.manifest.usage == "thinned" and not row.may_be_thinned:
            raise DecodeError(
                f"{bundle.path}: was thinned, and the log says that it was not: it was changed, put"
                " back a copy"
            )
        examination = Examination(bundle.path, bundle.manifest)
        pages = bundle.entries(row.first_position - 1, row.last_position)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield page
            await asyncio.to_thread(examination.add, page)
        await asyncio.to_thread(examination.finish, bundle.all_mentions())

    async def _bundle(self, row: ArchiveRow) -> Bundle:
        if self._directory is None:
            raise ConfigError(
                f"events {row.first_position} to {row.last_position} of {row.site} are in the"
                f" archive {row.manifest}: say in [archive] directory where archives are"
            )
        if row.manifest != manifest_name(row.site, row.partition):
            raise DecodeError(
                f"the archive of events {row.first_position} to {row.last_position} of {row.site}"
                f" is not {row.manifest}: its row was changed"
            )
        return await asyncio.to_thread(self._open, self._directory / row.manifest, row)

    def _open(self, path: Path, row: ArchiveRow) -> Bundle:
        from pbscast_store.archive.bundles import (  # noqa: PLC0415 - loads pyarrow
            check_same,
            open_bundle,
        )

        with reading(path):
            status = path.stat()
        state = (status.st_ino, status.st_mtime_ns, row)
        with self._opening:
            known = self._bundles.pop(path, None)
            bundle = known[1] if known and known[0] == state else open_bundle(path)
            check_same(path, bundle.manifest, row)
            self._bundles[path] = (state, bundle)
            while len(self._bundles) > _OPEN:
                self._bundles.popitem(last=False)
        return bundle


def _overlapping(rows: Sequence[ArchiveRow], after: int, until: int | None) -> Iterator[ArchiveRow]:
    return (
        row
        for row in rows
        if row.last_position > after and (until is None or row.first_position <= until)
    )


def _within(rows: Sequence[ArchiveRow], window: Window) -> list[ArchiveRow]:
    found = [
        row
        for row in _overlapping(rows, window.after, window.before - 1)
        if (window.begin is None or row.latest >= window.begin)
        and (window.end is None or row.earliest < window.end)
    ]
    return found[::-1] if window.newest_first else found
