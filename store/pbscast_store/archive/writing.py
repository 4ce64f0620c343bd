"""Writing one archive: events, index of objects, and the manifest, without which nothing counts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pbscast.errors import DecodeError
from pbscast_store.archive.bundles import Bundle
from pbscast_store.archive.groups import Groups
from pbscast_store.archive.manifest import (
    ArchivedFile,
    Contents,
    Manifest,
    manifest_name,
    write_manifest,
)
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.proof import Proof
from pbscast_store.archive.tables import EVENTS, OBJECTS, events_table, mentions_table
from pbscast_store.archive.thinning import Entry, Thinned, thin
from pbscast_store.records import Record

Usage = Literal["full", "thinned"]

_ENTRY_BYTES: Final = 200
"""What an event takes besides its payload, about."""
_MASK: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Source:
    """What an archive is made of."""

    site: str
    partition: str
    first: int
    last: int
    previous: bytes
    """The digest before the first event."""
    pages: AsyncGenerator[list[Record], None] | AsyncGenerator[list[Entry], None]
    """Events from the first position to the last."""
    mentions: AsyncGenerator[list[Mention], None]
    """The same events by id, kind and position; asked for when `pages` is exhausted."""


async def write(directory: Path, source: Source, usage: Usage) -> Manifest:
    """Writes an archive, reads it back, and makes it the one that counts, durably.

    Safe to repeat after any interruption. Raises DecodeError if the source does not fit its chain
    or is not what was asked for; AccessDeniedError or UnavailableError if a file cannot be written.
    Then the archive that was there before, if any, still is.
    """
    path = directory / manifest_name(source.site, source.partition)
    stem = f"{source.partition}.{usage}"
    events, objects = (
        path.with_name(f"{stem}.events.parquet"),
        path.with_name(f"{stem}.objects.parquet"),
    )
    contents, dropped = await _write_events(events, source, usage)
    await _write_objects(objects, source.mentions, dropped)
    manifest = Manifest(
        partition=source.partition,
        contents=contents,
        usage=usage,
        thinned=dropped.number,
        events=ArchivedFile.of(events),
        objects=ArchivedFile.of(objects),
    )
    verify(path, manifest)
    write_manifest(path, manifest)
    remove_leftovers(path, manifest)
    return manifest


def verify(path: Path, manifest: Manifest) -> None:
    """Reads an archive and follows its chain.

    Raises DecodeError, naming the file, if it is not right.
    """
    bundle = Bundle(path, manifest)
    contents = manifest.contents
    previous = bytes.fromhex(contents.previous)
    proof = Proof(contents.site, bundle.first - 1, previous, contents.unchained)
    full = 0
    events = path.with_name(manifest.events.name)
    try:
        for entries in bundle.entries(bundle.first - 1, bundle.last):
            proof.add(entries)
            full += _sum(_mention(entry) for entry in entries if isinstance(entry, Record))
    except DecodeError as error:
        raise DecodeError(f"{events}: {error}") from error
    if proof.contents() != contents:
        raise DecodeError(f"{events}: holds other events than its manifest says")
    if (full - sum(map(_sum, bundle.all_mentions()))) & _MASK:
        raise DecodeError(f"{path.with_name(manifest.objects.name)}: does not fit the events")


def remove_leftovers(path: Path, manifest: Manifest) -> None:
    """What an interruption left, or a manifest before this one named."""
    kept = {path.name, manifest.events.name, manifest.objects.name}
    for pattern in (f"{manifest.partition}.*", f".{manifest.partition}.*.part"):
        for other in path.parent.glob(pattern):
            if other.name not in kept:
                with suppress(OSError):
                    other.unlink()


class _Dropped:
    """The positions that were thinned, a bit for each."""

    def __init__(self, first: int, last: int) -> None:
        self.number = 0
        self._first = first
        self._bits = bytearray((last - first) // 8 + 1)

    def add(self, position: int) -> None:
        offset = position - self._first
        self._bits[offset >> 3] |= 1 << (offset & 7)
        self.number += 1

    def __contains__(self, position: int) -> bool:
        offset = position - self._first
        return bool(self._bits[offset >> 3] >> (offset & 7) & 1)


async def _write_events(path: Path, source: Source, usage: Usage) -> tuple[Contents, _Dropped]:
    proof = Proof(source.site, source.first - 1, source.previous)
    dropped = _Dropped(source.first, source.last)
    groups = Groups(events_table)
    async with aclosing(source.pages) as pages:
        with groups.written_to(path, EVENTS):
            async for page in pages:
                proof.add(page)
                for entry in page:
                    _add(groups, _reduce(entry, usage), dropped)
            contents = proof.contents()
            if contents.last_position != source.last:
                raise DecodeError(
                    f"{source.site}: events end at {contents.last_position}, not {source.last}"
                )
    return contents, dropped


def _reduce(entry: Entry, usage: Usage) -> Entry:
    return thin(entry) if usage == "thinned" and isinstance(entry, Record) else entry


def _add(groups: Groups[Entry], entry: Entry, dropped: _Dropped) -> None:
    if isinstance(entry, Thinned):
        dropped.add(entry.position)
        groups.add(entry, _ENTRY_BYTES)
    else:
        groups.add(entry, _ENTRY_BYTES + len(entry.payload))


async def _write_objects(
    path: Path, mentions: AsyncGenerator[list[Mention], None], dropped: _Dropped
) -> None:
    groups = Groups(mentions_table)
    async with aclosing(mentions) as pages:
        with groups.written_to(path, OBJECTS):
            async for page in pages:
                for mention in page:
                    if mention.position not in dropped:
                        groups.add(mention, 0)


def _mention(record: Record) -> Mention:
    return Mention(
        record.id,
        record.kind,
        record.position,
        record.time,
        record.logged,
        record.incarnation,
        record.revision,
        record.event,
        len(record.payload.encode()),
    )


def _sum(mentions: Iterable[Mention]) -> int:
    """Does not depend on their order."""
    return sum(map(hash, mentions))
