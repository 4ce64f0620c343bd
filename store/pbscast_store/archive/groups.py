"""Writing a Parquet file row by row, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Generic, TypeVar

import pyarrow as pa
from pyarrow import parquet

from pbscast_store.archive.files import replacing

Row = TypeVar("Row")

ROWS: Final = 8192
"""Of a row group, at most: one read of a single event decodes no more."""
BYTES: Final = 4 * 2**20
"""Of payload, after which a row group ends."""

_LEVEL: Final = 6
_HASHES: Final = {"payload_sha256", "digest"}
_COUNTING: Final = {"position", "time", "logged"}
_LARGE: Final = {"payload"}


class Groups(Generic[Row]):
    """Rows that become row groups."""

    def __init__(self, table_of: Callable[[Sequence[Row]], pa.Table]) -> None:
        self._table_of = table_of
        self._rows: list[Row] = []
        self._bytes = 0
        self._writer: parquet.ParquetWriter | None = None

    def add(self, row: Row, size: int) -> None:
        """One more row; `size` is what it takes, about."""
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) == ROWS or self._bytes >= BYTES:
            self._flush()

    @contextmanager
    def written_to(self, path: Path, schema: pa.Schema) -> Iterator[None]:
        """The rows that are added meanwhile take the place of `path` at the end, or nothing does.

        Raises what `replacing` raises.
        """
        with replacing(path) as file:
            self._writer = _open(file, schema)
            try:
                yield
                self._flush()
            except BaseException:
                self._abandon()
                raise
            self._writer.close()

    def _flush(self) -> None:
        if self._rows and self._writer is not None:
            self._writer.write_table(self._table_of(self._rows), row_group_size=len(self._rows))
            self._rows, self._bytes = [], 0

    def _abandon(self) -> None:
        """Close what is going to be thrown away; it may fail again."""
        try:
            if self._writer is not None:
                self._writer.close()
        except (OSError, pa.ArrowException):
            self._writer = None


def _open(file: BinaryIO, schema: pa.Schema) -> parquet.ParquetWriter:
    names = set(schema.names)
    return parquet.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=sorted(names - _HASHES - _COUNTING - _LARGE),
        column_encoding=dict.fromkeys(sorted(names & _COUNTING), "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
    )
