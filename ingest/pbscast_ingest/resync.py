"""Making the projection agree with the datastore again, after a gap and at first contact.

Tables and journal are read in one REPEATABLE READ snapshot. First the journal: every row the
snapshot holds is logged as itself, so no state that was journaled is lost to the comparison, and
the cursor then says exactly what the snapshot holds. Then the tables: they hold what the projection
should, and each difference is logged with provenance ``resync``. The ``resync`` event and the end
of the debt are one append. After a crash anywhere in between it is done again: what was logged no
longer differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from pbscast.events import Kind, ResyncPayload
from pbscast_ingest.comparison import Shown, appeared, changed, is_same, shown, vanished
from pbscast_ingest.translation import KINDS

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from pbscast_ingest.chronicle import Chronicle
    from pbscast_ingest.comparison import TableRow
    from pbscast_ingest.follower import Follower
    from pbscast_ingest.reader import Journal, Snapshot
    from pbscast_store.drafts import Draft
    from pbscast_store.log import Log

_log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Events of one append."""


class Resync:
    """One comparison of a site's tables with its projection."""

    def __init__(self, log: Log, chronicle: Chronicle, follower: Follower) -> None:
        self._log = log
        self._chronicle = chronicle
        self._follower = follower
        self._site = chronicle.site
        self._due = chronicle.cursor.due
        self._drafts: list[Draft] = []
        self._appeared = self._changed = self._vanished = 0

    async def run(self, journal: Journal) -> None:
        """Compare and log. Raises DatastoreError, or what the log raises; then it is still due."""
        async with journal.snapshot() as snapshot:
            now = await self._drain(snapshot)
            for kind in KINDS.values():
                await self._compare(snapshot, kind, now)
        await self._flush()
        await self._finish(now)

    async def _drain(self, snapshot: Snapshot) -> datetime:
        while True:
            page = await snapshot.page(self._chronicle.cursor)
            await self._follower.take(page)
            if not page.more:
                await self._chronicle.flush()
                return page.now

    async def _compare(self, snapshot: Snapshot, kind: Kind, now: datetime) -> None:
        known = {state.id: shown(state) async for state in self._log.objects(self._site, kind)}
        name = self._site if kind is Kind.SERVER else None
        async for row in snapshot.rows(kind, name):
            await self._compare_row(row, known.pop(row.id, None), now)
        # The DELETE of a subjob that waits is known; its end is told when its time has come.
        await self._bury(kind, {name for name in known if name not in self._chronicle.pending}, now)

    async def _compare_row(self, row: TableRow, known: Shown | None, now: datetime) -> None:
        if known is not None and is_same(row, known):
            return
        state = await self._log.object(self._site, row.kind, row.id) if known else None
        if state is None:
            self._appeared += 1
            await self._add(appeared(row, now))
        elif state.born and row.created and state.born != row.created:
            self._vanished += 1
            self._appeared += 1
            await self._add([vanished(state, now), *appeared(row, now)])
        elif drafts := changed(row, state, now):
            self._changed += 1
            await self._add(drafts)

    async def _bury(self, kind: Kind, names: Collection[str], now: datetime) -> None:
        if not names:
            return
        async for state in self._log.objects(self._site, kind):
            if state.id in names:
                self._vanished += 1
                await self._add([vanished(state, now)])

    async def _add(self, drafts: list[Draft]) -> None:
        self._drafts += drafts
        if len(self._drafts) >= BATCH:
            await self._flush()

    async def _flush(self) -> None:
        if self._drafts:
            await self._chronicle.append(self._drafts)
            self._drafts = []

    async def _finish(self, now: datetime) -> None:
        payload = ResyncPayload(
            cause=(self._due or {}).get("cause", ""),
            appeared=self._appeared,
            changed=self._changed,
            vanished=self._vanished,
        )
        await self._chronicle.finish_resync(payload, now, self._due)
        self._follower.forget()
        _log.info("resync done", site=self._site, **payload.model_dump())
