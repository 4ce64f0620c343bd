"""Reading what is no longer in PostgreSQL, as if it still were."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbscast.errors import ConfigError, DecodeError
from pbscast_store.archive import catalog
from pbscast_store.archive.catalog import ArchiveRow, Version
from pbscast_store.archive.files import reading
from pbscast_store.archive.selection import Ids, Mention
from pbscast_store.archive.thinning import Entry
from pbscast_store.queries import Executor, Place
from pbscast_store.records import Record

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

    async def last(self, site: str) -> int:
        """Up to this position the archives have the site's events; 0: they have none."""
        rows = await self._rows_of(site)
        return rows[-1].last_position if rows else 0

    def has_seen(self, site: str, position: int) -> bool:
        """Whether a position is known to be archived: without asking the database."""
        rows = self._rows.get(site, [])
        return bool(rows) and position <= rows[-1].last_position

    async def read(self, site: str, after: int, limit: int, max_bytes: int) -> list[Record]:
        """The archived events after a position, oldest first; none if there are none.

        A page ends as that of `Log.read` does, or where the archives do. Thinned events are passed
        over.
        """
        for row in _overlapping(await self._rows_of(site), after, None):
            bundle = await self._bundle(row)
            page, after = await asyncio.to_thread(bundle.read, after, limit, max_bytes)
            if page:
                return page
        return []

    async def places(
        self, site: str, kind: str, ids: Ids, after: int, until: int | None, limit: int
    ) -> list[Place]:
        """Where the archived events of objects stand within `(after, until]`: the first ones."""
        found: list[Place] = []
        end = until if until is not None else 2**63 - 1
        for row in _overlapping(await self._rows_of(site), after, until):
            bundle = await self._bundle(row)
            mentions = await asyncio.to_thread(bundle.mentions, kind, ids, after, end)
            found += [_place(site, mention) for mention in mentions]
            if len(found) >= limit:
                break
        return found[:limit]

    async def events_at(self, places: Sequence[Place]) -> list[Record]:
        """The events at those of the places that are archived, in the order of the places."""
        wanted: dict[str, set[int]] = {}
        for place in places:
            wanted.setdefault(place.site, set()).add(place.position)
        found: dict[tuple[str, int], Record] = {}
        for site, positions in wanted.items():
            for record in await self._at(site, sorted(positions)):
                found[site, record.position] = record
        keys = ((place.site, place.position) for place in places)
        return [found[key] for key in keys if key in found]

    async def scan(self, site: str, after: int, until: int) -> AsyncIterator[list[Entry]]:
        """Every archived position of `(after, until]` in order, in bounded pages."""
        for row in _overlapping(await self._rows_of(site), after, until):
            bundle = await self._bundle(row)
            pages = bundle.entries(after, until)
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                yield page

    async def _at(self, site: str, positions: list[int]) -> list[Record]:
        found: list[Record] = []
        rows = await self._rows_of(site)
        for row in _overlapping(rows, positions[0] - 1, positions[-1]):
            begin = bisect_left(positions, row.first_position)
            end = bisect_left(positions, row.last_position + 1)
            if here := positions[begin:end]:
                bundle = await self._bundle(row)
                found += await asyncio.to_thread(bundle.at, here)
        return found

    async def _rows_of(self, site: str) -> list[ArchiveRow]:
        version = await catalog.version(self._executor)
        if version != self._version:
            self._rows = {}
            for row in await catalog.archives(self._executor):
                self._rows.setdefault(row.site, []).append(row)
            self._version = version
        return self._rows.get(site, [])

    async def _bundle(self, row: ArchiveRow) -> Bundle:
        if self._directory is None:
            raise ConfigError(
                f"events {row.first_position} to {row.last_position} of {row.site} are in the"
                f" archive {row.manifest}: say in [archive] directory where archives are"
            )
        return await asyncio.to_thread(self._open, self._directory / row.manifest, row)

    def _open(self, path: Path, row: ArchiveRow) -> Bundle:
        from pbscast_store.archive.bundles import open_bundle  # noqa: PLC0415 - loads pyarrow

        with reading(path):
            status = path.stat()
        state = (status.st_ino, status.st_mtime_ns, row)
        with self._opening:
            known = self._bundles.pop(path, None)
            bundle = known[1] if known and known[0] == state else open_bundle(path)
            _check_same(path, bundle, row)
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


def _check_same(path: Path, bundle: Bundle, row: ArchiveRow) -> None:
    contents = bundle.manifest.contents
    found = (contents.site, bundle.first, bundle.last, contents.digest)
    if found != (row.site, row.first_position, row.last_position, row.digest.hex()):
        raise DecodeError(
            f"{path}: holds events {bundle.first} to {bundle.last} of {contents.site} up to digest"
            f" {contents.digest[:12]}, the log wants {row.first_position} to {row.last_position} of"
            f" {row.site} up to {row.digest.hex()[:12]}: put back the archive of this log"
        )


def _place(site: str, mention: Mention) -> Place:
    return Place(site, mention.position, mention.time, mention.bytes)
