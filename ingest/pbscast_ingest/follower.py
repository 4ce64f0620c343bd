"""From a connected journal to the log: read, translate, append, resync where it is due."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from pbscast.events import Kind
from pbscast_ingest import metrics
from pbscast_ingest.condition import DELETED, moment
from pbscast_ingest.corrections import correct, introduce, is_at_odds, split
from pbscast_ingest.cursor import witness
from pbscast_ingest.faults import UnreadableRowError
from pbscast_ingest.segments import RenamedError, Segment, cut
from pbscast_ingest.subjobs import Subjobs, returning
from pbscast_ingest.translation import KINDS, object_id
from pbscast_store.heads import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pbscast_ingest.chronicle import Chronicle
    from pbscast_ingest.condition import Condition
    from pbscast_ingest.cursor import Cursor
    from pbscast_ingest.reader import Page
    from pbscast_ingest.rows import JournalRow
    from pbscast_ingest.watchdog import Watchdog
    from pbscast_store.drafts import Draft
    from pbscast_store.heads import Head
    from pbscast_store.log import Log

_log = structlog.get_logger(__name__)


class Follower:
    """Brings pages of a journal into the log of its site, each row once and in order."""

    def __init__(
        self, log: Log, chronicle: Chronicle, condition: Condition, watchdog: Watchdog
    ) -> None:
        self._log = log
        self._chronicle = chronicle
        self._condition = condition
        self._watchdog = watchdog
        self._site = chronicle.site
        self._beat_at: datetime | None = None

    async def take(self, page: Page) -> None:
        """Log what a page says and move the cursor past it."""
        await self._note(page)
        for rows in split(await self._skip(page)):
            await self._log_rows(rows, page)
        await self._close(page)
        metrics.ROWS.labels(self._site).inc(len(page.rows))

    async def _log_rows(self, rows: Sequence[JournalRow], page: Page) -> None:
        # Both at once: what is far away is asked for as seldom as can be.
        firsts = self._firsts(rows)
        subjobs, heads = await asyncio.gather(self._subjobs(rows), self._heads(firsts))
        corrections = await self._corrections(firsts, heads)
        pending = self._chronicle.pending
        for segment in cut(rows, pending, self._site, page.now, corrections, subjobs):
            await self._append(segment.drafts, segment, page.bound)
            await self._resolve(segment, page.bound)
            if segment.error and segment.stop:
                # What the row did is not in the log: the next of its object may not follow.
                rest = [row for row in rows if row.seq > segment.stop.seq]
                firsts = self._firsts(rest)
                corrections.clear()
                corrections.update(await self._corrections(firsts, await self._heads(firsts)))

    async def _subjobs(self, rows: Sequence[JournalRow]) -> Subjobs:
        names = returning(rows, self._chronicle.pending)
        if not names:
            return Subjobs((), {})
        await self._chronicle.settle(names)
        return Subjobs(names, await self._log.objects_named(self._site, Kind.JOB, sorted(names)))

    async def _note(self, page: Page) -> None:
        """Take note of what was lost, and of heartbeats, before the rows that follow it."""
        chronicle, condition = self._chronicle, self._condition
        await chronicle.say(condition.count(chronicle.cursor, page))
        beats = [row for row in page.rows if row.op == "H"]
        self._watchdog.hear([row.seq for row in beats])
        if self._watchdog.miss(self._beyond(page), is_end=not page.more):
            # Where one was deleted, so may have been others.
            known = [at for at in (self._beat_at, moment(chronicle.cursor.seen)) if at]
            since = min(known) if known else None
            await chronicle.say(condition.lose(chronicle.cursor, DELETED, since))
        if beats:
            self._beat_at = beats[-1].at
            metrics.HEARTBEAT.labels(self._site).set(self._beat_at.timestamp())

    def _beyond(self, page: Page) -> Cursor:
        cursor = self._chronicle.cursor
        if not self._watchdog.awaits:
            return cursor
        return cursor.advance((row.seq for row in page.rows), page.bound)

    async def _skip(self, page: Page) -> Sequence[JournalRow]:
        """Pass over the rows that were told before; return the others."""
        old = (self._chronicle.cursor.due or {}).get("old", 0)
        if not page.rows or page.rows[0].seq > old:
            return page.rows
        told = [row for row in page.rows if row.seq <= old]
        await self._append([], Segment([], [row.seq for row in told], told[-1]), page.bound)
        return page.rows[len(told) :]

    async def _append(self, drafts: list[Draft], segment: Segment, bound: int | None) -> None:
        if drafts or segment.seqs:
            cursor = _past(self._chronicle.cursor, segment.seqs, segment.last, bound)
            await self._chronicle.append(drafts, cursor)

    async def _resolve(self, segment: Segment, bound: int | None) -> None:
        """Deal with the row that a segment stopped at."""
        row = segment.stop
        if row is None:
            return
        # Whatever is logged of such a row is logged in the append that moves the cursor past it.
        self._chronicle.cursor = _past(self._chronicle.cursor, [row.seq], row, bound)
        if segment.error:
            await self._misunderstood(row, segment.error)
        else:
            read = self._condition.truncate if row.op == "T" else self._condition.mark
            await self._chronicle.say(read(self._chronicle.cursor, row))

    async def _misunderstood(self, row: JournalRow, error: Exception) -> None:
        metrics.UNTRANSLATED.labels(self._site).inc()
        _log.error("row not understood", site=self._site, seq=row.seq, exc_info=error)
        cause = f"journal row {row.seq} was not understood"
        if isinstance(error, RenamedError):
            cause = str(error)
        elif isinstance(error, UnreadableRowError):
            cause = f"journal row {row.seq} ({row.kind} {row.key}) was not read: {error}"
        await self._chronicle.say(
            self._condition.gap(self._chronicle.cursor, cause, row.at, row.at)
        )

    async def _close(self, page: Page) -> None:
        """Draw the conclusions of a page that needed all its rows."""
        chronicle = self._chronicle
        if page.more:
            await chronicle.catch_up()
            if page.rows:
                # No backlog may gather holes; that they are gone is in the next append.
                chronicle.cursor = chronicle.cursor.settle(page.xmin, page.rows[-1].seq)
            return
        drafts = chronicle.pending.pass_time(page.now)
        cursor = chronicle.cursor.settle(page.xmin)
        if drafts or cursor is not chronicle.cursor:
            await chronicle.append(drafts, cursor)
        await chronicle.catch_up()

    async def _heads(self, firsts: Mapping[ObjectKey, JournalRow]) -> dict[ObjectKey, Head]:
        return await self._chronicle.heads(firsts.keys()) if firsts else {}

    async def _corrections(
        self, firsts: Mapping[ObjectKey, JournalRow], heads: Mapping[ObjectKey, Head]
    ) -> dict[int, list[Draft]]:
        """Return what belongs before the first rows of objects, by seq, where changes were missed.

        Always asked: capture may have been off without a sign until the next look at it.
        """
        found: dict[int, list[Draft]] = {}
        for key, row in firsts.items():
            if row.kind == Kind.JOB and key.id in self._chronicle.pending:
                # Its DELETE is told before; only an INSERT can follow that.
                found[row.seq] = introduce(row, key.id)
            elif is_at_odds(row, heads.get(key)):
                await self._chronicle.flush()
                state = await self._log.object(self._site, key.kind, key.id)
                found[row.seq] = correct(row, state, key.id)
        return found

    def _firsts(self, rows: Sequence[JournalRow]) -> dict[ObjectKey, JournalRow]:
        """Return the first row of each object: the others follow from it."""
        firsts: dict[tuple[str, str], JournalRow] = {}
        for row in rows:
            if row.op in "IUD":
                firsts.setdefault((row.kind, row.key), row)
        return {
            ObjectKey(row.kind, object_id(row, self._site)): row
            for row in firsts.values()
            if row.kind in KINDS
        }


def _past(
    before: Cursor, seqs: Sequence[int], last: JournalRow | None, bound: int | None
) -> Cursor:
    cursor = before.advance(seqs, bound)
    if last and cursor.top > before.top:
        cursor = replace(cursor, witness=witness(last.xid, last.at))
    return cursor
