"""What a subscriber saw: the jobs' states, and whether anything came twice or out of order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pbscast.events import Change, Finalize, Gap, ObjectPayload

if TYPE_CHECKING:
    from datetime import datetime

    from pbscast.events import Event, Kind, Reason


class Life(NamedTuple):
    """One incarnation of an object."""

    site: str
    kind: Kind
    id: str
    incarnation: int


@dataclass(slots=True)
class JobView:
    """One job's life at a site, as the events told it."""

    life: Life
    time: datetime
    name: str = ""
    owner: str = ""
    queue: str = ""
    states: list[tuple[str, int | None]] = field(default_factory=list)
    """The visible (state, substate) pairs in order, without repeats side by side."""
    ends: list[tuple[Reason, int | None]] = field(default_factory=list)
    """Reason and exit status of each finalize; a sound history has one at most."""
    destination: str | None = None


@dataclass(slots=True)
class Tally:
    """Counts the events of a subscription and follows every job in them."""

    delivered: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    gaps: int = 0
    positions: dict[str, int] = field(default_factory=dict)
    revisions: dict[Life, int] = field(default_factory=dict)
    jobs: dict[Life, JobView] = field(default_factory=dict)

    @property
    def finalized(self) -> int:
        """How many job lives have their last word."""
        return sum(bool(job.ends) for job in self.jobs.values())

    def observe(self, event: Event) -> None:
        """Take in one delivered event."""
        if event.position <= self.positions.get(event.site, 0):
            self.duplicates += 1
            return
        self.delivered += 1
        self.gaps += isinstance(event, Gap)
        self._check_order(event)
        if event.kind == "job" and isinstance(event, Change | Finalize):
            self._follow(event)

    def forget_all_but(self, count: int) -> None:
        """Drop the views of the jobs that ended first, once there are twice as many as `count`."""
        if len(self.jobs) <= 2 * count:
            return
        ended = sorted((job for job in self.jobs.values() if job.ends), key=lambda job: job.time)
        for job in ended[: len(self.jobs) - count]:
            del self.jobs[job.life]

    def _check_order(self, event: Event) -> None:
        life = Life(event.site, event.kind, event.id, event.incarnation)
        expected_position = self.positions.get(event.site, 0) + 1
        expected_revision = self.revisions.get(life, 0) + 1
        self.out_of_order += (
            event.position != expected_position or event.revision != expected_revision
        )
        self.positions[event.site] = event.position
        self.revisions[life] = event.revision

    def _follow(self, event: Change | Finalize) -> None:
        life = Life(event.site, event.kind, event.id, event.incarnation)
        job = self.jobs.setdefault(life, JobView(life, event.time))
        job.time = event.time
        _describe(job, event)
        if isinstance(event, Finalize):
            job.ends.append((event.reason, event.exit_status))
            job.destination = event.destination
        elif event.state is not None:
            _enter(job, event.state, event.substate)


def _describe(job: JobView, event: ObjectPayload) -> None:
    job.name = event.name or job.name
    job.owner = event.owner or job.owner
    job.queue = event.queue or job.queue


def _enter(job: JobView, state: str, substate: int | None) -> None:
    if not job.states or job.states[-1] != (state, substate):
        job.states.append((state, substate))
