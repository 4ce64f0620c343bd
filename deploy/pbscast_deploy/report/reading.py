"""Reads a period out of the log into a census, in the memory of the jobs that live at one time.

The jobs that lived when the period began are asked for first, and what they did before it; then the
period's events are read in order. A life is counted when it ends, and forgotten.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pbscast.census import Census
from pbscast.errors import NotFoundError
from pbscast.events import EventName, Gap, Kind, Site
from pbscast.selection import MOST_VALUES, Selection
from pbscast.timeline import Course, LifeKey
from pbscast_deploy.report.owners import Owners
from pbscast_store.log import Log
from pbscast_store.records import Record

MOST_GAPS: Final = 50
"""Gaps that are kept, of each site."""
_PAGE: Final = 5_000
_TELLING: Final = frozenset({EventName.SUBMIT, EventName.STATE, EventName.MOVE, EventName.FINALIZE})
"""Events that can change what a report tells; others are not even decoded."""


@dataclass(slots=True)
class Reading:
    """What was read of a period."""

    census: Census
    events: int = 0
    """Of jobs."""
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The first and the last position of a job's event, by site."""
    gaps: list[Gap] = field(default_factory=list)
    """Times in which capture was not working, as far as they were logged within the period."""
    owners: Owners = field(init=False)
    known_from: dict[str, datetime] = field(default_factory=dict)
    """By site, when its log began, where that is within the period."""

    def __post_init__(self) -> None:
        self.owners = Owners(self.census.begin, self.census.end)

    def add(self, course: Course) -> None:
        """Count a life, as it stood at the period's end."""
        self.census.add(course, self.census.end)
        self.owners.add(course, self.census.end)


async def read_site(
    log: Log, site: str, reading: Reading, told: Callable[[datetime], object]
) -> None:
    """Add a site's events of the census's period; tells of each page the time that it reaches.

    What became of a life after the period is not looked at: it goes on when the period ends.

    Raises NotFoundError for a site that the log does not know.
    """
    lives = await _living(log, site, reading.census.begin)
    jobs = Selection(sites=(Site(site),))
    async for page in _pages(log, jobs, reading.census.begin, reading.census.end):
        for record in page:
            _count(record, reading, lives)
        told(page[-1].time)
    for course in lives.values():
        reading.add(course)
    await _read_gaps(log, site, reading)


async def _living(log: Log, site: str, moment: datetime) -> dict[LifeKey, Course]:
    """The jobs that lived at a moment, as all of their events before it tell them."""
    keys = [key async for key in _standing(log, site, moment)]
    lives: dict[LifeKey, Course] = {}
    wanted = set(keys)
    for ids in _chunks(dict.fromkeys(key.id for key in keys), MOST_VALUES):
        jobs = Selection(sites=(Site(site),), ids=ids)
        async for page in _pages(log, jobs, None, moment):
            for record in page:
                if record.event in _TELLING and _key(record) in wanted:
                    _observe(record, lives)
    return lives


async def _standing(log: Log, site: str, moment: datetime) -> AsyncIterator[LifeKey]:
    after = None
    while True:
        try:
            page = await log.at(Selection(sites=(Site(site),)), moment, after=after, limit=_PAGE)
        except NotFoundError:  # the log begins later
            return
        for _, standing in page.rows:
            yield LifeKey(standing.site, standing.id, standing.incarnation)
        if page.next is None:
            return
        after = page.next


async def _pages(
    log: Log, selection: Selection, begin: datetime | None, end: datetime
) -> AsyncIterator[list[Record]]:
    positions: dict[str, int] = {}
    while True:
        page = await log.events(selection, begin=begin, end=end, positions=positions, limit=_PAGE)
        if page.records:
            yield page.records
        if not page.more:
            return
        positions = page.positions


def _count(record: Record, reading: Reading, lives: dict[LifeKey, Course]) -> None:
    reading.events += 1
    first, _ = reading.positions.get(record.site, (record.position, 0))
    reading.positions[record.site] = first, record.position
    key = _key(record)
    # What is told of a life after its end is bookkeeping.
    if record.event not in _TELLING or (key not in lives and record.revision != 1):
        return
    course = _observe(record, lives)
    if course.end is not None:
        reading.add(lives.pop(key))


def _observe(record: Record, lives: dict[LifeKey, Course]) -> Course:
    event, key = record.decode(), _key(record)
    if (course := lives.get(key)) is None:
        course = lives[key] = Course.begin(event)
    course.observe(event, detailed=False)
    return course


async def _read_gaps(log: Log, site: str, reading: Reading) -> None:
    census, found = reading.census, 0
    capture = Selection(kind=Kind.SITE, sites=(Site(site),))
    async for page in _pages(log, capture, census.begin, census.end):
        for record in page:
            if record.event == EventName.GAP and found < MOST_GAPS:
                found += 1
                event = record.decode()
                assert isinstance(event, Gap)  # noqa: S101 - as its name says
                reading.gaps.append(event)


def _key(record: Record) -> LifeKey:
    return LifeKey(record.site, record.id, record.incarnation)


def _chunks(items: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    listed = tuple(items)
    for begin in range(0, len(listed), size):
        yield listed[begin : begin + size]
