"""Publishes one site's log from the end of its part of the stream on.

Nothing is published twice because each message names what the site's part of the stream ended with
(see fences): of two workers that publish the same site, one is refused. That one stands by, and
takes over when the log runs ahead of a stream that no longer moves. Membership says which of the
workers is to publish, so that none tries in vain; the fence is what makes it right.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import FencedError, PbscastError, UnavailableError
from pbscast.requests import PublisherState
from pbscast_fanout import metrics
from pbscast_fanout.batches import mark_of, send_batch
from pbscast_fanout.costs import Costs
from pbscast_fanout.fences import send_one, split
from pbscast_fanout.pages import Pages
from pbscast_fanout.progress import Progress
from pbscast_fanout.resume import DivergedError, Place, find_place, renew
from pbscast_fanout.streams import ensure_stream, read_tail

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.batches import Message
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.settings import StreamSettings
    from pbscast_fanout.subscriptions.membership import Membership
    from pbscast_store.log import Log

STANDBY_POLL_SECONDS: Final = 0.5
TAKEOVER_SECONDS: Final = 2.0
"""How long a standby watches marks that do not move before it publishes, if nobody knows whose site
it is."""
FAILED_SECONDS: Final = 10.0
"""The same where another worker lives whose site it is: something keeps that one from it."""
INTRODUCTION_SECONDS: Final = 2.0
"""How long a new worker waits to learn whose the site is."""

LONGEST_RETRY: Final = 2.0
MARK_SECONDS: Final = 1.0
"""How long after the last mark events that went one by one get theirs."""

RENEWAL_SECONDS: Final = 60.0
"""How often a silent site's mark is written again.

