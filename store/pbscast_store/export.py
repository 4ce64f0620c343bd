"""Writing events to a file of another program's format (described in store/ARCHIVE.md)."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from pydantic_core import from_json

from pbscast.errors import NotFoundError, UsageError
from pbscast.events import EventName, Kind
from pbscast.newfile import check_place
from pbscast.wire import format_time
from pbscast_store.archive.files import replacing, writing
from pbscast_store.log import Log
from pbscast_store.moments import position_logged_before
from pbscast_store.records import Record

COLUMNS: Final = (
    *("site", "position", "time", "logged", "kind", "id", "incarnation", "revision", "event"),
    *("provenance", "owner", "queue", "project", "name", "state", "substate", "old_state"),
    *("reason", "exit_status", "destination", "payload", "digest"),
)
"""Of CSV and Parquet."""

STDOUT: Final = Path("-")

_PAGE: Final = 2000
_TOLD: Final = COLUMNS[COLUMNS.index("queue") : COLUMNS.index("payload")]
"""Taken out of the payload."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""With which a cell begins that a spreadsheet computes."""

Put = Callable[[Record], None]


class Format(StrEnum):
    """Of the file."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events; empty and None: all."""

    sites: Collection[str] = ()
    kinds: Collection[str] = ()
    events: Collection[str] = ()
    owners: Collection[str] = ()
    begin: datetime | None = None
    """Of the events' times, included."""
    end: datetime | None = None
    """Not included."""

    def includes(self, record: Record) -> bool:
        """Whether it is one of them, but for its site."""
        return (
            (not self.kinds or record.kind in self.kinds)
            and (not self.events or record.event in self.events)
            and (not self.owners or record.owner in self.owners)
            and self.covers(record.time)
        )

    def covers(self, time: datetime) -> bool:
        """Whether events of this time are meant."""
        begin, end = self.begin, self.end
        return (begin is None or time >= begin) and (end is None or time < end)

    @property
    def may_be_usage(self) -> bool:
        """Whether usage events are among those meant: which alone are thinned."""
        is_job = not self.kinds or Kind.JOB in self.kinds
        return is_job and (not self.events or EventName.USAGE in self.events)


class Exported(NamedTuple):
    """What became of an export."""

    number: int
    """Events that were handed on."""
    thinned: int
    """Usage events of that time that an archive has let go of, whoever's they were."""


@contextmanager
def exporting(path: Path, form: Format, *, spreadsheet: bool = False) -> Iterator[Put]:
    """Gives a function that takes events; at the end they have become the file, or none have.

    With `spreadsheet` no cell of a CSV begins as a formula does: an apostrophe is put before.
    `-` is standard output, to which a Parquet file is not written. Raises UsageError for that and
    for a file that cannot be made, UnavailableError (a full disk), with what was at `path` still
    there.
    """
    if path != STDOUT:
        check_place(path)
    if form is Format.PARQUET:
        if path == STDOUT:
            raise UsageError("a Parquet file is not written to standard output: name a file")
        with _parquet(path) as put:
            yield put
        return
    with _output(path) as file:
        if form is Format.JSONL:
            yield lambda record: _count(file.write(record.encode() + b"\n"))
        else:
            table = TextIOWrapper(file, encoding="utf-8", newline="")
            rows = csv.writer(table)
            rows.writerow(COLUMNS)
            as_cell = _as_harmless_text if spreadsheet else _as_text
            try:
                yield lambda record: _count(rows.writerow(map(as_cell, row_of(record))))
            finally:
                table.detach()


async def export(
    log: Log, wanted: Wanted, put: Put, progress: Callable[[str, int, int], None]
) -> Exported:
    """Hands on events site by site, in the order of their positions; returns how many.

    `progress` is told a site, how many positions were passed, and of how many. Raises NotFoundError
    for a site that the log does not know, and what `Log.read` raises.
    """
    known = {row.name: row.position for row in await log.sites()}
    for site in wanted.sites:
        if site not in known:
            names = ", ".join(known) or "none"
            raise NotFoundError(f"no such site: {site} (known: {names})")
    number = thinned = 0
    for site in wanted.sites or known:
        done = await _export_site(log, site, known[site], wanted, put, progress)
        number, thinned = number + done.number, thinned + done.thinned
    return Exported(number, thinned if wanted.may_be_usage else 0)


async def _export_site(
    log: Log,
    site: str,
    last: int,
    wanted: Wanted,
    put: Put,
    progress: Callable[[str, int, int], None],
) -> Exported:
    """Positions that the log passes over are those of thinned events, about of the next's time."""
    after = number = thinned = 0
    if wanted.begin is not None:
        after = await position_logged_before(log, site, last, wanted.begin)
    first = after
    while after < last and (page := await log.read(site, after, min(_PAGE, last - after))):
        for record in page:
            if wanted.covers(record.time):
                thinned += min(record.position - 1, last) - after
            if record.position <= last and wanted.includes(record):
                put(record)
                number += 1
            after = min(record.position, last)
        progress(site, after - first, last - first)
    if wanted.end is None:
        thinned += last - after
    return Exported(number, thinned)


def row_of(record: Record) -> list[Any]:
    """The values of `COLUMNS`."""
    payload = from_json(record.payload)
    return [payload.get(name) if name in _TOLD else getattr(record, name) for name in COLUMNS]


@contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    if path == STDOUT:
        with writing(path):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
    else:
        with replacing(path) as file:
            yield file


@contextmanager
def _parquet(path: Path) -> Iterator[Put]:
    import pyarrow as pa  # noqa: PLC0415 - the other formats, and all who import us, need it not

    from pbscast_store.archive.groups import Groups  # noqa: PLC0415 - as above

    types = _types(pa)
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in COLUMNS])

    def table_of(rows: Sequence[list[Any]]) -> pa.Table:
        return pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema)

    groups: Groups[list[Any]] = Groups(table_of)
    with groups.written_to(path, schema):
        yield lambda record: groups.add(row_of(record), len(record.payload))


def _types(pa: Any) -> dict[str, Any]:
    """Of the columns that are no text."""
    moment, number = pa.timestamp("us", tz="UTC"), pa.int64()
    small = dict.fromkeys(("incarnation", "revision"), pa.int32())
    numbers = dict.fromkeys(("position", "substate", "exit_status"), number)
    return {**small, **numbers, "time": moment, "logged": moment, "digest": pa.binary(32)}


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    return value.hex() if isinstance(value, bytes) else value


def _as_harmless_text(value: Any) -> Any:
    cell = _as_text(value)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _count(_: object) -> None:
    """What a file says of how much it wrote."""
