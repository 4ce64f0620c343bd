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
        self.state = PublisherState.STARTING
        self.since = datetime.now(UTC)
        self.error: str | None = None
        self.logged = 0
        self.delivered = 0
        self.subscriptions = 0
        self.joining = 0

    def enter(self, state: PublisherState, error: str | None = None) -> None:
        """Note a state; log it if it is news that an operator wants to see."""
        if error is not None and (state, error) != (self.state, self.error):
            _log.warning("delivering", site=self.site, state=state, error=error)
        if state is not self.state:
            self.state, self.since = state, datetime.now(UTC)
        self.error = error

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
        metrics.SUBSCRIPTIONS.labels(self.site).set(subscriptions)
        metrics.JOINING.labels(self.site).set(joining)
        self.hear(delivered)

    def rest(self) -> None:
        """Note that there is nothing to do."""
        self.enter(PublisherState.CURRENT)

    def leave(self) -> None:
        """Note that no subscription covers the site."""
        self.subscriptions = self.joining = 0
        metrics.SUBSCRIPTIONS.labels(self.site).set(0)
        metrics.JOINING.labels(self.site).set(0)
        self.hear(0)
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
