"""What an operator sees of a site's worker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

from pbscast_ingest import metrics

if TYPE_CHECKING:
    from pbscast.errors import PbscastError


class WorkerState(StrEnum):
    """What a worker is doing."""

    STANDBY = "standby"
    """Another worker holds the site."""
    WAITING = "waiting for the log"
    REFUSED = "refused by the log"
    """The log answers and does not take what it is given: see refusals."""
    CONNECTING = "connecting"
    """It holds the site and has no connection to the datastore."""
    FOLLOWING = "following"
    RESYNCING = "resyncing"
    BLIND = "blind"
    """It is connected, but changes are not being journaled."""
    SILENT = "silent"
    """It is connected, but no heartbeat comes through the journal: others may not either."""
    STOPPED = "stopped"


_AWAY = frozenset(
    (
        *(WorkerState.STANDBY, WorkerState.WAITING, WorkerState.REFUSED),
        *(WorkerState.CONNECTING, WorkerState.STOPPED),
    )
)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker at a moment."""

    site: str
    state: WorkerState = WorkerState.STANDBY
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it came into this state."""
    error: str | None = None
    """The last fault, one line; None once all is well again."""
    position: int = 0
    """Position of the last event that it logged."""
    lag_rows: int = 0
    lag_seconds: float = 0.0
    journal_bytes: int = 0


class Monitor:
    """Keeps the status of a worker, logs its turns and feeds the metrics."""

    def __init__(self, site: str) -> None:
        self.status = WorkerStatus(site)
        self._log = structlog.get_logger("pbscast_ingest").bind(site=site)

    def turn(self, state: WorkerState, **values: Any) -> None:
        """Enter a state, or stay in it, with other values of the status."""
        if state is not self.status.state:
            values |= {"state": state, "since": datetime.now(UTC)}
            self._log.info("worker", state=state.value, position=self.status.position)
        self.status = replace(self.status, **values)
        up = state in (WorkerState.FOLLOWING, WorkerState.RESYNCING)
        metrics.UP.labels(self.status.site).set(up)
        metrics.SILENT.labels(self.status.site).set(state is WorkerState.SILENT)
        if state in _AWAY:
            # Nobody looks: a figure that stands still would pass for a good one.
            for figure in (metrics.LAG_ROWS, metrics.LAG_SECONDS, metrics.JOURNAL_BYTES):
                figure.remove(self.status.site)

        if state in (WorkerState.STANDBY, WorkerState.STOPPED):
            metrics.CAUGHT_UP.remove(self.status.site)  # it is somebody else's, or nobody's

    def catch_up(self) -> None:
        """Take note that the log has all that the journal held a moment ago."""
        self.measure(0, 0.0)
        metrics.CAUGHT_UP.labels(self.status.site).set_to_current_time()

    def measure(self, lag_rows: int, lag_seconds: float, journal_bytes: int | None = None) -> None:
        """Take note of how far behind the worker is, and of the journal's size if it was asked."""
        size = self.status.journal_bytes if journal_bytes is None else journal_bytes
        self.note(lag_rows=lag_rows, lag_seconds=lag_seconds, journal_bytes=size)
        metrics.LAG_ROWS.labels(self.status.site).set(lag_rows)
        metrics.LAG_SECONDS.labels(self.status.site).set(lag_seconds)
        metrics.JOURNAL_BYTES.labels(self.status.site).set(size)

    def note(self, **values: Any) -> None:
        """Change values of the status, the state staying as it is."""
        self.status = replace(self.status, **values)

    def fault(self, error: PbscastError, state: WorkerState) -> None:
        """Enter a state because of an error. The same one again is logged but once."""
        self.complain(error)
        self.turn(state)

    def complain(self, error: PbscastError) -> None:
        """Tell of an error, as `fault` does, the state staying as it is."""
        metrics.ERRORS.labels(self.status.site, type(error).__name__).inc()
        if str(error) != self.status.error:
            self._log.warning("fault", error=str(error), position=self.status.position)
        self.note(error=str(error))
