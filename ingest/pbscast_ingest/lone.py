"""Rows that are read by themselves: heavy ones, and where reading fails one after the other.

A row can be so large that the datastore needs long to hand it out, or cannot at all: no message of
PostgreSQL holds more than 1 GB, its memory may be short, what it stored may be damaged. Asked for
with others such a row would be asked for for ever, and nothing after it would come. So it is asked
for alone and with patience; then, where it is too large or the server says no, with what is long in
it cut. What cannot be read even so is told by its key: in the journal that is a gap, in a table the
object stays as the log has it. Reading costs the server no more memory than saving the row did.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from pbscast_ingest import datastore, metrics
from pbscast_ingest.comparison import decode_lone_row
from pbscast_ingest.datastore import answering, hang_up
from pbscast_ingest.faults import (
    DatastoreError,
    DatastoreUnavailableError,
    UnreadableRowError,
    is_about_content,
)
from pbscast_ingest.rows import decode_lone, unread
from pbscast_ingest.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pbscast.events import Kind
    from pbscast_ingest.comparison import TableRow
    from pbscast_ingest.datastore import Connection
    from pbscast_ingest.rows import JournalRow

LONE_BYTES: Final = 32_768
"""A row that weighs more, as it is stored, is read by itself; unpacked it may be 90 times that."""

ROW_BYTES: Final = 16_000_000
"""A row that is more than this, unpacked and with what it replaced, is cut.

