"""The journal of one site: pages of unread rows, the doorbell, trimming."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import psycopg
from pydantic_core import from_json

from pbscast_ingest.appetite import Appetite
from pbscast_ingest.bell import Bell
from pbscast_ingest.comparison import TableRow, decode_table_row
from pbscast_ingest.cursor import witness
from pbscast_ingest.datastore import Connection, answering, connect
from pbscast_ingest.faults import (
    CaptureMissingError,
    DatastoreError,
    DatastoreUnavailableError,
    DatastoreUnsupportedError,
    place,
)
from pbscast_ingest.lone import LoneReader
from pbscast_ingest.rows import SHORT, JournalRow, decode_row, originals, shortened, text
from pbscast_ingest.schema import is_known
from pbscast_ingest.statements import statement
from pbscast_ingest.trimming import Untrimmed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
    from datetime import datetime

    from pbscast.events import Kind
    from pbscast_ingest.cursor import Cursor

PAGE_ROWS: Final = 3000
"""What a page changes of an object is folded once: larger ones cost less a row, and more memory."""

PAGE_BYTES: Final = 8_000_000
LAG_ROWS: Final = 100_000
"""No more of a backlog are counted."""

TRIM_ROWS: Final = 1000
"""Rows of one DELETE: a few milliseconds, and no lock that a save would wait for."""

SLICE: Final = 100
"""Rows that are decoded at once: a millisecond or two in which the loop does nothing else."""

TABLE_ROWS: Final = 50
"""Rows of a PBS table that are in memory at once."""

TABLE_PAGE: Final = 500
"""Rows of a PBS table that are read under one snapshot."""

POLL_SECONDS: Final = 1.0
"""How long a lost doorbell can delay an event."""
QUICK_POLL_SECONDS: Final = 0.03
"""The same where the doorbell is switched off."""

VERSIONS: Final = range(1, 2)
"""Versions of the installed capture that this release reads."""


@dataclass(frozen=True, slots=True)
class Page:
    """Unread rows in seq order, and the snapshot they were taken under."""

    rows: list[JournalRow]
    xmin: int
    bound: int | None
    """A transaction id drawn after the snapshot; None if the rows leave no new hole."""
    now: datetime
    """Datastore clock when the page was asked for."""
    lost: int
    """Another number, whichever, means that changes could not be journaled since."""
    more: bool
    """Whether there may be more to read at once."""
    is_cut: bool
    """Whether it ended early because of its bytes as they are, not as they are stored."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed in a datastore."""

    journal: str
    """System identifier and installation: another one means a new or restored datastore."""
    version: int
    hstore: str
    schema: str


@dataclass(frozen=True, slots=True)
class Health:
    """Whether capture works, and how far behind a cursor is."""

    now: datetime
    defects: list[str]
    """What is not captured, a line for each table."""
    paused: bool
    doorbell: bool
    lost: int
    """Another number, whichever, means that changes could not be journaled since."""
    bytes: int
    lag_rows: int
    """Counted up to LAG_ROWS."""
    lag_seconds: float
    is_full: bool
    """Whether sessions that find it so write nothing."""
    shape: str
    """Another one means that capture's triggers were touched since."""
    replaced: str
    """The one that installations made it of, and nobody else touched; empty if anybody did."""


