"""One archive: a manifest and its two Parquet files, opened for reading."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute, parquet

from pbscast.errors import DecodeError, NotFoundError
from pbscast_store.archive.catalog import ArchiveRow
from pbscast_store.archive.files import reading, sha256
from pbscast_store.archive.manifest import ArchivedFile, Manifest, read_manifest
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.tables import EVENTS, OBJECTS, entries_of, rows_of
from pbscast_store.archive.thinning import Entry
from pbscast_store.records import Record
from pbscast_store.source import Place, Window

_PLACE: Final = ("position", "time", "logged", "kind", "id", "incarnation", "payload")

_TIME: Final = pa.timestamp("us", tz="UTC")

_whole: Final[set[tuple[Path, int, int, int]]] = set()
"""Files, as they were when their SHA-256 was found to be the manifest's."""


class Bundle:
    """Reads an archive; may be called from any thread, one call works at a time.

    Every method raises DecodeError, naming the file, where its contents are not what they were.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises NotFoundError, UnavailableError, or DecodeError unless both files are whole."""
        self.path = path
        self.manifest = manifest
        contents = manifest.contents
        check_files(path, manifest)
        self.site, self.first, self.last = (
            contents.site,
            contents.first_position,
            contents.last_position,
        )
        self._lock = threading.Lock()
        self._events = _open(path, self.manifest.events, EVENTS)
        self._objects = _open(path, self.manifest.objects, OBJECTS)
        self._starts = self._first_positions()

    def entries(self, after: int, until: int) -> Iterator[list[Entry]]:
        """Every position of `(after, until]` that is here, in order, a row group at a time."""
        for group in range(self._group_of(max(after + 1, self.first)), len(self._starts)):
            start = self._starts[group]
            if start > until:
                return
            yield self._slice(group, max(after + 1 - start, 0), until + 1 - start)

    def read(self, after: int, limit: int, max_bytes: int) -> tuple[list[Record], int]:
        """The events in full after a position, and up to where they have been looked for.

        At least one, if there is one; no more than `limit`, nor than `max_bytes` of payload.
        """
        page: list[Record] = []
        used, reached = 0, max(after, self.first - 1)
        while reached < self.last:
            group = self._group_of(reached + 1)
            offset = reached + 1 - self._starts[group]
            for entry in self._slice(group, offset, offset + limit - len(page)):
                if isinstance(entry, Record):
                    used += len(entry.payload.encode())
                    if page and used > max_bytes:
                        return page, reached
                    page.append(entry)
                reached = entry.position
            if len(page) == limit:
                break
        return page, reached

    def at(self, positions: Sequence[int]) -> list[Record]:
        """The events in full at these positions (given in order) that are here."""
        found: list[Record] = []
        here = [position for position in positions if self.first <= position <= self.last]
        for group, members in groupby(here, key=self._group_of):
            rows = [position - self._starts[group] for position in members]
            entries = self._take(group, rows)
            found += [entry for entry in entries if isinstance(entry, Record)]
        return found

    def mentions(self, kind: str, ids: Sequence[str], window: Window) -> list[Mention]:
        """Where the events in full of these objects (given in order) stand, as the window wants."""
        found = [
            mention
            for group in range(self._objects.num_row_groups)
            if self._may_mention(group, ids)
            for mention in self._mentions_in(group, kind, ids, window)
        ]
        return sorted(found, key=attrgetter("position"), reverse=window.newest_first)

    def scanned(self, kind: str, window: Window, limit: int) -> list[Place]:
        """Where events in full of a kind stand: the first ones of the window, in its order."""
        found: list[Place] = []
        groups = range(
            self._group_of(max(window.after + 1, self.first)),
            self._group_of(min(window.before - 1, self.last)) + 1,
        )
        for group in reversed(groups) if window.newest_first else groups:
            found += self._places_in(group, kind, window)
            if len(found) >= limit:
                return found[:limit]
        return found

    def all_mentions(self) -> Iterator[list[Mention]]:
        """The whole index of objects, in its order: what `mentions` finds, and how."""
        for group in range(self._objects.num_row_groups):
            with self._reading(self.manifest.objects):
                table = self._objects.read_row_group(group, use_threads=False)
                mentions = _mentions_of(table)
            ids = sorted({one.id for one in mentions})
            if not all(self._may_mention(group, [name]) for name in (*ids[:1], *ids[-1:])):
                raise DecodeError(f"{self._file(self.manifest.objects)}: its statistics are wrong")
            yield mentions

    def _slice(self, group: int, begin: int, end: int) -> list[Entry]:
        with self._reading(self.manifest.events):
            table = self._events.read_row_group(group, use_threads=False)
            return self._checked(table.slice(begin, max(end - begin, 0)), group, begin)

    def _take(self, group: int, rows: Sequence[int]) -> list[Entry]:
        with self._reading(self.manifest.events):
            table = self._events.read_row_group(group, use_threads=False).take(pa.array(rows))
            return list(entries_of(table, self.site))

    def _checked(self, table: pa.Table, group: int, begin: int) -> list[Entry]:
        entries = list(entries_of(table, self.site))
        if entries and entries[0].position != self._starts[group] + begin:
            raise DecodeError(f"{self._file(self.manifest.events)}: positions are missing")
        return entries

    def _mentions_in(
        self, group: int, kind: str, ids: Sequence[str], window: Window
    ) -> list[Mention]:
        with self._reading(self.manifest.objects):
            table = self._objects.read_row_group(group, use_threads=False)
            named = compute.field("id").isin(pa.array(ids, pa.string()))
            return _mentions_of(table.filter(named & _within(kind, window)))

    def _places_in(self, group: int, kind: str, window: Window) -> list[Place]:
        with self._reading(self.manifest.events):
            table = self._events.read_row_group(group, columns=[*_PLACE], use_threads=False)
            table = table.filter(_within(kind, window) & compute.field("payload").is_valid())
            sizes = compute.binary_length(table.column("payload"))
            places = [
                Place(self.site, position, time, logged, size, object_id, incarnation)
                for position, time, logged, object_id, incarnation, size in rows_of(
                    table.drop_columns(["kind", "payload"]).append_column("bytes", sizes)
                )
            ]
        return places[::-1] if window.newest_first else places

    def _may_mention(self, group: int, ids: Sequence[str]) -> bool:
        statistics = self._objects.metadata.row_group(group).column(0).statistics
        if statistics is None or not statistics.has_min_max:
            return True
        least = bisect_left(ids, statistics.min)
        return least < len(ids) and ids[least] <= statistics.max

    def _group_of(self, position: int) -> int:
        return bisect_right(self._starts, position) - 1

    def _first_positions(self) -> list[int]:
        """Of the row groups. A writer counts positions without gaps, so sizes say it all."""
        starts, position = [], self.first
        for group in range(self._events.num_row_groups):
            starts.append(position)
            position += self._events.metadata.row_group(group).num_rows
        if position != self.last + 1:
            raise DecodeError(
                f"{self._file(self.manifest.events)}: holds {position - self.first} events, "
                f"not {self.manifest.contents.count}"
            )
        return starts

    def _file(self, file: ArchivedFile) -> Path:
        return self.path.with_name(file.name)

    @contextmanager
    def _reading(self, file: ArchivedFile) -> Iterator[None]:
        with self._lock, _decoding(self._file(file)):
            yield


