"""Where the delivering of one site stands, for whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from pbscast.requests import DelivererStatus, PublisherState
from pbscast_fanout import metrics

if TYPE_CHECKING:
    from pbscast.events import Site

_log = structlog.get_logger(__name__)


class DeliveryProgress:
    """The state of one site, written by its deliverer alone."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.state = PublisherState.STANDBY
        self.since = datetime.now(UTC)
        self.error: str | None = None
        self.logged = 0
        self.delivered = 0
        self.subscriptions = 0
        self.joining = 0
        self._count(self.state, self.state)

    def enter(self, state: PublisherState, error: str | None = None) -> None:
        """Note a state; log it if it is news that an operator wants to see."""
        if error is not None and (state, error) != (self.state, self.error):
            _log.warning("delivering", site=self.site, state=state, error=error)
        if state is not self.state:
            if self.error is not None and error is None:
                _log.info("delivering", site=self.site, state=state)
            before, self.state, self.since = self.state, state, datetime.now(UTC)
            self._count(before, state)
        self.error = error

    def _count(self, before: PublisherState, state: PublisherState) -> None:
        metrics.DELIVERER_STATE.labels(self.site, before).set(0)
        metrics.DELIVERER_STATE.labels(self.site, state).set(1)
        if state is PublisherState.STANDBY:
            # What it knew is another worker's to tell now.
            self.subscriptions = self.joining = 0
            self._count_subscriptions()

    def _count_subscriptions(self) -> None:
        metrics.SUBSCRIPTIONS.labels(self.site).set(self.subscriptions)
        metrics.JOINING.labels(self.site).set(self.joining)
        metrics.DELIVERY_LAG.labels(self.site).set(self.lag)

    @property
    def lag(self) -> int:
        """How many events wait, as far as is known; none where nobody asked for any."""
        return max(0, self.logged - self.delivered) if self.subscriptions else 0

    def hear(self, logged: int) -> None:
        """Note how far the log is."""
        self.logged = max(self.logged, logged)
        metrics.DELIVERY_LAG.labels(self.site).set(self.lag)

    def reach(self, delivered: int, subscriptions: int, joining: int) -> None:
        """Note how far the site is told, and to how many."""
        self.enter(PublisherState.PUBLISHING)
        self.delivered, self.subscriptions, self.joining = delivered, subscriptions, joining
        self._count_subscriptions()
        self.hear(delivered)

    def rest(self) -> None:
        """Note that there is nothing to do."""
        self.enter(PublisherState.CURRENT)

    def leave(self) -> None:
        """Note that no subscription covers the site."""
        self.subscriptions = self.joining = 0
        self._count_subscriptions()
        self.rest()

    def status(self) -> DelivererStatus:
        """Return what the status service says about it."""
        return DelivererStatus(
            site=self.site,
            state=self.state,
            delivered=self.delivered,
            subscriptions=self.subscriptions,
            joining=self.joining,
            since=self.since,
            error=self.error,
        )