class Journal:
    """A connected journal. All methods raise DatastoreError; afterwards connect anew."""

    def __init__(
        self,
        dsn: str,
        reading: Connection,
        bell: Bell,
        trimming: Connection,
        appetite: Appetite,
    ) -> None:
        self.place = place(dsn)
        self._reading = reading
        self._bell = bell
        self._trimming = trimming
        self._turn = asyncio.Lock()
        """Of those that use the last: the time to answer runs for the one whose turn it is."""
        self._untrimmed = Untrimmed()
        self._appetite = appetite
        self._rows = PAGE_ROWS
        self._lone = LoneReader(reading, self.place, appetite.hardships, self._probe)
        self._hstore = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str, appetite: Appetite | None = None) -> AsyncIterator[Journal]:
        """Connect; three connections, for a reader must not wait for its own trimming.

        The doorbell has one of its own, and is heard before anything is read.
        """
        async with AsyncExitStack() as stack:
            bell = await stack.enter_async_context(Bell.open(dsn))
            reading = await stack.enter_async_context(connect(dsn))
            trimming = await stack.enter_async_context(connect(dsn))
            with answering(trimming, place(dsn)):
                await trimming.execute("SET synchronous_commit = off")
            yield cls(dsn, reading, bell, trimming, appetite or Appetite())

    async def identify(self) -> Installation:
        """Return what is installed.

        Raises CaptureMissingError if nothing is, DatastoreUnsupportedError if it is of a version
        we do not know.
        """
        with answering(self._reading, self.place):
            try:
                cursor = await self._reading.execute(statement("installation"))
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
                raise CaptureMissingError(
                    f"{self.place}: capture is not installed: run `pbscastd source install`"
                ) from error
            record = await cursor.fetchone()
        if record is None:
            raise CaptureMissingError(
                f"{self.place}: capture is half installed: run `pbscastd source install`"
            )
        found = Installation(text(record[0]), record[1], text(record[2]), text(record[3]))
        self._require(found)
        self._hstore = found.hstore
        return found

    def _require(self, found: Installation) -> None:
        if found.version not in VERSIONS:
            raise DatastoreUnsupportedError(
                f"{self.place}: capture has version {found.version}, this release reads "
                f"{VERSIONS.start} to {VERSIONS.stop - 1}: run `pbscastd source upgrade`"
            )
        if not found.hstore:
            raise DatastoreUnsupportedError(f"{self.place}: extension hstore is missing")
        if not is_known(found.schema):
            raise DatastoreUnsupportedError(
                f"{self.place}: PBS schema version {found.schema!r} is unknown"
            )

    async def health(self, cursor: Cursor) -> Health:
        """Look at the triggers, the switch and the backlog."""
        values = {"top": cursor.top, "most": LAG_ROWS}
        async with self._turn:
            with answering(self._trimming, self.place):
                answer = await self._trimming.execute(statement("health"), values)
                (record,) = await answer.fetchall()
        now, defects, mode, lost, size, rows, seconds, is_full, shape, left_as, replaced = record
        return Health(
            now=now,
            defects=[text(line) for line in defects],
            paused=bool(mode & 1),
            doorbell=not mode & 2,
            lost=lost,
            bytes=size,
            lag_rows=rows,
            lag_seconds=float(seconds or 0),
            is_full=bool(is_full),
            shape=text(shape),
            replaced=text(replaced) if text(left_as) == text(shape) else "",
        )

    async def is_witnessed(self, cursor: Cursor) -> bool:
        """Whether the journal still holds the last row that was read: time did not go back."""
        if not cursor.top:
            return True
        with answering(self._reading, self.place):
            answer = await self._reading.execute(statement("witness"), {"seq": cursor.top})
            record = await answer.fetchone()
        return record is not None and witness(record[0], record[1]) == cursor.witness

    async def extent(self) -> tuple[int, int]:
        """Return the lowest and the highest seq in the journal; zeros if it is empty."""
        with answering(self._reading, self.place):
            answer = await self._reading.execute(statement("extent"))
            (record,) = await answer.fetchall()
        return record[0], record[1]

    async def page(self, cursor: Cursor) -> Page:
        """Return unread rows: at most PAGE_ROWS, and after the first at most PAGE_BYTES."""
        return await read_page(
            self._reading, self.place, cursor, self._appetite, self._lone, self._rows
        )

    async def bound(self) -> int:
        """Return a transaction id: every transaction that has written by now has a lower one."""
        with answering(self._reading, self.place):
            answer = await self._reading.execute("SELECT txid_current()")
            (record,) = await answer.fetchall()
        return int(record[0])

    async def wait(self, timeout: float) -> None:
        """Wait for the doorbell, at most timeout seconds; whether it rang or not, read."""
        await self._bell.wait(timeout)

    async def trim(self, cursor: Cursor) -> int:
        """Delete rows that a durable cursor has read, one small step; return how many.

        None are left at 0. The row ``top`` stays.
        """
        lows, highs = self._untrimmed.of(cursor)
        values = {"lows": lows, "highs": highs, "rows": TRIM_ROWS}
        async with self._turn:
            with answering(self._trimming, self.place):
                answer = await self._trimming.execute(statement("trim"), values)
                gone = [record[0] for record in await answer.fetchall()]
        self._untrimmed.pass_over(cursor, max(gone) if len(gone) >= TRIM_ROWS else None)
        return len(gone)

    async def _probe(self) -> None:
        async with self._turn:
            with answering(self._trimming, self.place):
                await self._trimming.execute("SELECT")

    @property
    def is_connected(self) -> bool:
        """Whether an error of heartbeat or trim was the statement's, not the connection's."""
        return not (self._trimming.closed or self._trimming.broken)

    async def heartbeat(self) -> int | None:
        """Send a row through the journal, so that silence is told from death.

        Returns its seq, None if the journal had no room for it.
        """
        async with self._turn:
            with answering(self._trimming, self.place):
                answer = await self._trimming.execute(statement("heartbeat"))
                (record,) = await answer.fetchall()
        return None if record[1] is None else int(record[1])

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open a view in which tables and journal stand still; identify must have been called."""
        with answering(self._reading, self.place):
            await self._reading.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield Snapshot(self._reading, self.place, self._hstore, self._appetite, self._lone)
        finally:
            if not self._reading.closed:
                with answering(self._reading, self.place):
                    await self._reading.execute("ROLLBACK")


async def read_page(
    connection: Connection,
    where: str,
    cursor: Cursor,
    appetite: Appetite,
    lone: LoneReader,
    rows: int = PAGE_ROWS,
) -> Page:
    """Take a page under the connection's snapshot; cursor.py says why nothing can be skipped.

    Raises DatastoreUnavailableError if the journal was replaced: connect and identify it anew;
    CaptureMissingError if nothing says which one it is.
    """
    rows = appetite.limit(rows)
    limits = {"rows": rows, "bytes": PAGE_BYTES, "stored": appetite.bytes, "lone": appetite.lone}
    try:
        with answering(connection, where):
            answer = await connection.execute(
                statement("page"), {"top": cursor.top, **cursor.passed_over, **limits}, binary=True
            )
            # Row by row in the order of seq, the header at 0; SQL promises none.
            records = sorted(await answer.fetchall(), key=itemgetter(0))
    except DatastoreError as error:
        appetite.fail(error)
        raise
    if not records or records[0][0]:
        raise CaptureMissingError(
            f"{where}: capture is half installed: run `pbscastd source install`"
        )
    page = await _decode_page(records, where, cursor, rows, lone)
    appetite.come(len(page.rows))
    appetite.shrink() if page.is_cut else appetite.grow()
    return page


async def _decode_page(
    records: list[Any], where: str, cursor: Cursor, rows: int, lone: LoneReader
) -> Page:
    head, *records = records
    xmin, bound, found, chosen, lost, incarnation, is_lone, is_witnessed = from_json(head[3])
    is_same = not cursor.journal or cursor.journal.endswith(incarnation)
    if not (is_witnessed and is_same):
        raise DatastoreUnavailableError(f"{where}: the journal is not the one that was read")
    return Page(
        rows=[await lone.journal_row(records[0])] if is_lone else await _decode_rows(records),
        xmin=xmin,
        bound=bound,
        now=head[2],
        lost=lost,
        more=found >= rows or found > len(records),
        is_cut=chosen > len(records),
    )


async def _decode_rows(records: list[Any]) -> list[JournalRow]:
    rows: list[JournalRow] = []
    for begin in range(0, len(records), SLICE):
        if begin:
            await asyncio.sleep(0)
        rows += map(decode_row, records[begin : begin + SLICE])
    return rows


class Snapshot:
    """The tables and the journal of a datastore at one moment."""

    def __init__(
        self,
        connection: Connection,
        where: str,
        hstore: str,
        appetite: Appetite,
        lone: LoneReader,
    ) -> None:
        self._connection = connection
        self._where = where
        self._hstore = hstore
        self._appetite = appetite
        self._lone = lone

    async def page(self, cursor: Cursor) -> Page:
        """Return unread rows that the snapshot holds."""
        return await read_page(self._connection, self._where, cursor, self._appetite, self._lone)

    async def rows(self, kind: Kind, first: bytes = b"") -> AsyncGenerator[TableRow, None]:
        """Stream the rows of a PBS table in the order of keys from this one on, so many at most.

        The server's row has no key.
        """
        cursor = self._connection.cursor(name="pbscast", binary=True)
        try:
            with self._answering():
                values = {"first": first, "rows": TABLE_PAGE, "lone": self._appetite.lone}
                await cursor.execute(statement(kind.value, self._hstore), values)
            while records := await self._fetch(cursor):
                for record in records:
                    if record[2] is None:
                        yield await self._lone.table_row(kind, record, self._hstore)
                    else:
                        yield decode_table_row(kind, record)
        finally:
            # The server is asked to close it as well, and may hang just now.
            try:
                with answering(self._connection, self._where):
                    await cursor.close()
            except BaseException:
                # Then it is still open, for psycopg, until that is said once more.
                with answering(self._connection, self._where):
                    await cursor.close()
                raise

    async def present(self, kind: Kind, ids: Sequence[str]) -> set[str]:
        """Return those of these ids that a row of the PBS table has; the server's is empty."""
        keys = [raw for object_id in ids for raw in originals(object_id)]
        values = {"kind": kind.value, "keys": keys, "length": SHORT}
        is_long = any(len(object_id) > SHORT for object_id in ids)
        with answering(self._connection, self._where):
            answer = await self._connection.execute(
                statement("present"), {**values, "long": is_long}, prepare=False, binary=True
            )
            found = {shortened(text(record[0])) for record in await answer.fetchall()}
        return found.intersection(ids)

    async def _fetch(self, cursor: psycopg.AsyncServerCursor[Any]) -> list[Any]:
        with self._answering():
            records = await cursor.fetchmany(TABLE_ROWS)
        self._appetite.come(len(records))
        return records

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            with answering(self._connection, self._where):
                yield
        except DatastoreError as error:
            self._appetite.fail(error)
            raise
