"""Moving what is old from PostgreSQL into archives, and thinning archives that are older still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import asyncpg

from pbscast.errors import ConflictError, DecodeError, NotFoundError, UnavailableError
from pbscast_store import chain, queries
from pbscast_store.archive import catalog
from pbscast_store.archive.bundles import Bundle, check_same, check_sizes, open_bundle
from pbscast_store.archive.catalog import ArchiveRow, Partition, Span
from pbscast_store.archive.files import make_directory
from pbscast_store.archive.manifest import Contents, Manifest, Usage, manifest_name, read_manifest
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.retention import Policy
from pbscast_store.archive.thinning import Entry
from pbscast_store.archive.writing import Source, remove_leftovers, write
from pbscast_store.connection import check_schema, check_server, close, connect, place
from pbscast_store.errors import translated
from pbscast_store.records import Record

LOCK_MILLISECONDS: Final = 200
"""For which appends and readers may have to wait behind us, now and then."""
LOCK_TRIES: Final = 50
LOCK_PAUSE: Final = 2.0
"""Seconds between tries, at first; they grow to ten times as much."""

_PAGE: Final = 2000
_PAGE_BYTES: Final = 4 * 2**20
_MENTIONS: Final = 8192

Progress = Callable[[str, int, int], None]
"""Is told what is worked on, how many of its events have just been written, and how many it has."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was done with the events of one site and partition, or would be."""

    action: Literal["archived", "thinned"]
    partition: str
    site: str
    first: int
    last: int
    thinned: int
    """Usage events that are reduced to their leaves now."""
    bytes: int
    """Of the archive; 0 where nothing was written yet."""


async def keep(
    dsn: str, directory: Path, policy: Policy, *, dry_run: bool = False, progress: Progress
) -> AsyncGenerator[Kept, None]:
    """Archives every closed partition that the policy lets go, oldest first, then thins archives.

    Each is written, read back and followed along its chain before its partition is dropped, so an
    interruption at any point loses nothing and leaves nothing twice: call it again. Appends and
    readers go on, and wait for `LOCK_MILLISECONDS` at a time. Raises ConflictError if somebody else
    is archiving, or there are events that cannot be the log's; NotFoundError or DecodeError if the
    directory is missing or has not all that was archived before; DecodeError, and drops nothing, if
    events do not fit their chain;
    AccessDeniedError unless the log's role owns its tables; UnavailableError for a full disk, or if
    readers keep a partition for too long.
    """
    connection = await connect(dsn, command_timeout=None)
    try:
        with translated(place(dsn)):
            check_server(connection, dsn)
            await check_schema(connection, dsn)
            if not await catalog.try_lock_archiving(connection):
                raise ConflictError(f"{place(dsn)}: somebody else is archiving it just now")
            _check_directory(directory, await catalog.archives(connection))
            keeper = _Keeper(connection, directory, policy, progress)
            for step in (keeper.archive(dry_run=dry_run), keeper.thin(dry_run=dry_run)):
                async with aclosing(step) as kept:
                    async for one in kept:
                        yield one
    finally:
        await close(connection)


