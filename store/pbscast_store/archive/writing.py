"""Writing one archive: events, index of objects, and the manifest, without which nothing counts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pbscast.errors import ConflictError, DecodeError
from pbscast_store.archive.bundles import Bundle
from pbscast_store.archive.examining import Examination
from pbscast_store.archive.groups import Groups
from pbscast_store.archive.manifest import (
    ArchivedFile,
    Contents,
    Manifest,
    Usage,
    events_name,
    manifest_name,
    objects_name,
    write_manifest,
)
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.proof import Proof
from pbscast_store.archive.tables import EVENTS, OBJECTS, events_table, mentions_table
from pbscast_store.archive.thinning import Entry, Thinned, thin
from pbscast_store.records import Record

_ENTRY_BYTES: Final = 200
"""What an event takes besides its payload, about."""


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
    expected: Contents | None = None
    """What an archive that is there already says of them."""


async def write(directory: Path, source: Source, usage: Usage) -> Manifest:
    """Writes an archive, reads it back, and makes it the one that counts, durably.

    Safe to repeat after any interruption. Raises DecodeError if the source does not fit its chain
    or is not what was asked for; ConflictError if it is not what is expected; AccessDeniedError or
    UnavailableError if a file cannot be written. Then the archive that was there before, if any,
    still is.
    """
    path = directory / manifest_name(source.site, source.partition)
    events = path.with_name(events_name(source.partition, usage))
    objects = path.with_name(objects_name(source.partition, usage))
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
    bundle, examination = Bundle(path, manifest), Examination(path, manifest)
    for entries in bundle.entries(bundle.first - 1, bundle.last):
        examination.add(entries)
    examination.finish(bundle.all_mentions())


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
            _compare(path, contents, source.expected)
    return contents, dropped


def _compare(path: Path, contents: Contents, expected: Contents | None) -> None:
    if expected is None or contents == expected:
        return
    told, found = contents.model_dump(), expected.model_dump()
    names = ", ".join(name for name in told if told[name] != found[name])
    raise ConflictError(
        f"{path.parent}: the archive {expected.first_position} to {expected.last_position} there"
        f" says other things of its events than they themselves ({names}): it was changed; put back"
        " a copy, or move it away"
    )


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
