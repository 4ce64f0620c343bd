"""Accounting files: found, put in order, and read line by line in bounded memory.

A day's file has the day, ``YYYYMMDD``, in its name (``sitea-20261122.gz``) and covers that day, or
its part until it was last written to.
Any other file, and standard input, covers what lies between its first and its last record.
"""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import BinaryIO, Final, cast

from pbscast.errors import DecodeError, UsageError
from pbscast_deploy.accounting.clock import LocalClock
from pbscast_deploy.accounting.lines import YEARS, AccountingRecord, BrokenLine, Place, parse

MAX_LINE: Final = 1024 * 1024
"""Bytes from which on a line is none of PBS's."""

_STDIN: Final = Path("-")
_DAY: Final = re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)(?!\d)")
_DAMAGED: Final = (OSError, EOFError, zlib.error)
_EPOCHS: Final = ("end", "start", "qtime")
_STEP: Final = 256
"""Lines between two reports of progress."""


@dataclass(slots=True)
class Span:
    """A period that the files cover, both ends included."""

    begin: datetime
    end: datetime

    def covers(self, moment: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.begin <= moment <= self.end

    def reach(self, moment: datetime) -> None:
        """Stretch it to a moment."""
        self.begin, self.end = min(self.begin, moment), max(self.end, moment)


@dataclass(frozen=True, slots=True)
class AccountingFile:
    """One file that can be read."""

    path: Path
    first: datetime | None
    """The time of its first record; None if it has none, or is standard input."""
    span: Span | None
    """The day that its name promises."""
    bytes: int


class AccountingFiles:
    """Files in the order of their records."""

    def __init__(self, paths: Iterable[Path], zone: tzinfo | None = None) -> None:
        """Raises UsageError for a file that cannot be read, and for one that is given twice."""
        self._zone = zone
        paths = list(paths)
        if _STDIN in paths and len(paths) > 1:
            raise UsageError("standard input (-) stands alone: its place among files is not known")
        if len({path.resolve() for path in paths}) < len(paths):
            raise UsageError("an accounting file is given twice")
        found = [self._look(path) for path in paths]
        latest = datetime.max.replace(tzinfo=UTC)
        self.files = sorted(found, key=lambda file: (file.first or latest, str(file.path)))
        self.spans = [file.span for file in self.files if file.span is not None]
        self.bytes = sum(file.bytes for file in self.files)

    def _look(self, path: Path) -> AccountingFile:
        if path == _STDIN:
            return AccountingFile(path, None, None, 0)
        try:
            state = path.stat()
            if not path.is_file():
                raise UsageError(f"{path}: not a file")
            records = (item for item in self._read(path, LocalClock(self._zone), _ignore))
            first = next((r.time for r in records if isinstance(r, AccountingRecord)), None)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
        written = datetime.fromtimestamp(state.st_mtime, UTC)
        return AccountingFile(path, first, _day(path, self._zone, written), state.st_size)

    def read(
        self, on_bytes: Callable[[int], object] | None = None
    ) -> Iterator[AccountingRecord | BrokenLine]:
        """Every line of every file; the spans grow to hold what is read.

        `on_bytes` is called with the bytes of the file that were read since the last call.
        """
        clock = LocalClock(self._zone)
        for file in self.files:
            span = file.span
            for item in self._read(file.path, clock, on_bytes or _ignore):
                if isinstance(item, AccountingRecord) and file.span is None:
                    if span is None:
                        span = Span(item.time, item.time)
                        self.spans.append(span)
                    span.reach(item.time)
                yield item

    @property
    def periods(self) -> list[Span]:
        """What the files cover together, in order."""
        periods: list[Span] = []
        for span in sorted(self.spans, key=lambda span: span.begin):
            if periods and span.begin <= periods[-1].end + timedelta(seconds=1):
                periods[-1].reach(span.end)
            else:
                periods.append(Span(span.begin, span.end))
        return periods

    def covers(self, moment: datetime) -> bool:
        """Whether a record of that moment would stand in the files."""
        return any(span.covers(moment) for span in self.spans)

    def _read(
        self, path: Path, clock: LocalClock, on_bytes: Callable[[int], object]
    ) -> Iterator[AccountingRecord | BrokenLine]:
        number = done = 0
        try:
            with _opened(path) as (stream, place):
                for number, line in enumerate(_lines(stream), 1):
                    if item := _understand(Place(str(path), number), line, clock):
                        yield item
                    if number % _STEP == 0:
                        on_bytes(place() - done)
                        done = place()
                on_bytes(place() - done)
        except _DAMAGED as error:
            yield BrokenLine(Place(str(path), number + 1), f"the file breaks off: {error}")


def _ignore(_: int) -> None:
    pass


def _day(path: Path, zone: tzinfo | None, written: datetime) -> Span | None:
    match = _DAY.search(path.name)
    try:
        midnight = datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return None
    if midnight is None or midnight.year not in YEARS:
        return None
    clock = LocalClock(zone)
    begin = clock.resolve(midnight)
    end = clock.resolve(midnight + timedelta(days=1)) - timedelta(microseconds=1)
    return Span(begin, written if begin < written < end else end)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """Give the text of a file, and how far into the file the reading is."""
    if path == _STDIN:
        yield sys.stdin.buffer, lambda: 0
        return
    with path.open("rb") as raw:
        if path.suffix != ".gz":
            yield raw, raw.tell
            return
        with gzip.open(raw) as unpacked:
            yield cast("BinaryIO", unpacked), raw.tell


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Give lines with their line ends; of one that is too long, a byte more than MAX_LINE."""
    while line := stream.readline(MAX_LINE + 1):
        yield line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE + 1)
            if len(line) <= MAX_LINE:
                break


def _understand(
    place: Place, line: bytes, clock: LocalClock
) -> AccountingRecord | BrokenLine | None:
    """Return what a line is, None for a blank one."""
    if len(line) > MAX_LINE:
        return BrokenLine(place, f"longer than {MAX_LINE} bytes")
    if not line.strip():
        return None
    if not line.endswith(b"\n"):
        return BrokenLine(place, "cut short: no line end")
    try:
        local, kind, name, fields, prose = parse(line.rstrip(b"\r\n"))
    except DecodeError as error:
        return BrokenLine(place, str(error))
    epochs = (fields[key] for key in _EPOCHS if fields.get(key, "").isdecimal())
    epoch = next(map(int, epochs), None)
    return AccountingRecord(place, clock.resolve(local, epoch), kind, name, fields, prose)
