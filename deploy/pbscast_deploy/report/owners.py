"""Whose jobs ran and waited when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from pbscast.census import StateCounts

if TYPE_CHECKING:
    from pbscast.timeline import Course

RUNNING: Final = "R"
QUEUED: Final = "Q"
_BUCKETS: Final = 120


class Owners:
    """Running and queued jobs of each owner over a period; memory is that of the owners."""

    def __init__(self, begin: datetime, end: datetime) -> None:
        self._begin, self._end = begin, end
        self.counts: dict[str, StateCounts] = {}
        self._lives: dict[str, int] = {}

    def add(self, course: Course, now: datetime) -> None:
        """Count a life."""
        if course.owner is None:
            return
        counts = self.counts.get(course.owner)
        if counts is None:
            counts = StateCounts(self._begin, self._end, _BUCKETS)
            self.counts[course.owner] = counts
        self._lives[course.owner] = self._lives.get(course.owner, 0) + 1
        for state, begin, end in course.spans:
            if state in (RUNNING, QUEUED):
                counts.add(state, begin, end or course.ended or now)

    @property
    def busiest(self) -> list[str]:
        """The owners, those with the most lives first."""
        return sorted(self._lives, key=lambda owner: (-self._lives[owner], owner))
