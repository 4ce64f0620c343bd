"""Publishes one site's log in atomic batches, from the stream's last mark on.

Nothing is published twice because each batch is fenced with the sequence of the mark before it: of
two workers that publish the same site, one's batch is refused whole. That one stands by, and takes
over when the log runs ahead of marks that no longer move. No lease is kept anywhere: the fence is
what makes it right, standing by only avoids vain work.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import FencedError, PbscastError
from pbscast.requests import PublisherState
from pbscast_fanout import metrics
from pbscast_fanout.batches import mark_of, send, send_mark, split
from pbscast_fanout.pages import Pages
from pbscast_fanout.progress import Progress
from pbscast_fanout.resume import DivergedError, Place, find_place
from pbscast_fanout.streams import ensure_stream, last_mark

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.batches import Message
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.settings import StreamSettings
    from pbscast_store.log import Log

STANDBY_POLL_SECONDS: Final = 0.5
TAKEOVER_SECONDS: Final = 2.0
"""How long a standby watches marks that do not move before it publishes."""

LONGEST_RETRY: Final = 2.0
LONGEST_RENEWAL: Final = timedelta(hours=1)
"""An idle site's mark is written again this often at least, lest the stream's limits remove it."""

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
    ) -> None:
        self.progress = Progress(site)
        self._site = site
        self._log = log
        self._connection = connection
        self._settings = settings
        self._slots = slots
        self._renewal = min(LONGEST_RENEWAL, (settings.max_age or timedelta.max) / 4)
        self._news = asyncio.Event()
        self._failures = 0

    def ring(self) -> None:
        """Say that the log has news of this site."""
        self._news.set()

    def hear(self, logged: int) -> None:
        """Say where the log ends."""
        self.progress.hear(logged)
        if self.progress.lag:
            self.ring()

    async def run(self) -> NoReturn:
        """Publish, stand by or retry until cancelled."""
        fenced = False
        while True:
            try:
                if fenced:
                    await self._stand_by()
                    fenced = False
                await self._publish()
            except FencedError:
                metrics.FENCED.labels(self._site).inc()
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

    async def _stand_by(self) -> None:
        """Return when the log has been ahead of marks that do not move for TAKEOVER_SECONDS."""
        self.progress.enter(PublisherState.STANDBY)
        seen, since = -1, 0.0
        while True:
            stored = await last_mark(self._connection, self._site)
            sequence, now = (stored.sequence if stored else 0), monotonic()
            if stored:
                self.progress.reach(stored.mark.position)
            if sequence != seen or not self.progress.lag:
                seen, since = sequence, now
            elif now - since >= TAKEOVER_SECONDS:
                _log.info("taking_over", site=self._site, position=self.progress.published)
                return
            await asyncio.sleep(STANDBY_POLL_SECONDS)

    async def _publish(self) -> NoReturn:
        """Publish from the last mark on, until something goes wrong."""
        await ensure_stream(self._connection, self._settings)
        place = await find_place(self._log, self._connection, self._site, self._settings.max_age)
        if not place.fence:
            place = await self._mark(place)
        self.progress.reach(place.position)
        pages = Pages(self._log, self._connection, self._site, place.position)
        async with aclosing(pages):
            while True:
                page = await pages.next()
                for batch in split(page):
                    place = await self._send(batch, place)
                if not page:
                    place = await self._idle(place)

    async def _send(self, batch: list[Message], place: Place) -> Place:
        self.progress.enter(PublisherState.PUBLISHING)
        mark = mark_of(batch[-1].record)
        async with self._slots:
            place = Place(mark, await send(self._connection, batch, mark, place.fence))
        self._failures = 0
        self.progress.reach(place.position)
        metrics.PUBLISHED.labels(self._site).inc(len(batch))
        metrics.CUT.labels(self._site).inc(sum(message.cut for message in batch))
        return place

    async def _mark(self, place: Place) -> Place:
        """Say again how far the stream is: a site's first mark, or one for an ageing one."""
        mark = place.mark.model_copy(update={"time": datetime.now(UTC)})
        return Place(mark, await send_mark(self._connection, mark, place.fence))

    async def _idle(self, place: Place) -> Place:
        """Wait for news."""
        self._failures = 0
        self.progress.enter(PublisherState.CURRENT)
        try:
            async with asyncio.timeout(self._renewal.total_seconds()):
                await self._news.wait()
        except TimeoutError:
            return await self._mark(place)
        # Cleared before the next read starts: what is logged from now on rings again.
        self._news.clear()
        return place
