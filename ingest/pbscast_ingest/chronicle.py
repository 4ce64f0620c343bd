"""What a site's worker writes: drafts and the cursor that goes with them, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pbscast.events import EventName, Kind
from pbscast_ingest import metrics
from pbscast_ingest.condition import falling, tell
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.pending import Pending
from pbscast_ingest.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from pbscast.events import ResyncPayload
    from pbscast_ingest.condition import Word
    from pbscast_store.drafts import Draft
    from pbscast_store.heads import Head, ObjectKey
    from pbscast_store.records import ObjectState
    from pbscast_store.writer import AppendResult, SiteWriter


class _Running(NamedTuple):
    """An append that the log has not confirmed yet."""

    task: asyncio.Task[AppendResult]
    cursor: Cursor
    drafts: Sequence[Draft]


class Chronicle:
    """The writer of a site, its cursor and the deletes that wait, moved together in each append."""

    def __init__(self, writer: SiteWriter, refusals: Refusals | None = None) -> None:
        self.site = writer.site
        self._refusals = refusals or Refusals(self.site)
        self.cursor = Cursor.load(writer.cursor)
        self.pending = Pending(self.cursor.waiting)
        self.durable = self.cursor
        """The cursor as the log has it: what lies before its floor may be trimmed."""
        self._writer = writer
        self._appended = self.cursor
        self._running: _Running | None = None
        metrics.POSITION.labels(self.site).set(writer.position)

    @property
    def position(self) -> int:
        """Position of the last event."""
        return self._writer.position

    @property
    def is_careful(self) -> bool:
        """Whether the log refused something, so that each append is of one row or object."""
        return self._refusals.is_careful

    def is_told(self, draft: Draft, state: ObjectState) -> bool:
        """Whether the log has of a change what it takes of it."""
        return self._refusals.is_told(draft, state)

    async def append(self, drafts: Sequence[Draft], cursor: Cursor | None = None) -> None:
        """Log events and move the cursor, in one transaction, after all appends before it.

        Returns once the append before is durable: while the log writes one the next is prepared.
        Raises what SiteWriter.append raises, for that one; flush waits for the last.
        """
        self.cursor = replace(cursor or self.cursor, waiting=self.pending.dump())
        self._appended = self.cursor
        before, self._running = self._running, self._start(drafts, self.cursor)
        await self._finish(before)
        if self.is_careful:
            await self.flush()

    async def flush(self) -> None:
        """Wait until everything is durable. Raises what SiteWriter.append raises."""
        running, self._running = self._running, None
        await self._finish(running)

    def _start(self, drafts: Sequence[Draft], cursor: Cursor) -> _Running:
        drafts = self._refusals.temper(drafts)
        return _Running(asyncio.create_task(self._write(drafts, cursor)), cursor, drafts)

    async def _write(self, drafts: Sequence[Draft], cursor: Cursor) -> AppendResult:
        try:
            result = await self._writer.append(drafts, cursor.dump())
        except Exception as error:
            self._refusals.refuse(error, drafts, self._writer.position)
            raise
        self._refusals.accept(drafts)
        return result

    async def _finish(self, running: _Running | None) -> None:
        if running is None:
            return
        try:
            result = await running.task
        except BaseException:
            # Later appends fail as well, by what this one says better.
            await self.abandon()
            raise
        self.durable = running.cursor
        metrics.POSITION.labels(self.site).set(result.last)
        metrics.EVENTS.labels(self.site).inc(len(running.drafts) - result.dropped)
        metrics.DROPPED.labels(self.site).inc(result.dropped)

    async def heads(self, keys: AbstractSet[ObjectKey]) -> dict[ObjectKey, Head]:
        """Where objects stand after all that was appended; those never seen are left out."""
        # Tasks begin in the order in which they are made: after the append that is under way.
        return await asyncio.create_task(self._writer.heads(keys))

    async def settle(self, jobs: AbstractSet[str]) -> None:
        """Wait until all that was appended of these jobs is durable. Raises as flush."""
        running = self._running
        if running and any(d.kind is Kind.JOB and d.id in jobs for d in running.drafts):
            await self.flush()

    async def abandon(self) -> None:
        """Wait for what is under way, however it ends."""
        running, self._running = self._running, None
        if running is not None:
            await asyncio.wait([running.task])
            if not running.task.cancelled():
                running.task.exception()

    async def say(self, word: Word) -> None:
        """Log what is to be said of the site; a cursor without events waits for the next append."""
        metrics.GAPS.labels(self.site).inc(_count(word.drafts, EventName.GAP))
        if word.drafts:
            await self.append(word.drafts, word.cursor)
        else:
            self.cursor = word.cursor

    async def catch_up(self) -> None:
        """Log the cursor if it says more than the log, but for when capture was seen to work."""
        if self.cursor is self._appended:
            return
        same = replace(self.cursor, shaped=self._appended.shaped)
        if not same.blind:
            same = replace(same, seen=self._appended.seen)
        if same != self._appended:
            await self.append([])

    async def fall(self, cause: str) -> None:
        """Say that the site is down, unless that was the last word."""
        if drafts := falling(self.cursor, self.site, cause):
            await self.append(drafts, replace(self.cursor, up=False))

    async def finish_resync(
        self, payload: ResyncPayload, now: datetime, answered: Mapping[str, Any] | None
    ) -> None:
        """Log that the projection agrees with the datastore again; a newer gap is still due."""
        metrics.RESYNCS.labels(self.site).inc()
        draft = tell(self.site, EventName.RESYNC, payload, now)
        due = None if self.cursor.due is answered else self.cursor.due
        await self.append([draft], replace(self.cursor, due=due))


def _count(drafts: Sequence[Draft], event: EventName) -> int:
    return sum(draft.event is event for draft in drafts)
