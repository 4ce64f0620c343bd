"""What a site's worker writes: drafts and the cursor that goes with them, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Sequence

    from pbscast.events import Payload
    from pbscast_store.writer import SiteWriter


class Chronicle:
    """The writer of a site, its cursor and the deletes that wait, moved together in each append."""

    def __init__(self, writer: SiteWriter) -> None:
        self.site = writer.site
        self.cursor = Cursor.load(writer.cursor)
        self.pending = Pending(self.cursor.waiting)
        self.is_new = writer.position == 0
        """Whether the log knew nothing of the site when this began."""
        self._writer = writer
        metrics.POSITION.labels(self.site).set(writer.position)

    @property
    def position(self) -> int:
        """Position of the last event."""
        return self._writer.position

    async def append(self, drafts: Sequence[Draft], cursor: Cursor | None = None) -> None:
        """Log events and move the cursor, in one transaction.

        Raises what SiteWriter.append raises.
        """
        cursor = replace(cursor or self.cursor, waiting=self.pending.dump())
        result = await self._writer.append(drafts, cursor.dump())
        self.cursor = cursor
        metrics.POSITION.labels(self.site).set(self._writer.position)
        metrics.EVENTS.labels(self.site).inc(len(drafts) - result.dropped)
        metrics.DROPPED.labels(self.site).inc(result.dropped)

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
        if self.cursor.up is True:
            draft = self.tell(EventName.DOWN, LivenessPayload(cause=cause))
            await self.append([draft], replace(self.cursor, up=False))

    async def darken(self, cause: str, **cursor: Any) -> None:
        """Changes are no longer journaled; the gap is told when it ends, ``down`` at once."""
        await self.fall(cause)
        blind = self.cursor.blind or cause
        await self.append([], replace(self.cursor, blind=blind, **cursor))

    async def gap(
        self,
        cause: str,
        begin: datetime | None,
        end: datetime,
        *,
        skip: bool = False,
        wait: bool = False,
        **cursor: Any,
    ) -> None:
        """Log a gap that has ended; a resync is due now. Other arguments change the cursor."""
        metrics.GAPS.labels(self.site).inc()
        due = {"cause": cause, "skip": skip, "wait": wait}
        drafts = [self.tell(EventName.GAP, GapPayload(begin=begin, end=end, cause=cause), end)]
        if self.cursor.up is not True:
            drafts.append(self.tell(EventName.UP, LivenessPayload(), end))
        changes = {"due": due, "up": True, "blind": "", **cursor}
        await self.append(drafts, replace(self.cursor, **changes))

    async def finish_resync(self, payload: ResyncPayload, now: datetime) -> None:
        """Log that the projection agrees with the datastore again."""
        metrics.RESYNCS.labels(self.site).inc()
        draft = self.tell(EventName.RESYNC, payload, now)
        await self.append([draft], replace(self.cursor, due=None))
