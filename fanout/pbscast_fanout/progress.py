"""Where the publishing of one site stands, for whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from pbscast.requests import PublisherState, SiteStatus
from pbscast_fanout import metrics

if TYPE_CHECKING:
    from pbscast.events import Site

_log = structlog.get_logger(__name__)


class Progress:
    """The state of one site, written by its publisher alone."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.state = PublisherState.STARTING
        self.since = datetime.now(UTC)
        self.error: str | None = None
        self.logged = 0
        self.published = 0

    def enter(self, state: PublisherState, error: str | None = None) -> None:
        """Note a state; log it if it is news that an operator wants to see."""
        if error is not None and (state, error) != (self.state, self.error):
            _log.warning(
                "publishing", site=self.site, state=state, position=self.published, error=error
            )
        elif state is PublisherState.STANDBY is not self.state:
            _log.info("publishing", site=self.site, state=state, position=self.published)
        if state is not self.state:
            self._count(state)
            self.state, self.since = state, datetime.now(UTC)
        self.error = error

    def _count(self, state: PublisherState) -> None:
        metrics.STATE.labels(self.site, self.state).set(0)
        metrics.STATE.labels(self.site, state).set(1)

    @property
    def lag(self) -> int:
        """How many events wait to be published, as far as is known."""
        return max(0, self.logged - self.published)

    def hear(self, logged: int) -> None:
        """Note how far the log is."""
        self.logged = max(self.logged, logged)
        metrics.LAG.labels(self.site).set(self.lag)

    def reach(self, published: int) -> None:
        """Note how far the stream is."""
        self.published = published
        metrics.POSITION.labels(self.site).set(published)
        self.hear(published)

    def status(self) -> SiteStatus:
        """Return what the status service says about the site."""
        return SiteStatus(
            site=self.site,
            state=self.state,
            logged=self.logged,
            published=self.published,
            since=self.since,
            error=self.error,
        )
