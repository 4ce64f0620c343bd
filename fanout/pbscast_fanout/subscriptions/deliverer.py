"""Tells one site's subscriptions what happens, for ever, whatever fails.

A message is stored only if nobody else has written the site since we found where it ended (see
writer), and where it ends says what has been told. So of two workers one is refused, and whoever
goes on tells nothing twice and skips nothing.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import FencedError, PbscastError, UnavailableError
from pbscast.requests import PublisherState
from pbscast_fanout import metrics
from pbscast_fanout.subscriptions.bell import Bell
from pbscast_fanout.subscriptions.progress import DeliveryProgress
from pbscast_fanout.subscriptions.session import Session
from pbscast_fanout.subscriptions.stream import ensure_deliveries
from pbscast_fanout.subscriptions.writer import DeliveryWriter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast.events import Site
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.means import Means

STANDBY_POLL_SECONDS: Final = 0.5
TAKEOVER_SECONDS: Final = 2.0
"""How long a standby watches a place that does not move before it writes."""

LONGEST_RETRY: Final = 2.0

LOOK_SECONDS: Final = 5.0
STUCK_LOOKS: Final = 12
"""So often in a row one that has something to do may be seen to have done nothing of it."""

_log = structlog.get_logger(__name__)


class Deliverer:
    """Delivers a site while it is this worker's; ``progress`` tells how it goes."""

    def __init__(self, site: Site, means: Means) -> None:
        self.progress = DeliveryProgress(site)
        self._site = site
        self._means = means
        self._bell = Bell()
        self._failures = 0

    def ring(self) -> None:
        """Say that the log has news of this site."""
        self._bell.ring()

    def hear(self, logged: int) -> None:
        """Say where the log ends."""
        self.progress.hear(logged)
        if self.progress.lag:
            self.ring()
        if self.progress.subscriptions and logged < self.progress.delivered:
            self._bell.doubt()

    async def run(self) -> NoReturn:
        """Deliver, stand by or retry until cancelled."""
        self._means.view.listen(self._bell.note)
        self.progress.enter(PublisherState.STARTING)
        try:
            await self._run()
        finally:
            self._means.view.unlisten(self._bell.note)
            self.progress.enter(PublisherState.STANDBY)

    async def _run(self) -> NoReturn:
        fenced = False
        while True:
            try:
                if fenced:
                    await self._stand_by()
                    fenced = False
                await self._deliver()
            except FencedError:
                metrics.DELIVERY_FENCED.labels(self._site).inc()
                fenced = True
            except PbscastError as error:
                await self._rest(error)
            except Exception as error:  # noqa: BLE001
                # One site's trouble, were it our own bug, must not stop the others.
                _log.exception("deliverer_bug", site=self._site)
                await self._rest(error)

    async def _deliver(self) -> NoReturn:
        means = self._means
        await means.view.ready()
        settings = means.settings
        await ensure_deliveries(means.connection, settings.subscriptions, settings.stream.replicas)
        await means.joined.ensure()
        await means.checkpoints.ensure()
        await self._covered(means.view.definitions.values())
        while True:
            session = await Session.begin(self._site, means, self._bell, self.progress)
            async with aclosing(session):
                self._failures = 0
                await self._attend(session)
            # Whoever is left could not be told: more of its ids is to come, for example.
            await self._covered(())

    async def _attend(self, session: Session) -> None:
        """Let it run. Raises UnavailableError if it gets no further, as it should never happen.

        Who holds a site and does nothing is taken over by nobody, as long as its worker lives.
        """
        running = asyncio.create_task(session.run())
        looks, seen = 0, -1
        try:
            while looks < STUCK_LOOKS:
                done, _ = await asyncio.wait({running}, timeout=LOOK_SECONDS)
                if done:
                    return running.result()
                # Looks are counted, not time: after a stall of the worker there is none.
                looks = looks + 1 if session.steps == seen and not session.rests else 0
                seen = session.steps
        finally:
            running.cancel()
            # It may be stuck where nothing reaches it.
            await asyncio.wait({running}, timeout=LOOK_SECONDS)
        seconds = STUCK_LOOKS * LOOK_SECONDS
        raise UnavailableError(f"got no further for {seconds:g} s, and begins anew")

    async def _covered(self, definitions: Iterable[Definition]) -> None:
        """Wait until one of these covers the site, or one that changes and may be told."""
        if any(definition.covers(self._site) for definition in definitions):
            return
        self.progress.leave()
        known = self._means.view.definitions
        while True:
            changed, self._bell.changed = self._bell.changed, set()
            for definition in (known[key] for key in changed if key in known):
                if definition.covers(self._site) and not definition.more:
                    return
            await self._bell.wait()

    async def _stand_by(self) -> None:
        """Return when nobody has moved the site on for TAKEOVER_SECONDS, though somebody should."""
        self.progress.enter(PublisherState.STANDBY)
        writer = DeliveryWriter(self._means.connection, self._site, self._means.slots)
        seen, since = await writer.find(), monotonic()
        while True:
            await asyncio.sleep(STANDBY_POLL_SECONDS)
            place, now = await writer.find(), monotonic()
            is_due = place is None or place.position < self.progress.logged
            if place != seen:
                seen, since = place, now
            elif now - since >= TAKEOVER_SECONDS and (is_due or self._means.is_sure()):
                return

    async def _rest(self, error: Exception) -> None:
        """Report a failure and wait: longer while it lasts, and not in step with other sites."""
        metrics.DELIVERY_FAILURES.labels(self._site).inc()
        self.progress.enter(PublisherState.RETRYING, str(error) or type(error).__name__)
        delay = min(LONGEST_RETRY, 0.1 * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
