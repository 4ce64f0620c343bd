"""From a connected journal to the log: read, translate, append, resync where it is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.events import Kind
from pbscast_ingest import metrics
from pbscast_ingest.comparison import TableRow, changed
from pbscast_ingest.corrections import correct
from pbscast_ingest.cursor import witness
from pbscast_ingest.segments import Segment, cut
from pbscast_ingest.translation import KINDS, object_id, translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast_ingest.chronicle import Chronicle
    from pbscast_ingest.cursor import Cursor
    from pbscast_ingest.reader import Page
    from pbscast_ingest.rows import JournalRow
    from pbscast_store.drafts import Draft
    from pbscast_store.log import Log

TRUNCATED: Final = "tables of PBS were truncated"

_log = structlog.get_logger(__name__)


class Follower:
    """Brings pages of a journal into the log of its site, each row once and in order."""

    def __init__(self, log: Log, chronicle: Chronicle) -> None:
        self._log = log
        self._chronicle = chronicle
        self._site = chronicle.site
        self._met: set[tuple[str, str]] = set()
        self.beats: list[JournalRow] = []
        """The heartbeats that came; whoever takes note of them empties it."""

    async def take(self, page: Page) -> None:
        """Log what a page says and move the cursor past it."""
        chronicle = self._chronicle
        self.beats += [row for row in page.rows if row.op == "H"]
        if chronicle.cursor.due and chronicle.cursor.due.get("skip"):
            await self._skip(page)
            return
        prefix: list[Draft] = []
        corrections = await self._corrections(page.rows) if chronicle.cursor.due else {}
        for segment in cut(page.rows, chronicle.pending, self._site, page.now, corrections):
            await self._append(prefix + segment.drafts, segment, page.bound)
            prefix = await self._resolve(segment, page.bound)
        await self._close(page)
        metrics.ROWS.labels(self._site).inc(len(page.rows))

    async def _skip(self, page: Page) -> None:
        """Pass over rows of a restored journal: nobody can say which of them were read before."""
        segment = Segment([], [row.seq for row in page.rows], page.rows[-1] if page.rows else None)
        await self._append([], segment, page.bound)

    async def _append(self, drafts: list[Draft], segment: Segment, bound: int | None) -> None:
        if drafts or segment.seqs:
            cursor = _past(self._chronicle.cursor, segment.seqs, segment.last, bound)
            await self._chronicle.append(drafts, cursor)

    async def _resolve(self, segment: Segment, bound: int | None) -> list[Draft]:
        """Deal with the row that a segment stopped at; its events are logged together with it."""
        row = segment.stop
        if row is None:
            return []
        if row.op == "I" and segment.error is None:
            self._chronicle.pending.resume(row.key)
            return await self._resume(row)
        # Whatever is logged of such a row is logged in the append that moves the cursor past it.
        self._chronicle.cursor = _past(self._chronicle.cursor, [row.seq], row, bound)
        if segment.error:
            await self._misunderstood(row, segment.error)
        else:
            await self._gap(row)
        return []

    async def _misunderstood(self, row: JournalRow, error: Exception) -> None:
        metrics.UNTRANSLATED.labels(self._site).inc()
        _log.error("row not understood", site=self._site, seq=row.seq, exc_info=error)
        await self._chronicle.gap(f"journal row {row.seq} was not understood", row.at, row.at)

    async def _resume(self, row: JournalRow) -> list[Draft]:
        """Return what the INSERT of a subjob that goes on changed."""
        await self._chronicle.flush()
        state = await self._log.object(self._site, Kind.JOB, row.key)
        if state is None:
            return translate(row, self._site)
        table_row = TableRow(Kind.JOB, row.key, row.created, row.changed, row.columns, row.escaped)
        drafts = changed(table_row, state, row.at)
        return [replace(draft, provenance=draft.provenance.JOURNAL) for draft in drafts]

    async def _gap(self, row: JournalRow) -> None:
        due, blind = self._chronicle.cursor.due, self._chronicle.cursor.blind
        # One statement empties all tables (pbs_server -t create), and leaves a row for each.
        is_told = due is not None and due.get("cause") == TRUNCATED
        since = _moment(row.context.get("since")) or row.at
        if row.op == "T" and not is_told:
            await self._chronicle.gap(TRUNCATED, row.at, row.at)
        elif row.op == "T":
            await self._chronicle.append([])
        elif row.context.get("phase") != "begin":
            await self._chronicle.gap(row.key, self._dark_since(since), row.at)
        elif not blind:
            await self._chronicle.darken(row.key, seen=since.isoformat())
        else:
            await self._chronicle.append([])

    def _dark_since(self, since: datetime) -> datetime:
        """The marker of an end knows no more than itself; the gap is as old as what began it."""
        cursor = self._chronicle.cursor
        seen = _moment(cursor.seen) if cursor.blind else None
        return min(since, seen) if seen else since

    async def _close(self, page: Page) -> None:
        """Draw the conclusions of a page that needed all its rows."""
        if page.more:
            return
        chronicle = self._chronicle
        drafts = chronicle.pending.pass_time(page.now)
        cursor = chronicle.cursor.settle(page.xmin)
        if drafts or cursor is not chronicle.cursor:
            await chronicle.append(drafts, cursor)

    async def _corrections(self, rows: Sequence[JournalRow]) -> dict[int, list[Draft]]:
        found: dict[int, list[Draft]] = {}
        for row in rows:
            if row.kind not in KINDS or row.op not in "IUD":
                continue
            name = object_id(row, self._site)
            if (row.kind, name) in self._met or name in self._chronicle.pending:
                continue
            self._met.add((row.kind, name))
            if row.op == "I" and self._chronicle.is_new:
                continue
            await self._chronicle.flush()
            state = await self._log.object(self._site, KINDS[row.kind], name)
            if drafts := correct(row, state, name):
                found[row.seq] = drafts
        return found

    def forget(self) -> None:
        """Drop what was remembered while a resync was due."""
        self._met.clear()


def _past(
    before: Cursor, seqs: Sequence[int], last: JournalRow | None, bound: int | None
) -> Cursor:
    cursor = before.advance(seqs, bound)
    if last and cursor.top > before.top:
        cursor = replace(cursor, witness=witness(last.xid, last.at))
    return cursor


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