def open_bundle(path: Path) -> Bundle:
    """The archive of a manifest.

    Raises NotFoundError, UnavailableError, DecodeError, and UnsupportedError for a later format.
    """
    manifest = read_manifest(path)
    try:
        return Bundle(path, manifest)
    except NotFoundError:
        if (newer := read_manifest(path)) == manifest:
            raise
        # It was written anew between the two readings, and what it named before is gone.
        return Bundle(path, newer)


def check_same(path: Path, manifest: Manifest, row: ArchiveRow) -> None:
    """Raises DecodeError unless the manifest says of its archive all that the log registered."""
    held = manifest.contents
    found = (held.site, held.first_position, held.last_position, held.digest)
    if found != (row.site, row.first_position, row.last_position, row.digest.hex()):
        raise DecodeError(
            f"{path}: holds events {held.first_position} to {held.last_position} of {held.site} up"
            f" to digest {held.digest[:12]}, the log wants {row.first_position} to"
            f" {row.last_position} of {row.site} up to {row.digest.hex()[:12]}: put back the"
            " archive of this log"
        )
    for name, here, registered in (
        ("partition", manifest.partition, row.partition),
        ("previous", held.previous, row.previous.hex()),
        ("earliest", held.earliest, row.earliest),
        ("latest", held.latest, row.latest),
        ("first_logged", held.first_logged, row.first_logged),
        ("last_logged", held.last_logged, row.last_logged),
        ("thinnable", held.thinnable, row.thinnable.hex()),
    ):
        if here != registered:
            raise DecodeError(
                f"{path}: says that {name} is {here}, the log says {registered}: one of them was"
                " changed, put back a copy"
            )


def check_sizes(path: Path, manifest: Manifest) -> None:
    """Raises NotFoundError or DecodeError unless both files are there and as long as they were."""
    for file in (manifest.events, manifest.objects):
        where = path.with_name(file.name)
        with reading(where):
            _check_size(where, file, where.stat().st_size)


def check_files(path: Path, manifest: Manifest) -> None:
    """Raises DecodeError unless both files are, to the byte, what the manifest says."""
    for file in (manifest.events, manifest.objects):
        _check_bytes(path.with_name(file.name), file)


def _check_bytes(path: Path, file: ArchivedFile) -> None:
    with reading(path):
        status = path.stat()
        state = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        _check_size(path, file, status.st_size)
        if state in _whole:
            return
        if sha256(path) != file.sha256:
            raise DecodeError(
                f"{path}: its SHA-256 is not the one of its manifest:"
                " the archive was changed, put back a copy"
            )
    _whole.add(state)


def _check_size(path: Path, file: ArchivedFile, found: int) -> None:
    if found != file.bytes:
        raise DecodeError(
            f"{path}: {found} bytes, its manifest says {file.bytes}:"
            " the archive is damaged, put back a copy"
        )


def _open(path: Path, file: ArchivedFile, schema: pa.Schema) -> parquet.ParquetFile:
    where = path.with_name(file.name)
    with reading(where), _decoding(where):
        opened = parquet.ParquetFile(where, page_checksum_verification=True)
        if not opened.schema_arrow.equals(schema):
            raise DecodeError(f"{where}: other columns than an archive has")
        return opened


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason: Any = (str(error).splitlines() or [type(error).__name__])[0]
        raise DecodeError(f"{path}: the archive is damaged: {reason}") from error


def _mentions_of(table: pa.Table) -> list[Mention]:
    return [Mention(*row) for row in rows_of(table)]


def _within(kind: str, window: Window) -> compute.Expression:
    position, time = compute.field("position"), compute.field("time")
    wanted = compute.field("kind") == kind
    wanted &= (position > window.after) & (position < window.before)
    if window.begin is not None:
        # As the table is searched: what is hidden there is hidden here.
        wanted &= compute.field("logged") >= pa.scalar(window.logged_since, _TIME)
        wanted &= time >= pa.scalar(window.begin, _TIME)
    if window.end is not None:
        wanted &= time < pa.scalar(window.end, _TIME)
    return wanted