In JSON for the log it may become six times that, in memory some thirty.
"""

MOST_BYTES: Final = 4096
"""Of a text in a row that is cut."""

MOST_ITEMS: Final = 4000
"""Of an array in such a row; every other is a name."""

ROW_SECONDS: Final = 120.0
"""So long may the datastore take over one row while it answers on another connection."""

TRIES: Final = 3
"""Connections lost in a row over the same row before less of it is asked for."""

_PARTS: Final = ("columns", "changed", "before", "removed", "context")
_LIMITS: Final = {"length": MOST_BYTES, "items": MOST_ITEMS}
_CUT: Final = -1

_CUT_NOTE: Final = "cut: more than can be read at once"
_LOST_NOTE: Final = "not read: the datastore cannot hand it out"

_log = structlog.get_logger(__name__)


class Hardships:
    """What rows of one site could not be read; outlives the connections."""

    def __init__(self, site: str = "") -> None:
        self._site = site
        self._key: object = None
        self._losses = 0
        self._why = ""

    def ways(self, key: object) -> Sequence[int]:
        """Return with which limits of bytes the row of this key is to be asked for in turn."""
        return (ROW_BYTES, _CUT)[self._losses // TRIES if key == self._key else 0 :]

    def lose(self, key: object, error: DatastoreError) -> None:
        """Take note that the connection was lost over a row."""
        self._losses = self._losses + 1 if key == self._key else 1
        self._key, self._why = key, str(error)

    def overcome(self) -> None:
        """Take note that a row was read."""
        self._key, self._losses = None, 0

    @property
    def why(self) -> str:
        """What was the matter when a connection was last lost."""
        return self._why

    def tell(self, kind: str, key: str, what: str, why: str) -> None:
        """Tell that a row was not read as it is."""
        metrics.UNREAD.labels(self._site).inc()
        _log.error(what, site=self._site, kind=kind, id=key, error=why)


class LoneReader:
    """Reads single rows over a connection, in its transaction if there is one.

    The probe asks the datastore something easy over another connection, and raises DatastoreError.
    """

    def __init__(
        self,
        connection: Connection,
        where: str,
        hardships: Hardships,
        probe: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._where = where
        self._hardships = hardships
        self._probe = probe

    async def journal_row(self, record: Sequence[Any]) -> JournalRow:
        """Return the row of a record of ``page.sql`` that holds its head alone.

        Cut if need be, ``unread`` if nothing else can be. Raises DatastoreUnavailableError.
        """
        seq = record[0]
        try:
            is_cut, *arrays = await self._read(seq, partial(self._ask_journal, seq))
        except UnreadableRowError as error:
            row = unread(record, str(error))
            self._hardships.tell(row.kind, row.key, "row not read", str(error))
            return row
        row = decode_lone(record, arrays, _CUT_NOTE if is_cut else "")
        if is_cut:
            self._hardships.tell(row.kind, row.key, "row read in part", _CUT_NOTE)
        return row

    async def _ask_journal(self, seq: int, way: int) -> Sequence[Any]:
        """Return whether the row is cut, and its arrays."""
        if way != _CUT:
            is_small, *arrays = await self._ask(statement("row"), {"seq": seq, "bytes": way})
            if is_small:
                return False, *arrays
        parts: list[Any] = []
        for part in _PARTS:
            values = {"seq": seq, "part": part, **_LIMITS}
            parts += await self._ask(statement("row_part"), values)
        return True, *parts

    async def table_row(self, kind: Kind, head: Sequence[Any], hstore: str) -> TableRow:
        """Return the row of a record of ``<kind>.sql`` that came without attributes.

        Cut if need be, without any if nothing else can be. Raises DatastoreUnavailableError.
        """
        key, created = head[:2]
        raw = key.encode() if isinstance(key, str) else bytes(key)
        try:
            is_cut, *arrays = await self._read(
                (kind, raw), partial(self._ask_table, kind, raw, hstore)
            )
        except UnreadableRowError as error:
            record = (key, created, None, None)
            row = decode_lone_row(kind, record, _LOST_NOTE, is_part=True)
            self._hardships.tell(kind, row.id, "row not read", str(error))
            return row
        is_part = len(arrays[0]) >= MOST_ITEMS and is_cut
        note = _CUT_NOTE if is_cut else ""
        row = decode_lone_row(kind, (key, created, *arrays), note, is_part=is_part)
        if is_cut:
            self._hardships.tell(kind, row.id, "row read in part", _CUT_NOTE)
        return row

    async def _ask_table(self, kind: Kind, raw: bytes, hstore: str, way: int) -> Sequence[Any]:
        values = {"kind": kind.value, "key": raw, "bytes": way, **_LIMITS}
        return await self._ask(statement("table_row", hstore), values)

    async def _read(
        self, key: object, ask: Callable[[int], Awaitable[Sequence[Any]]]
    ) -> Sequence[Any]:
        """Ask in one way after the other. Raises UnreadableRowError if the server refuses all."""
        why = self._hardships.why
        for way in self._hardships.ways(key):
            try:
                answer = await ask(way)
            except DatastoreUnavailableError as error:
                if self._is_lost or not is_about_content(error):
                    self._hardships.lose(key, error)
                    raise
                why = str(error)
            except DatastoreError as error:
                if not is_about_content(error):
                    raise
                why = str(error)
            else:
                self._hardships.overcome()
                return answer
        raise UnreadableRowError(why)

    @property
    def _is_lost(self) -> bool:
        return self._connection.closed or self._connection.broken

    async def _ask(self, text: bytes, values: dict[str, Any]) -> Sequence[Any]:
        """Ask with patience; what takes longer the server ends, and a transaction outlives it."""
        limit = [str(round(ROW_SECONDS * 1000))]
        async with self._probing():
            with answering(self._connection, self._where, ROW_SECONDS):
                async with self._connection.transaction():
                    await self._connection.execute(
                        "SELECT set_config('statement_timeout', %s, true)", limit
                    )
                    answer = await self._connection.execute(
                        text, values, binary=True, prepare=False
                    )
                    (record,) = await answer.fetchall()
        return record

    @asynccontextmanager
    async def _probing(self) -> AsyncIterator[None]:
        """Hang up once the datastore does not answer elsewhere either."""
        probing = asyncio.create_task(self._probe_on())
        try:
            yield
        finally:
            probing.cancel()
            await asyncio.wait([probing])

    async def _probe_on(self) -> None:
        try:
            while True:
                await asyncio.sleep(datastore.ANSWER_SECONDS)
                await self._probe()
        except DatastoreError:
            hang_up(self._connection)
