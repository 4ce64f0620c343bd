"""Events as Arrow tables, and back: the columns of an archive (described in store/ARCHIVE.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from pbscast.errors import DecodeError
from pbscast_store import chain
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.thinning import Entry, Thinned
from pbscast_store.records import Record

_TIME: Final = pa.timestamp("us", tz="UTC")
_HASH: Final = pa.binary(32)

EVENTS: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("logged", _TIME, nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("incarnation", pa.int32(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("provenance", pa.string(), nullable=False),
        pa.field("owner", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("payload_sha256", _HASH),
        pa.field("digest", _HASH),
    ]
)
"""One row a position. Thinned: `payload` and `digest` are null, else `payload_sha256` is."""

OBJECTS: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("logged", _TIME, nullable=False),
        pa.field("incarnation", pa.int32(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)
"""One row an event that is there in full, by id, kind and position; `bytes` of its payload."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = ("time", "logged")


def events_table(entries: Sequence[Entry]) -> pa.Table:
    """The rows of events of one site."""
    columns: dict[str, list[Any]] = {
        name: [getattr(entry, name) for entry in entries]
        for name in EVENTS.names
        if name not in {"payload", "payload_sha256", "digest", *_TIMES}
    }
    for name in _TIMES:
        columns[name] = [chain.microseconds(getattr(entry, name)) for entry in entries]
    for name in ("payload", "payload_sha256", "digest"):
        columns[name] = [getattr(entry, name, None) for entry in entries]
    return pa.table([columns[name] for name in EVENTS.names], schema=EVENTS)


def entries_of(table: pa.Table, site: str) -> Iterator[Entry]:
    """Undoes `events_table`. Raises DecodeError for a row that is half thinned."""
    # fmt: off
    for (position, time, logged, kind, object_id, incarnation, revision, event, provenance, owner,
         payload, payload_sha256, digest) in rows_of(table):
        # fmt: on
        if (payload is None) == (payload_sha256 is None) or (payload is None and digest):
            raise DecodeError(f"{site}:{position}: neither thinned nor whole")
        if payload is None:
            yield Thinned(
                site, position, time, logged, kind, object_id, incarnation, revision, event,
                provenance, owner, payload_sha256,
            )  # fmt: skip
        else:
            yield Record(
                site=site,
                position=position,
                time=time,
                logged=logged,
                kind=kind,
                id=object_id,
                incarnation=incarnation,
                revision=revision,
                event=event,
                provenance=provenance,
                owner=owner,
                payload=payload,
                digest=digest,
            )


def mentions_table(mentions: Iterable[Mention]) -> pa.Table:
    """The rows of an index of objects."""
    columns: list[Any] = [list(column) for column in zip(*mentions, strict=True)]
    if not columns:
        return OBJECTS.empty_table()
    for name in _TIMES:
        index = OBJECTS.get_field_index(name)
        columns[index] = [chain.microseconds(time) for time in columns[index]]
    return pa.table(columns, schema=OBJECTS)


def rows_of(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """A table's rows; times as the log's driver gives them, exact and in `datetime.UTC`."""
    columns = [
        _moments(table.column(name)) if name in _TIMES else table.column(name).to_pylist()
        for name in table.column_names
    ]
    return zip(*columns, strict=True)


def _moments(column: pa.ChunkedArray) -> list[datetime]:
    return [
        _EPOCH + timedelta(microseconds=number) for number in column.cast(pa.int64()).to_pylist()
    ]
