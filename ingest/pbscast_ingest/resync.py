"""Making the projection agree with the datastore again, after a gap and at first contact.

The projection is read before, for a large one takes longer than the datastore lets a transaction
idle. Tables and journal are read in one REPEATABLE READ snapshot. First the journal: every row the
snapshot holds is logged as itself, so no state that was journaled is lost to the comparison, and
the cursor then says exactly what the snapshot holds. Then the tables: they hold what the projection
should, and each difference is logged with provenance ``resync``; unless there are many, only once
the snapshot is closed, for it keeps PBS's server from cleaning up. The ``resync`` event and the end
of the debt are one append. After a crash or a stop anywhere in between it is done again: what was
logged no longer differs.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.events import Kind, ResyncPayload
from pbscast_ingest.comparison import Shown, appeared, changed, is_same, shown, vanished
from pbscast_ingest.translation import KINDS, object_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from pbscast_ingest.chronicle import Chronicle
    from pbscast_ingest.comparison import TableRow
    from pbscast_ingest.follower import Follower
    from pbscast_ingest.reader import Journal, Snapshot
    from pbscast_store.drafts import Draft
    from pbscast_store.log import Log
    from pbscast_store.records import ObjectState

_log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Events of one append."""

ASKED: Final = 200
"""Objects that the log is asked for at once, and that are in memory as it knows them."""

MOST_ROWS: Final = 2000
"""Rows of PBS's tables that are kept until the snapshot is closed."""


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
        self._touched: defaultdict[Kind, set[str]] = defaultdict(set)
        """Objects of which the journal told after the projection was read."""
        self._unlike: list[tuple[TableRow, bool]] = []
        """Rows that differ, and whether the log may know the object."""
        self._drafts: list[Draft] = []
        self._appeared = self._changed = self._vanished = 0

    async def run(self, journal: Journal) -> None:
        """Compare and log. Raises DatastoreError, or what the log raises; then it is still due.

        So it is if stopping was set meanwhile.
        """
        await self._chronicle.flush()
        known = {kind: await self._known(kind) for kind in KINDS.values()}
        async with journal.snapshot() as snapshot:
            now = await self._drain(snapshot)
            for kind, shown_before in known.items():
                await self._compare(snapshot, kind, shown_before, now)
        await self._tell_unlike(now)
        if self._stopping.is_set():
            return
        for kind, left in known.items():
            await self._bury(kind, left.keys() | self._touched[kind], now)
        await self._flush()
        await self._finish(now)

    async def _known(self, kind: Kind) -> dict[str, Shown]:
        async with aclosing(self._log.objects(self._site, kind)) as states:
            return {state.id: shown(state) async for state in states}

    async def _drain(self, snapshot: Snapshot) -> datetime:
        while True:
            page = await snapshot.page(self._chronicle.cursor)
            for row in page.rows:
                if row.kind in KINDS:
                    self._touched[KINDS[row.kind]].add(object_id(row, self._site))
            await self._follower.take(page)
            if not page.more:
                await self._chronicle.flush()
                return page.now

    async def _compare(
        self, snapshot: Snapshot, kind: Kind, known: dict[str, Shown], now: datetime
    ) -> None:
        """Leave in known, and in what was touched, only the objects that have no row."""
        name = self._site if kind is Kind.SERVER else None
        async with aclosing(snapshot.rows(kind, name)) as rows:
            async for row in rows:
                before, is_touched = known.pop(row.id, None), row.id in self._touched[kind]
                self._touched[kind].discard(row.id)
                if is_touched or before is None or not is_same(row, before):
                    self._unlike.append((row, is_touched or before is not None))
                if len(self._unlike) >= MOST_ROWS:
                    await self._tell_unlike(now)
                if self._stopping.is_set():
                    return

    async def _tell_unlike(self, now: datetime) -> None:
        rows, self._unlike = self._unlike, []
        for place in range(0, len(rows), ASKED):
            if self._stopping.is_set():
                break
            some = rows[place : place + ASKED]
            known = await self._ask([row for row, is_known in some if is_known])
            for row, _ in some:
                await self._compare_row(row, known.get((row.kind, row.id)), now)
        await self._flush()

    async def _ask(self, rows: Sequence[TableRow]) -> dict[tuple[Kind, str], ObjectState]:
        """Return what the log knows of them; what is added meanwhile is of others."""
        known: dict[tuple[Kind, str], ObjectState] = {}
        for kind in {row.kind for row in rows}:
            names = [row.id for row in rows if row.kind is kind]
            states = await self._log.objects_named(self._site, kind, names)
            known |= {(kind, name): state for name, state in states.items()}
        return known

    async def _compare_row(self, row: TableRow, state: ObjectState | None, now: datetime) -> None:
        if state is None or state.gone:
            self._appeared += 1
            await self._add(appeared(row, now))
        elif state.born and row.created and state.born != row.created:
            self._vanished += 1
            self._appeared += 1
            await self._add([vanished(state, now), *appeared(row, now)])
        else:
            drafts = changed(row, state, now)
            drafts = [draft for draft in drafts if not self._chronicle.is_told(draft, state)]
            self._changed += bool(drafts)
            await self._add(drafts)

    async def _bury(self, kind: Kind, names: Collection[str], now: datetime) -> None:
        # The DELETE of a subjob that waits is known; its end is told when its time has come.
        lost = {name for name in names if name not in self._chronicle.pending}
        if not lost:
            return
        async with aclosing(self._log.objects(self._site, kind)) as states:
            async for state in states:
                if state.id in lost:
                    self._vanished += 1
                    await self._add([vanished(state, now)])

    async def _add(self, drafts: list[Draft]) -> None:
        self._drafts += drafts
        if len(self._drafts) >= (1 if self._chronicle.is_careful else BATCH):
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
        _log.info("resync done", site=self._site, **payload.model_dump())