class _Keeper:
    def __init__(
        self, connection: asyncpg.Connection, directory: Path, policy: Policy, progress: Progress
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._policy = policy
        self._progress = progress

    async def archive(self, *, dry_run: bool) -> AsyncGenerator[Kept, None]:
        for partition in await catalog.partitions(self._connection):
            spans = await catalog.spans(self._connection, partition)
            _refuse_unknown(partition, spans)
            # The archived events of a site are its first ones: what comes later waits.
            if not self._policy.may_leave(partition, [span.site for span in spans]):
                return
            if dry_run:
                kept = [_planned(partition, span) for span in spans]
            else:
                kept = await self._archive(partition, spans)
            for one in kept:
                yield one

    async def thin(self, *, dry_run: bool) -> AsyncGenerator[Kept, None]:
        now = [partition.now for partition in await catalog.partitions(self._connection)]
        for row in await catalog.archives(self._connection):
            if not now or not self._policy.thins(row.site, row.last_logged, now[0]):
                continue
            path = self._directory / row.manifest
            manifest = read_manifest(path)
            if manifest.usage == "full":
                yield _kept("thinned", manifest if dry_run else await self._thin(path, row))
            elif not dry_run:
                remove_leftovers(path, manifest)

    async def _archive(self, partition: Partition, spans: list[Span]) -> list[Kept]:
        manifests = [await self._write(partition, span) for span in spans]
        await self._drop(partition, manifests)
        return [_kept("archived", manifest) for manifest in manifests]

    async def _write(self, partition: Partition, span: Span) -> Manifest:
        path = self._directory / manifest_name(span.site, partition.name)
        make_directory(path.parent)
        expected = await self._written_before(path, span)
        usage: Usage = "full"
        if self._policy.thins(span.site, partition.upper, partition.now):
            usage = "thinned"
        source = Source(
            span.site,
            partition.name,
            span.first,
            span.last,
            await self._digest_of(span.site, span.first - 1),
            self._pages(partition, span),
            self._mentions(partition, span),
            expected,
        )
        return await write(self._directory, source, usage)

    async def _written_before(self, path: Path, span: Span) -> Contents | None:
        """What an earlier attempt said, if there was one.

        Its files are written again, so what is dropped is archived as it is here, and as the policy
        wants it now. Raises ConflictError if what is there holds other events.
        """
        try:
            contents = read_manifest(path).contents
        except NotFoundError:
            return None
        digest = await self._digest_of(span.site, span.last)
        found = (contents.site, contents.first_position, contents.last_position, contents.digest)
        if found != (span.site, span.first, span.last, digest.hex()):
            raise ConflictError(
                f"{path}: holds other events than the log: is it the archive of another log, or was"
                " this one restored? Move it away"
            )
        return contents

    async def _digest_of(self, site: str, position: int) -> bytes:
        """The chain's digest at a position, wherever that is."""
        page = await queries.read_events(self._connection, site, position - 1, 1, 1)
        if page and page[0].position == position:
            return page[0].digest or chain.GENESIS
        for row in await catalog.archives(self._connection):
            if (row.site, row.last_position) == (site, position):
                return row.digest
        return chain.GENESIS

    async def _pages(self, partition: Partition, span: Span) -> AsyncGenerator[list[Record], None]:
        after = span.first - 1
        while after < span.last:
            limit = min(_PAGE, span.last - after)
            page = await queries.read_events(self._connection, span.site, after, limit, _PAGE_BYTES)
            if not page:
                return
            yield page
            after = page[-1].position
            self._progress(_name(span.site, partition.name), len(page), span.last - span.first + 1)

    async def _mentions(
        self, partition: Partition, span: Span
    ) -> AsyncGenerator[list[Mention], None]:
        page: list[Mention] = []
        async with self._connection.transaction(readonly=True):
            async for mention in catalog.mentions(self._connection, span.site, partition):
                page.append(mention)
                if len(page) == _MENTIONS:
                    yield page
                    page = []
        yield page

    async def _drop(self, partition: Partition, manifests: list[Manifest]) -> None:
        """Registers archives and drops their partition, together.

        Waiting for its locks it makes others wait, hence a moment only and then a pause. What holds
        the locks are readers of the log, at worst a dump of the database.
        """
        pause = LOCK_PAUSE
        for _ in range(LOCK_TRIES):
            try:
                async with self._connection.transaction():
                    await catalog.lock_briefly(self._connection, LOCK_MILLISECONDS)
                    for manifest in manifests:
                        await catalog.register(self._connection, manifest)
                    await catalog.drop_partition(self._connection, partition.name)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LOCK_PAUSE * 10)
            except asyncpg.ObjectNotInPrerequisiteStateError as error:
                raise ConflictError(f"{error}: it was not dropped") from error
            else:
                return
        raise UnavailableError(
            f"partition {partition.name} is archived but somebody still reads it (a dump?):"
            " it was not dropped; archive again later"
        )

    async def _thin(self, path: Path, row: ArchiveRow) -> Manifest:
        bundle = open_bundle(path)
        check_same(path, bundle.manifest, row)
        contents = bundle.manifest.contents
        await catalog.register_thinning(self._connection, row.site, row.first_position)
        source = Source(
            contents.site,
            bundle.manifest.partition,
            contents.first_position,
            contents.last_position,
            bytes.fromhex(contents.previous),
            self._entries(bundle),
            _mentions_of(bundle),
            contents,
        )
        return await write(self._directory, source, "thinned")

    async def _entries(self, bundle: Bundle) -> AsyncGenerator[list[Entry], None]:
        for page in bundle.entries(bundle.first - 1, bundle.last):
            yield page
            name = _name(bundle.site, bundle.manifest.partition)
            self._progress(name, len(page), bundle.manifest.contents.count)


def _check_directory(directory: Path, archives: list[ArchiveRow]) -> None:
    """All that was ever archived is here: else it is another directory, or its disk is missing."""
    if not directory.is_dir():
        raise NotFoundError(
            f"archive directory {directory}: there is none: make it, or mount what it is on"
        )
    for row in archives:
        path = directory / row.manifest
        try:
            manifest = read_manifest(path)
            check_same(path, manifest, row)
            check_sizes(path, manifest)
        except (NotFoundError, DecodeError) as error:
            raise type(error)(
                f"{error}: nothing was archived, because {directory} has not all that was archived"
                " before: is it the right directory, is its disk mounted?"
            ) from error


def _refuse_unknown(partition: Partition, spans: list[Span]) -> None:
    for span in spans:
        if not span.is_known:
            raise ConflictError(
                f"partition {partition.name} holds events of {span.site}, a site that the log does"
                " not know: nothing is archived before that is cleared up (pbscastd audit verify)"
            )


async def _mentions_of(bundle: Bundle) -> AsyncGenerator[list[Mention], None]:
    for page in bundle.all_mentions():
        yield page


def _name(site: str, partition: str) -> str:
    return f"{site} {partition}"


def _planned(partition: Partition, span: Span) -> Kept:
    return Kept("archived", partition.name, span.site, span.first, span.last, 0, 0)


def _kept(action: Literal["archived", "thinned"], manifest: Manifest) -> Kept:
    contents = manifest.contents
    return Kept(
        action,
        manifest.partition,
        contents.site,
        contents.first_position,
        contents.last_position,
        manifest.thinned,
        manifest.events.bytes + manifest.objects.bytes,
    )
