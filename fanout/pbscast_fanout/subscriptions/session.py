"""One go at delivering a site: from what is stored until something goes wrong."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.errors import UnavailableError
from pbscast_fanout.subscriptions.checkpoints import Checkpoint
from pbscast_fanout.subscriptions.errands import Errands
from pbscast_fanout.subscriptions.recovery import recover
from pbscast_fanout.subscriptions.sending import Sender
from pbscast_fanout.subscriptions.writer import DeliveryWriter

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.subscriptions.bell import Bell
    from pbscast_fanout.subscriptions.means import Means
    from pbscast_fanout.subscriptions.outboxes import Turn
    from pbscast_fanout.subscriptions.progress import DeliveryProgress
    from pbscast_fanout.subscriptions.recovery import Recovered
    from pbscast_fanout.subscriptions.site import SiteDeliveries
    from pbscast_fanout.subscriptions.stream import Place
    from pbscast_store.records import Record

PAGE: Final = 250
LARGE_PAGE: Final = 1_000
"""Of one who is behind."""
PAGE_BYTES: Final = 2 * 1024 * 1024

_SPELL: Final = 20
_SPELL_MATCHES: Final = 200
"""Events, and messages that they make, before others have their turn."""

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
        bell.is_doubted = False
        writer = DeliveryWriter(means.connection, site, means.slots)
        recovered = await recover(site, means, writer)
        await writer.mark(recovered.claim)
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
        self.steps = 0
        """Which it has taken: somebody sees whether it gets on."""
        self.rests = False
        """Whether there is nothing to do."""
        self._site = site
        self._means = means
        self._bell = bell
        self._progress = progress
        self._writer = writer
        self._core: SiteDeliveries = recovered.core
        self._sender = Sender(site, means, writer, recovered)
        self._notes = recovered.notes
        self._errands = Errands(means, self._core, site, self._sender.numbers, bell.nudge)
        self._noting = asyncio.create_task(self._notes.run(means.completing.consider))
        self._noting.add_done_callback(lambda _: bell.nudge())
        self._storing: asyncio.Task[None] | None = None
        self._sending: tuple[asyncio.Task[None], Turn] | None = None
        self._records: deque[Record] = deque()
        """Have been read, but not taken."""
        self._ahead: asyncio.Task[list[Record]] | None = None
        self._limit = PAGE
        self._last: tuple[int, bytes | None] = 0, None
        """Position and digest of the last event that was read."""
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
        self._last = core.position, core.digest
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
            self.steps += 1
            self._check()
            self._take_changes()
            self._errands.start(self._core.errands())
            await self._take()
            await self._tell(self._core.draw(DRAWN))
            self._errands.drawn()
            if not self._is_busy:
                await self._stored_all()
            if self._writer.mark_due <= 0:
                await self._mark()
            if self._is_checkpoint_due():
                await self._keep_checkpoint()
            told = self._writer.place
            self._progress.reach(told.position if told else 0, len(self._core), self._core.joining)
            if not self._is_busy:
                await self._rest()
        await self._stored_all()

    @property
    def _is_busy(self) -> bool:
        """Whether there is something to tell, as far as is known."""
        return self._bell.unread or bool(self._records) or self._core.is_telling

    async def aclose(self) -> None:
        """Give up what is under way."""
        await self._errands.aclose()
        sending = None if self._sending is None else self._sending[0]
        under_way = (self._noting, self._storing, self._ahead, sending)
        tasks = [task for task in under_way if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._core.close()

    def _check(self) -> None:
        """Raise what went wrong beside."""
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

    async def _take(self) -> None:
        """Take in as many events as may be told at once."""
        if not self._records:
            await self._read()
        taken = spelt = 0
        while self._records and not self._core.is_burdened:
            self._core.take(self._records.popleft())
            taken += 1
            if taken % _SPELL == 0 or self._core.burden - spelt >= _SPELL_MATCHES:
                spelt = self._core.burden
                await asyncio.sleep(0)

    async def _read(self) -> None:
        """Get the next page; while it is told the one after it is read."""
        if self._bell.is_doubted:
            await self._look_at_end()
        if not self._bell.unread:
            return
        # Before the read starts: what is logged from now on rings again.
        self._bell.unread = False
        ahead, self._ahead = self._ahead, None
        records = await (ahead or self._start_reading())
        is_full = len(records) == self._limit
        is_full |= sum(len(record.payload) for record in records) >= PAGE_BYTES
        if records:
            if not records[0].follows(self._last[1]):
                raise self._restored()
            self._records.extend(records)
            self._last = records[-1].position, records[-1].digest
        self._limit = LARGE_PAGE if is_full else PAGE
        if is_full:
            self._ahead = self._start_reading()
        self._bell.unread |= ahead is not None or self._ahead is not None

    def _start_reading(self) -> asyncio.Task[list[Record]]:
        after, _ = self._last
        reading = self._means.log.read(self._site, after, self._limit, max_bytes=PAGE_BYTES)
        return asyncio.create_task(reading)

    async def _look_at_end(self) -> None:
        self._bell.is_doubted = False
        if await self._means.log.position(self._site) < self._last[0]:
            raise self._restored()

    def _restored(self) -> UnavailableError:
        msg = f"the log of {self._site} is not the one that was delivered: it was restored"
        return UnavailableError(msg)

    async def _tell(self, turn: Turn) -> None:
        """Encode it while what came before it is stored, then let it be stored."""
        *parts, last = turn.parts()
        for part in parts:
            await self._send(part, None)
        if last.deliveries or last.settled or last.ends or self._writer.place != self._core.place:
            await self._send(last, self._core.place)

    async def _send(self, turn: Turn, place: Place | None) -> None:
        self.steps += 1
        batch = await self._sender.prepare(turn, place)
        await self._stored_all()
        self._sending = asyncio.create_task(self._sender.store(batch)), turn

    async def _stored_all(self) -> None:
        """Wait until all that was told is stored, and say what may be said now."""
        if self._sending is not None:
            storing, turn = self._sending
            # Shielded: whoever gives us up gives it up in `aclose`.
            await asyncio.shield(storing)
            self._sending = None
            self._said(turn)

    def _said(self, turn: Turn) -> None:
        self._has_sent |= bool(turn.deliveries)
        for event, keys in turn.ends:
            self._means.completing.note(event, keys, self._core.lives)
            self._hurries |= bool(keys)
        for key, joined in turn.settled:
            self._notes.say(key, joined)

    async def _mark(self) -> None:
        """Say how far the site is told."""
        await self._stored_all()
        if (place := self._writer.place) is not None:
            await self._writer.mark(place)
        self._hurries = False

    def _is_checkpoint_due(self) -> bool:
        if self._storing is not None and not self._storing.done():
            return False
        since = self._core.position - self._stored
        is_time = monotonic() - self._stored_at >= CHECKPOINT_SECONDS
        return since >= CHECKPOINT_EVENTS or (is_time and (since > 0 or self._has_sent))

    async def _keep_checkpoint(self) -> None:
        await self._stored_all()
        if self._writer.place != self._writer.marked:
            await self._mark()
        self._sender.numbers.retain(self._core.keys())
        self._stored, self._stored_at = self._core.position, monotonic()
        self._has_sent = False
        storing = self._means.checkpoints.store(self._site, self._checkpoint())
        self._storing = asyncio.create_task(storing)

    def _checkpoint(self) -> Checkpoint:
        numbers = self._sender.numbers.all(self._core.keys())
        departures, notes = tuple(self._core.departures()), self._notes
        return Checkpoint(self._core.position, departures, numbers, notes.session, notes.known)

    async def _rest(self) -> None:
        if self._hurries and self._writer.place != self._writer.marked:
            await self._mark()
        self._progress.rest()
        self.rests = True
        await self._bell.wait(self._writer.mark_due)
        self.rests = False