The stream's limits then do not remove it, and the server finds the site's last message near its
end.
"""

_log = structlog.get_logger(__name__)


class SitePublisher:
    """Publishes one site for ever, whatever fails; ``progress`` tells how it goes.

    Each batch takes one of the ``slots`` that all sites share.
    """

    def __init__(
        self,
        site: Site,
        log: Log,
        connection: Connection,
        settings: StreamSettings,
        slots: asyncio.Semaphore,
        membership: Membership,
    ) -> None:
        self.progress = Progress(site)
        self._site = site
        self._log = log
        self._connection = connection
        self._settings = settings
        self._slots = slots
        self._membership = membership
        self._failed: frozenset[str] = frozenset()
        """The workers of which the one whose site it is does not publish it."""
        longest = timedelta(seconds=RENEWAL_SECONDS)
        self._renewal = min(longest, (settings.max_age or longest * 4) / 4).total_seconds()
        self._marked = monotonic()
        self._costs = Costs()
        self._news = asyncio.Event()
        self._is_behind = False
        """Whether the log was heard to end before what is published: it may be another one."""
        self._failures = 0

    def ring(self) -> None:
        """Say that the log has news of this site."""
        self._news.set()

    def hear(self, logged: int) -> None:
        """Say where the log ends."""
        self._is_behind = logged < self.progress.published
        self.progress.hear(logged)
        if self.progress.lag or self._is_behind:
            self.ring()

    async def run(self) -> NoReturn:
        """Publish, stand by or retry until cancelled."""
        await self._membership.known(INTRODUCTION_SECONDS)
        fenced = False
        while True:
            try:
                if fenced or self._is_others:
                    await self._stand_by()
                    fenced = False
                await self._publish()
            except FencedError:
                metrics.FENCED.labels(self._site).inc()
                self._failed = frozenset()
                fenced = True
            except PbscastError as error:
                await self._rest(error)
            except Exception as error:  # noqa: BLE001
                # One site's trouble, were it our own bug, must not stop the others.
                _log.exception("publisher_bug", site=self._site, position=self.progress.published)
                await self._rest(error)

    async def _rest(self, error: Exception) -> None:
        """Report a failure and wait: longer while it lasts, and not in step with other sites."""
        metrics.FAILURES.labels(self._site).inc()
        diverged = isinstance(error, DivergedError)
        state = PublisherState.DIVERGED if diverged else PublisherState.RETRYING
        self.progress.enter(state, str(error) or type(error).__name__)
        delay = min(LONGEST_RETRY, 0.1 * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    @property
    def _is_others(self) -> bool:
        """Whether another worker is to publish the site, and does."""
        workers = self._membership.workers
        return not self._membership.mine(self._site) and workers != self._failed

    async def _stand_by(self) -> None:
        """Return when it is this worker's turn, or the one whose turn it is does not publish."""
        self.progress.enter(PublisherState.STANDBY)
        seen, since = -1, 0.0
        while True:
            tail = await read_tail(self._connection, self._site)
            sequence, now = (tail.sequence if tail else 0), monotonic()
            # A stream without the site was emptied: all that it should hold waits.
            self.progress.reach(tail.position if tail else 0)
            if sequence != seen or not self.progress.lag:
                seen, since = sequence, now
            elif now - since >= (FAILED_SECONDS if self._is_others else TAKEOVER_SECONDS):
                _log.info("taking_over", site=self._site, position=self.progress.published)
                self._failed = self._membership.workers
                return
            await self._membership.changed(STANDBY_POLL_SECONDS)
            if self._membership.is_known and self._membership.mine(self._site):
                return

    async def _publish(self) -> None:
        """Publish from the end of the stream on, until it is another's turn."""
        await ensure_stream(self._connection, self._settings)
        place = await find_place(self._log, self._connection, self._site, self._settings.max_age)
        if not place.fence.sequence:
            place = await self._mark(place)
        self.progress.reach(place.position)
        pages = Pages(self._log, self._connection, self._site, place.position)
        async with aclosing(pages):
            while not self._is_others:
                page = await pages.next()
                place = await self._send(page, place) if page else await self._idle(place)

    async def _send(self, page: list[Message], place: Place) -> Place:
        self.progress.enter(PublisherState.PUBLISHING)
        if not place.claimed:
            place = await self._mark(place)
        if self._costs.favour_batch(len(page)):
            for batch in split(page):
                place = await self._send_batch(batch, place)
            return place
        for message in page:
            place = await self._send_event(message, place)
        is_due = monotonic() - self._marked >= MARK_SECONDS
        return await self._mark(place) if is_due else place

    async def _send_event(self, message: Message, place: Place) -> Place:
        begun = monotonic()
        await send_one(self._connection, message, place.fence)
        self._costs.note_event(monotonic() - begun)
        self._sent([message])
        return Place(mark_of(message.record), place.fence, marked=False)

    async def _send_batch(self, batch: list[Message], place: Place) -> Place:
        mark = mark_of(batch[-1].record)
        async with self._slots:
            begun = monotonic()
            fence = await send_batch(self._connection, batch, mark, place.fence)
        self._sent(batch)
        self._marked = monotonic()
        self._costs.note_batch(self._marked - begun, len(batch))
        return Place(mark, fence, marked=True)

    def _sent(self, messages: list[Message]) -> None:
        self._failures = 0
        self.progress.reach(messages[-1].record.position)
        metrics.PUBLISHED.labels(self._site).inc(len(messages))
        metrics.CUT.labels(self._site).inc(sum(message.cut for message in messages))

    async def _mark(self, place: Place) -> Place:
        """Say how far the stream is."""
        place = await renew(self._log, self._connection, place)
        self._marked = monotonic()
        return place

    async def _idle(self, place: Place) -> Place:
        """Write the mark if it is due, else wait for news."""
        self._failures = 0
        self.progress.enter(PublisherState.CURRENT)
        if self._is_behind:
            await self._check_log()
        interval = self._renewal if place.marked else MARK_SECONDS
        rest = self._marked + interval - monotonic()
        if rest <= 0:
            return await self._mark(place)
        with suppress(TimeoutError):
            async with asyncio.timeout(rest):
                await self._news.wait()
        # Cleared before the next read starts: what is logged from now on rings again.
        self._news.clear()
        return place

    async def _check_log(self) -> None:
        """Raise UnavailableError if the log has gone back; the resume then says what to do."""
        self._is_behind = False
        position = await self._log.position(self._site)
        if position < self.progress.published:
            msg = f"site {self._site}: the log has gone back to {position}: it is another one"
            raise UnavailableError(msg)
