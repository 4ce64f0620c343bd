"""What a site's worker writes: drafts and the cursor that goes with them, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pbscast.events import (
    EventName,
    GapPayload,
    Kind,
    LivenessPayload,
    Provenance,
    ResyncPayload,
)
from pbscast_ingest import metrics
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.pending import Pending
from pbscast_store.drafts import Draft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pbscast.events import Payload
    from pbscast_store.writer import AppendResult, SiteWriter


class _Running(NamedTuple):
    """An append that the log has not confirmed yet."""

    task: asyncio.Task[AppendResult]
    cursor: Cursor
    drafts: int


class Chronicle:
    """The writer of a site, its cursor and the deletes that wait, moved together in each append."""

    def __init__(self, writer: SiteWriter) -> None:
        self.site = writer.site
        self.cursor = Cursor.load(writer.cursor)
        self.pending = Pending(self.cursor.waiting)
        self.is_new = writer.position == 0
        """Whether the log knew nothing of the site when this began."""
        self.durable = self.cursor
        """The cursor as the log has it: what lies before its floor may be trimmed."""
        self._writer = writer
        self._running: _Running | None = None
        metrics.POSITION.labels(self.site).set(writer.position)

    @property
    def position(self) -> int:
        """Position of the last event."""
        return self._writer.position

    async def append(self, drafts: Sequence[Draft], cursor: Cursor | None = None) -> None:
        """Log events and move the cursor, in one transaction, after all appends before it.

        Returns once the append before is durable: while the log writes one the next is prepared.
        Raises what SiteWriter.append raises, for that one; flush waits for the last.
        """
        self.cursor = replace(cursor or self.cursor, waiting=self.pending.dump())
        before, self._running = self._running, self._start(drafts, self.cursor)
        await self._finish(before)

    async def flush(self) -> None:
        """Wait until everything is durable. Raises what SiteWriter.append raises."""
        running, self._running = self._running, None
        await self._finish(running)

    def _start(self, drafts: Sequence[Draft], cursor: Cursor) -> _Running:
        appending = self._writer.append(drafts, cursor.dump())
        return _Running(asyncio.create_task(appending), cursor, len(drafts))

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
        metrics.EVENTS.labels(self.site).inc(running.drafts - result.dropped)
        metrics.DROPPED.labels(self.site).inc(result.dropped)

    async def abandon(self) -> None:
        """Wait for what is under way, however it ends."""
        running, self._running = self._running, None
        if running is not None:
            await asyncio.wait([running.task])
            if not running.task.cancelled():
                running.task.exception()

    def tell(self, event: EventName, payload: Payload, time: datetime | None = None) -> Draft:
        """Return an event about the site itself."""
        return Draft(
            kind=Kind.SITE,
            id=self.site,
            event=event,
            time=time or datetime.now(UTC),
            provenance=Provenance.RESYNC if event is EventName.RESYNC else Provenance.JOURNAL,
            payload=payload,
        )

    async def rise(self, now: datetime) -> None:
        """Say that the site is up, unless that was the last word."""
        if self.cursor.up is not True:
            draft = self.tell(EventName.UP, LivenessPayload(), now)
            await self.append([draft], replace(self.cursor, up=True))

    async def fall(self, cause: str) -> None:
        """Say that the site is down, unless that was the last word."""
        if drafts := self._falling(cause):
            await self.append(drafts, replace(self.cursor, up=False))

    def _falling(self, cause: str) -> list[Draft]:
        if self.cursor.up is not True:
            return []
        return [self.tell(EventName.DOWN, LivenessPayload(cause=cause))]

    async def darken(self, cause: str, **cursor: Any) -> None:
        """Changes are no longer journaled; the gap is told when it ends, ``down`` at once."""
        drafts, blind = self._falling(cause), self.cursor.blind or cause
        up = False if drafts else self.cursor.up
        await self.append(drafts, replace(self.cursor, up=up, blind=blind, **cursor))

    async def gap(
        self,
        cause: str,
        begin: datetime | None,
        end: datetime,
        *,
        skip: bool = False,
        **cursor: Any,
    ) -> None:
        """Log a gap that has ended; a resync is due now. Other arguments change the cursor."""
        metrics.GAPS.labels(self.site).inc()
        due = {"cause": cause, "skip": skip}
        drafts = [self.tell(EventName.GAP, GapPayload(begin=begin, end=end, cause=cause), end)]
        if self.cursor.up is not True:
            drafts.append(self.tell(EventName.UP, LivenessPayload(), end))
        changes = {"due": due, "up": True, "blind": "", **cursor}
        await self.append(drafts, replace(self.cursor, **changes))

    async def finish_resync(
        self, payload: ResyncPayload, now: datetime, answered: Mapping[str, Any] | None
    ) -> None:
        """Log that the projection agrees with the datastore again; a newer gap is still due."""
        metrics.RESYNCS.labels(self.site).inc()
        draft = self.tell(EventName.RESYNC, payload, now)
        due = None if self.cursor.due is answered else self.cursor.due
        await self.append([draft], replace(self.cursor, due=due))
