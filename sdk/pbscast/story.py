"""A history as it is looked at: the lives of the jobs asked for, of subjobs, and hand-overs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast.ids import split_subjob
from pbscast.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Collection

    from pbscast.events import AnyEvent
    from pbscast.handovers import HandOver
    from pbscast.timeline import Course


class Story:
    """Folded from events, oldest first. Only of jobs asked for by id are the details kept."""

    def __init__(self, ids: Collection[str] = ()) -> None:
        self.ids = tuple(dict.fromkeys(ids))
        self.positions: dict[str, tuple[int, int]] = {}
        """The first and the last position of each site that was read."""
        self._timeline = Timeline(lambda event: event.id in self.ids)
        self._arrivals: dict[tuple[str, str], list[HandOver]] = {}

    def observe(self, event: AnyEvent, hand_over: HandOver | None = None) -> None:
        """Take in an event and, if it is the first at a job's new site, how it came there."""
        self._timeline.observe(event)
        first, last = self.positions.get(event.site, (event.position, event.position))
        self.positions[event.site] = min(first, event.position), max(last, event.position)
        if hand_over is not None:
            self._arrivals.setdefault((hand_over.target, hand_over.id), []).append(hand_over)

    @property
    def courses(self) -> list[Course]:
        """All lives, by beginning."""
        return self._timeline.courses

    @property
    def told(self) -> list[Course]:
        """The lives of the jobs asked for by id: one job after the other, each by beginning."""
        order = {job_id: place for place, job_id in enumerate(self.ids)}
        found = [course for course in self.courses if course.key.id in order]
        return sorted(found, key=lambda course: order[course.key.id])

    def subjobs(self, array: str) -> list[Course]:
        """The lives of an array's subjobs."""
        return [
            course
            for course in self.courses
            if course.key.id != array and split_subjob(course.key.id)[0] == array
        ]

    def arrival(self, course: Course) -> HandOver | None:
        """How a life's job came to its site, if it was handed over."""
        found = self._arrivals.get((course.key.site, course.key.id), ())
        return next((item for item in found if item.arrived == course.began), None)
