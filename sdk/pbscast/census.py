"""What lives add up to over a period: jobs in each state, waits, runs, ends. Pure, bounded memory.

A life is added once, when all of it that matters is known, and not kept, except for the longest.
Memory is that of the buckets times sites and states, and of the owners.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right, insort
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbscast.timeline import Course

BUCKETS: Final = 240
"""Steps of time that a period is divided into."""
MOST_BARS: Final = 80
"""Lives that are kept to be drawn one by one: those that lasted longest."""
MOST_EXACT: Final = 500
"""Lengths of time that are kept one by one, so that their quantiles are exact."""

EDGES: Final = (
    *(1, 10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400),
    *(172800, 604800),
)
"""Seconds between which lengths of time are counted."""
EDGE_WORDS: Final = (
    *("< 1 s", "1-10 s", "10-30 s", "30-60 s", "1-5 min", "5-15 min", "15-30 min", "30-60 min"),
    *("1-2 h", "2-4 h", "4-8 h", "8-24 h", "1-2 d", "2-7 d", "> 7 d"),
)
_RATIO: Final = math.log(1.05)


class Lengths:
    """Lengths of time, counted.

    Quantiles are exact of up to MOST_EXACT, right to a twentieth of more, and never longer than the
    longest nor shorter than the shortest.
    """

    def __init__(self) -> None:
        self.count = 0
        self.shortest = timedelta.max
        self.longest = timedelta()
        self.total = timedelta()
        self.bins = [0] * len(EDGE_WORDS)
        self._each: list[timedelta] = []
        self._fine: Counter[int] = Counter()

    def add(self, length: timedelta) -> None:
        """Count one more."""
        length = max(timedelta(), length)
        seconds = length.total_seconds()
        self.count += 1
        self.shortest = min(self.shortest, length)
        self.longest = max(self.longest, length)
        self.total += length
        self.bins[bisect_right(EDGES, seconds)] += 1
        self._fine[round(math.log(seconds) / _RATIO) if seconds >= 0.01 else -100] += 1
        if self.is_exact:
            insort(self._each, length)
        else:
            self._each.clear()

    @property
    def is_exact(self) -> bool:
        """Whether a quantile is one of the lengths themselves."""
        return self.count <= MOST_EXACT

    def quantile(self, share: float) -> timedelta | None:
        """Return the length that this share of all does not exceed; None if there are none."""
        if not self.count:
            return None
        if self.is_exact:
            return self._each[max(0, math.ceil(share * self.count) - 1)]
        return min(max(self._about(share * self.count), self.shortest), self.longest)

    def _about(self, wanted: float) -> timedelta:
        steps = sorted(self._fine)
        reached = accumulate(self._fine[step] for step in steps)
        step = next(step for step, so_far in zip(steps, reached, strict=True) if so_far >= wanted)
        return timedelta(seconds=math.exp(step * _RATIO) if step > -100 else 0.0)


@dataclass(slots=True)
class Tally:
    """What the lives of one site, or of one owner, amount to."""

    lives: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """Of those that ended within the period, by reason."""
    waits: Lengths = field(default_factory=Lengths)
    """Queued before the first run, of those that first ran within the period."""
    held: timedelta = timedelta()
    """Before the first run held, or waiting for the time they were to start at; of the same."""
    runs: Lengths = field(default_factory=Lengths)
    """Time spent running, of those that ended within the period."""


class StateCounts:
    """How many lives are in each state, averaged over each bucket of the period."""

    def __init__(self, begin: datetime, end: datetime, buckets: int = BUCKETS) -> None:
        self._begin = begin
        self._length = max(end - begin, timedelta(microseconds=1))
        self._buckets = buckets
        # Whole buckets as differences to the one before, the broken ones at both ends by share.
        self._steps: dict[str, list[float]] = {}
        self._shares: dict[str, list[float]] = {}

    def add(self, state: str, begin: datetime, end: datetime) -> None:
        """Count one life that was in a state from ``begin`` to ``end``."""
        left, right = self._place(begin), self._place(end)
        if right <= left:
            return
        steps = self._steps.setdefault(state, [0.0] * (self._buckets + 1))
        shares = self._shares.setdefault(state, [0.0] * (self._buckets + 1))
        first, last = int(left), int(right)
        if first == last:
            shares[first] += right - left
            return
        shares[first] += first + 1 - left
        shares[last] += right - last
        steps[first + 1] += 1
        steps[last] -= 1

    @property
    def times(self) -> list[datetime]:
        """The beginning of each bucket, and the end of the last."""
        count = self._buckets
        return [self._begin + self._length * (number / count) for number in range(count + 1)]

    @property
    def bucket(self) -> timedelta:
        """The length of each."""
        return self._length / self._buckets

    def _place(self, time: datetime) -> float:
        # Not in multiples of a bucket, whose length is rounded to a microsecond.
        share = (time - self._begin) / self._length
        return min(max(share, 0.0), 1.0) * self._buckets

    def states(self) -> Iterator[tuple[str, list[float]]]:
        """Yield each state and its average number of lives in each bucket."""
        for state, steps in self._steps.items():
            whole = list(accumulate(steps))
            shares = self._shares[state]
            yield state, [whole[number] + shares[number] for number in range(self._buckets)]


class Census:
    """Everything that a page shows of a period, but not of single lives."""

    def __init__(self, begin: datetime, end: datetime) -> None:
        self.begin = begin
        self.end = end
        self.lives = 0
        self.states: dict[str, StateCounts] = {}
        """By site."""
        self.sites: dict[str, Tally] = {}
        self.owners: dict[str, Tally] = {}
        self._longest: list[tuple[timedelta, int, Course]] = []

    def add(self, course: Course, now: datetime) -> None:
        """Count a life as far as it lies within the period; what goes on is counted until now."""
        until = course.ended or max(now, course.began)
        if until < self.begin or course.began >= self.end:
            return
        self.lives += 1
        counts = self.states.setdefault(course.key.site, StateCounts(self.begin, self.end))
        for state, begin, end in course.spans:
            counts.add(state, begin, until if end is None else end)
        site = self.sites.setdefault(course.key.site, Tally())
        owner = self.owners.setdefault(course.owner or "-", Tally())
        for tally in (site, owner):
            self._count(tally, course)
        self._keep(course, min(until, self.end) - max(course.began, self.begin))

    @property
    def longest(self) -> list[Course]:
        """The lives that lasted longest within the period, by beginning; at most MOST_BARS."""
        kept = [course for _, _, course in self._longest]
        return sorted(kept, key=lambda course: (course.began, course.key))

    def _count(self, tally: Tally, course: Course) -> None:
        tally.lives += 1
        if course.waited is not None and course.ran_from and self._covers(course.ran_from):
            tally.waits.add(course.waited)
            tally.held += course.held or timedelta()
        if course.end is not None and course.ended is not None and self._covers(course.ended):
            tally.ends[str(course.end.reason)] += 1
            if course.ran is not None:
                tally.runs.add(course.ran)

    def _covers(self, time: datetime) -> bool:
        return self.begin <= time < self.end

    def _keep(self, course: Course, length: timedelta) -> None:
        item = (length, self.lives, course)
        if len(self._longest) < MOST_BARS:
            heapq.heappush(self._longest, item)
        else:
            heapq.heappushpop(self._longest, item)
