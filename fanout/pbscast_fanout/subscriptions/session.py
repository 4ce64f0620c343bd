"""One go at delivering a site: from what is stored until something goes wrong."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from pbscast_fanout.subscriptions.checkpoints import Checkpoint
from pbscast_fanout.subscriptions.errands import Errands
from pbscast_fanout.subscriptions.recovery import recover
from pbscast_fanout.subscriptions.sending import Sender
from pbscast_fanout.subscriptions.stream import Place
from pbscast_fanout.subscriptions.writer import DeliveryWriter

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.subscriptions.bell import Bell
    from pbscast_fanout.subscriptions.joined import Joined
    from pbscast_fanout.subscriptions.means import Means
    from pbscast_fanout.subscriptions.progress import DeliveryProgress
    from pbscast_fanout.subscriptions.recovery import Recovered
    from pbscast_fanout.subscriptions.site import SiteDeliveries, Turn
    from pbscast_store.records import Record

PAGE: Final = 250
PAGE_BYTES: Final = 2 * 1024 * 1024
"""Of events that are matched at once: what is stored together waits for all of them."""

DRAWN: Final = 400
"""Messages to those who join that are stored at once, so that they delay no event for long."""

CHECKPOINT_SECONDS: Final = 60.0
CHECKPOINT_EVENTS: Final = 10_000
"""Who takes over replays no more."""

_log = structlog.get_logger(__name__)


class Session:
    """Delivers; everything raises what NATS and the log raise. ``aclose`` it."""

    @classmethod
    async def begin(
        cls, site: Site, means: Means, bell: Bell, progress: DeliveryProgress
    ) -> Session:
        """Recover, and become the one who writes the site."""
        bell.changed.clear()
        writer = DeliveryWriter(means.connection, site, means.slots)
        recovered = await recover(site, means, await writer.find())
        await writer.mark(recovered.place)
        session = cls(site, means, bell, progress, writer, recovered)
        try:
            await session._start(recovered)
        except BaseException:
            await session.aclose()
            raise
        return session

    def __init__(
        self,
        site: Site,
        means: Means,
        bell: Bell,
        progress: DeliveryProgress,
        writer: DeliveryWriter,
        recovered: Recovered,
    ) -> None:
        self._site = site
        self._means = means
        self._bell = bell
        self._progress = progress
        self._writer = writer
        self._core: SiteDeliveries = recovered.core
        self._sender = Sender(site, means, writer, recovered)
        self._errands = Errands(
            means.log, self._core, site, self._sender.numbers, means.reading, bell.nudge
        )
        self._notes: asyncio.Queue[tuple[str, Joined]] = asyncio.Queue()
        self._noting = asyncio.create_task(self._keep_notes())
        self._storing: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[list[Record]] | None = None
        self._stored = self._core.position
        self._stored_at = monotonic()
        self._has_sent = False
        """Whether messages were numbered since."""
        self._hurries = False
        """Whether somebody waits for the place to be stored."""

    async def _start(self, recovered: Recovered) -> None:
        place, core = recovered.place, self._core
        core.begin()
        # Before anything is told that only a checkpoint would remember: who has left what.
        await self._means.checkpoints.store(self._site, self._checkpoint())
        if place.key is not None:
            # An event that was told to some only, in the order of their ids.
            for record in await self._means.log.read(self._site, place.position - 1, 1):
                core.take(record, place.key)
        for key in recovered.resumed:
            self._means.completing.consider(key)
        self._bell.ring()
        _log.info(
            "delivering",
            site=self._site,
            position=place.position,
            subscriptions=len(core),
            resumed=len(recovered.resumed),
        )

    async def run(self) -> None:
        """Deliver until no subscription covers the site."""
        while len(self._core):
            self._check()
            self._take_changes()
            self._errands.start(self._core.errands())
            await self._read()
            turn = self._core.draw(DRAWN)
            await self._sender.send(turn, Place(self._core.position))
            self._said(turn)
            if self._writer.mark_due <= 0:
                await self._mark()
            if self._is_checkpoint_due():
                await self._keep_checkpoint()
            self._progress.reach(self._core.position, len(self._core), self._core.joining)
            if not (self._bell.unread or self._core.is_telling):
                await self._rest()

    async def aclose(self) -> None:
        """Give up what is under way."""
        await self._errands.aclose()
        under_way = (self._noting, self._storing, self._ahead)
        tasks = [task for task in under_way if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check(self) -> None:
        """Raise what went wrong beside."""
        self._errands.check()
        for task in (self._noting, self._storing):
            if task is not None and task.done():
                task.result()

    def _take_changes(self) -> None:
        definitions = self._means.view.definitions
        changed, self._bell.changed = self._bell.changed, set()
        for key in changed:
            definition = definitions.get(key)
            if definition is None:
                self._core.remove(key)
            else:
                self._core.define(definition)
                self._means.completing.consider(key)

    async def _read(self) -> None:
        """Take the next page in; while it is stored the one after it is read."""
        if not self._bell.unread:
            return
        # Before the read starts: what is logged from now on rings again.
        self._bell.unread = False
        ahead, self._ahead = self._ahead, None
        records = await (ahead or self._start_reading())
        for record in records:
            self._core.take(record)
        if len(records) == PAGE or sum(len(record.payload) for record in records) >= PAGE_BYTES:
            self._ahead = self._start_reading()
        self._bell.unread |= ahead is not None or self._ahead is not None

    def _start_reading(self) -> asyncio.Task[list[Record]]:
        reading = self._means.log.read(self._site, self._core.position, PAGE, max_bytes=PAGE_BYTES)
        return asyncio.create_task(reading)

    def _said(self, turn: Turn) -> None:
        """What may be done now that it is stored."""
        self._errands.drawn()
        self._has_sent |= bool(turn.deliveries)
        for event, keys in turn.ends:
            self._means.completing.note(event, keys)
            self._hurries |= bool(keys)
        for note in turn.settled:
            self._notes.put_nowait(note)

    async def _keep_notes(self) -> None:
        """Note who has joined; one after the other, so that the last word stays."""
        try:
            while True:
                key, joined = await self._notes.get()
                await self._means.joined.put(self._site, key, joined)
                self._means.completing.consider(key)
        finally:
            self._bell.nudge()

    async def _mark(self) -> None:
        await self._writer.mark(Place(self._core.position))
        self._hurries = False

    def _is_checkpoint_due(self) -> bool:
        if self._storing is not None and not self._storing.done():
            return False
        since = self._core.position - self._stored
        is_time = monotonic() - self._stored_at >= CHECKPOINT_SECONDS
        return since >= CHECKPOINT_EVENTS or (is_time and (since > 0 or self._has_sent))

    async def _keep_checkpoint(self) -> None:
        if self._writer.place != self._writer.marked:
            await self._mark()
        self._stored, self._stored_at = self._core.position, monotonic()
        self._has_sent = False
        storing = self._means.checkpoints.store(self._site, self._checkpoint())
        self._storing = asyncio.create_task(storing)

    def _checkpoint(self) -> Checkpoint:
        numbers = self._sender.numbers.all(self._core.keys())
        return Checkpoint(self._core.position, tuple(self._core.departures()), numbers)

    async def _rest(self) -> None:
        if self._hurries and self._writer.place != self._writer.marked:
            await self._mark()
        self._progress.rest()
        await self._bell.wait(self._writer.mark_due)
