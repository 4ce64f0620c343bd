"""Making the projection agree with the datastore again, after a gap and at first contact.

Page by page, so that memory is the same however many objects there are, and no snapshot is kept
while the log writes: it would keep PBS's server from cleaning up. For each page tables and journal
are read in one REPEATABLE READ snapshot. First the journal: every row the snapshot holds is logged
as itself, so no state that was journaled is lost to the comparison, and the projection then is what
the journal says of that moment. Then some rows of a table: they hold what the projection should.
Each difference is logged with provenance ``resync`` once the snapshot is closed. Then, in the same
way, some objects of the projection: whether they have a row. What changes on a page that was
compared is in the journal; what is lost there is another gap, and another resync. The ``resync``
event and the end of the debt are one append. After a crash or a stop anywhere in between it is done
again: what was logged no longer differs.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.events import Kind, ResyncPayload
from pbscast_ingest.comparison import appeared, changed, vanished
from pbscast_ingest.reader import PAGE_BYTES, TABLE_PAGE
from pbscast_ingest.translation import KINDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from pbscast_ingest.chronicle import Chronicle
    from pbscast_ingest.comparison import TableRow
    from pbscast_ingest.follower import Follower
    from pbscast_ingest.reader import Journal, Snapshot
    from pbscast_store.drafts import Draft
    from pbscast_store.log import Log
    from pbscast_store.records import ObjectState

_log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Events of one append, as far as a page has so many."""

NAMES: Final = 1000
"""Objects of the projection that the datastore is asked for at once."""


class Resync:
    """One comparison of a site's tables with its projection."""

    def __init__(
        self, log: Log, chronicle: Chronicle, follower: Follower, stopping: asyncio.Event
    ) -> None:
        self._log = log
        self._stopping = stopping
        self._chronicle = chronicle
        self._follower = follower
        self._site = chronicle.site
        self._due = chronicle.cursor.due
        self._drafts: list[Draft] = []
        self._appeared = self._changed = self._vanished = 0
        self._now = datetime.now(UTC)
        """Datastore clock of the last snapshot."""

    async def run(self, journal: Journal) -> None:
        """Compare and log. Raises DatastoreError, or what the log raises; then it is still due.

        So it is if stopping was set meanwhile.
        """
        for kind in KINDS.values():
            await self._compare(journal, kind)
            await self._bury(journal, kind)
        if not self._stopping.is_set():
            await self._finish()

    async def _drain(self, snapshot: Snapshot) -> datetime:
        while True:
            page = await snapshot.page(self._chronicle.cursor)
            await self._follower.take(page)
            if not page.more:
                return page.now

    async def _compare(self, journal: Journal, kind: Kind) -> None:
        """Log what the table holds and the projection does not."""
        last, is_end = b"", False
        while not (is_end or self._stopping.is_set()):
            async with journal.snapshot() as snapshot:
                self._now = await self._drain(snapshot)
                rows, is_end = await self._some_rows(snapshot, kind, last)
            if rows:
                last = rows[-1].key
                await self._tell_unlike(kind, rows)

    async def _some_rows(
        self, snapshot: Snapshot, kind: Kind, last: bytes
    ) -> tuple[list[TableRow], bool]:
        """Return rows with keys beyond the last one, and whether they are all."""
        found: list[TableRow] = []
        size = number = 0
        async with aclosing(snapshot.rows(kind, last)) as rows:
            async for row in rows:
                number += 1
                if last and row.key == last:
                    continue
                found.append(row._replace(id=self._site) if kind is Kind.SERVER else row)
                size += sum(map(len, row.attributes.values()))
                if size >= PAGE_BYTES:
                    return found, False
        return found, number < TABLE_PAGE

    async def _tell_unlike(self, kind: Kind, rows: Sequence[TableRow]) -> None:
        await self._chronicle.flush()
        known = await self._log.objects_named(self._site, kind, [row.id for row in rows])
        for row in rows:
            await self._compare_row(row, known.get(row.id))
        await self._flush()

    async def _compare_row(self, row: TableRow, state: ObjectState | None) -> None:
        now = self._now
        # A row in the place of a subjob whose DELETE waits: its INSERT was missed.
        if ended := self._chronicle.pending.end(row.id) if row.kind is Kind.JOB else []:
            state = None
        if state is None or state.gone:
            self._appeared += 1
            await self._add([*ended, *appeared(row, now)])
        elif state.born and row.created and state.born != row.created:
            self._vanished += 1
            self._appeared += 1
            await self._add([vanished(state, now), *appeared(row, now)])
        else:
            drafts = changed(row, state, now)
            drafts = [draft for draft in drafts if not self._chronicle.is_told(draft, state)]
            self._changed += bool(drafts)
            await self._add(drafts)

    async def _bury(self, journal: Journal, kind: Kind) -> None:
        """Log the end of what the projection holds and the table does not."""
        last = ""
        while not self._stopping.is_set():
            await self._chronicle.flush()
            names = await self._log.present_ids(self._site, kind, last, NAMES)
            if names in ([], [last]):
                return
            last = names[-1]
            async with journal.snapshot() as snapshot:
                self._now = await self._drain(snapshot)
                asked = [""] if kind is Kind.SERVER else names
                found = await snapshot.present(kind, asked)
            lost = [] if kind is Kind.SERVER and found else [n for n in names if n not in found]
            await self._tell_lost(kind, lost)

    async def _tell_lost(self, kind: Kind, names: Sequence[str]) -> None:
        # The DELETE of a subjob that waits is known; its end is told when its time has come.
        lost = [name for name in names if name not in self._chronicle.pending]
        await self._chronicle.flush()
        states = await self._log.objects_named(self._site, kind, lost) if lost else {}
        for state in states.values():
            if not state.gone:
                self._vanished += 1
                await self._add([vanished(state, self._now)])
        await self._flush()

    async def _add(self, drafts: list[Draft]) -> None:
        self._drafts += drafts
        if len(self._drafts) >= (1 if self._chronicle.is_careful else BATCH):
            await self._flush()

    async def _flush(self) -> None:
        if self._drafts:
            await self._chronicle.append(self._drafts)
            self._drafts = []

    async def _finish(self) -> None:
        payload = ResyncPayload(
            cause=(self._due or {}).get("cause", ""),
            appeared=self._appeared,
            changed=self._changed,
            vanished=self._vanished,
        )
        await self._chronicle.finish_resync(payload, self._now, self._due)
        _log.info("resync done", site=self._site, **payload.model_dump())
