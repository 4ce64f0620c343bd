"""What the events of jobs amount to: lives, how long each state lasted, what changed. Pure.

The terminal, the pages and the report draw from this one model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from pbscast.events import Change, EventName, Finalize, ObjectPayload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pbscast.events import AnyEvent

RUNNING: Final = frozenset("RSU")
"""States of a job that has its nodes."""
HELD: Final = frozenset("HW")
"""States of a job that may not start yet: by a hold, or before the time it is to start at."""
_USAGE: Final = "resources_used."
_ASKED_FOR: Final = re.compile(r" and terminated by (\S+@\S+)$")
"""How PBS completes the comment of a job that had run and was deleted."""


class Span(NamedTuple):
    """A stretch of time in one visible state."""

    state: str
    begin: datetime
    end: datetime | None
    """None: it goes on."""


class Alteration(NamedTuple):
    """One attribute's change."""

    name: str
    old: str | None
    """None: it was not there, or what it was is not known."""
    new: str | None
    """None: it is gone."""


class Entry(NamedTuple):
    """An event and what it changed."""

    event: AnyEvent
    alterations: tuple[Alteration, ...]


class LifeKey(NamedTuple):
    """Which incarnation of a job, where."""

    site: str
    id: str
    incarnation: int


@dataclass(slots=True)
class Course:
    """One incarnation of a job at a site, folded from its events in their order.

    The spans are gapless, in order, and end with the finalize: what the log holds afterwards (an
    array's subjob turns X→F, the history is purged) is bookkeeping and only in the entries. Times
    never go backwards, also where a clock was set back meanwhile.
    """

    key: LifeKey
    began: datetime
    whole: bool
    """Whether its first event is here; else what came before is not known."""
    owner: str | None = None
    name: str | None = None
    project: str | None = None
    queues: list[str] = field(default_factory=list)
    """Each queue that it was in, in order."""
    spans: list[Span] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    usage: dict[str, str] = field(default_factory=dict)
    """``resources_used`` as last told."""
    end: Finalize | None = None
    told: datetime | None = None
    """When its last event was."""
    comment: str | None = None
    """PBS's, as last told."""
    _attributes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, event: AnyEvent) -> Course:
        """A life of which nothing but this first event is known; it is still to be observed."""
        return cls(_key(event), event.time, whole=event.revision == 1)

    @property
    def called(self) -> str:
        """Its job's id, and its site where the id does not say it."""
        is_home = self.key.id.endswith(f".{self.key.site}")
        return self.key.id if is_home else f"{self.key.id} at {self.key.site}"

    @property
    def state(self) -> str | None:
        """The state it is in, or was in when it ended."""
        return self.spans[-1].state if self.spans else None

    @property
    def ended(self) -> datetime | None:
        """When it ended; None while it goes on."""
        return None if self.end is None else self.spans[-1].end if self.spans else self.end.time

    def observe(self, event: AnyEvent, *, detailed: bool = True) -> None:
        """Take in its next event; without details entries and their alterations are left out."""
        if not isinstance(event, ObjectPayload):
            return
        self.told = self._not_before(event.time)
        if detailed:
            self.entries.append(Entry(event, self._alterations(event)))
        self._describe(event)
        self._consume(event)
        if self.end is None:
            self._follow(event, self.told)

    @property
    def ended_by(self) -> str | None:
        """Who had it deleted, ``user@host``, as far as PBS's comment says so.

        It does of a job that had run, where PBS keeps a history of jobs. Of other ends that were
        asked for nothing but PBS's accounting says by whom.
        """
        said = None if self.end is None else _ASKED_FOR.search(self.comment or "")
        return None if said is None else said[1]

    def durations(self, now: datetime) -> dict[str, timedelta]:
        """How long it was in each state, in the order of first entry; what goes on until now."""
        total: dict[str, timedelta] = {}
        for state, begin, end in self.spans:
            spent = max(timedelta(), (end or now) - begin)
            total[state] = total.get(state, timedelta()) + spent
        return total

    @property
    def ran_from(self) -> datetime | None:
        """When it first ran; None if it never did."""
        return next((span.begin for span in self.spans if span.state in RUNNING), None)

    @property
    def waited(self) -> timedelta | None:
        """How long it could have run before it first did, so without the time that it was held.

        None if it never ran or its beginning is not known.
        """
        if self.held is None or self.ran_from is None:
            return None
        return self.ran_from - self.began - self.held

    @property
    def held(self) -> timedelta | None:
        """Before it first ran: how long it was held or waited for the time it was to start at."""
        if not self.whole or self.ran_from is None:
            return None
        before = (span for span in self.spans if span.begin < self.ran_from)
        lengths = ((span.end or span.begin) - span.begin for span in before if span.state in HELD)
        return sum(lengths, timedelta())

    @property
    def ran(self) -> timedelta | None:
        """How long it ran and has stopped running; None if it never ran or has not ended."""
        spans = [span for span in self.spans if span.state in RUNNING]
        if not spans or self.end is None:
            return None
        return sum(((span.end or span.begin) - span.begin for span in spans), timedelta())

    def _not_before(self, time: datetime) -> datetime:
        return time if self.told is None else max(time, self.told)

    def _describe(self, event: AnyEvent) -> None:
        assert isinstance(event, ObjectPayload)  # noqa: S101 - observe looked
        self.owner = event.owner or self.owner
        self.name = event.name or self.name
        self.project = event.project or self.project
        queue = event.queue
        # A moved job's row names its destination, queue@server.
        if queue and "@" not in queue and queue not in self.queues[-1:]:
            self.queues.append(queue)

    def _consume(self, event: AnyEvent) -> None:
        if isinstance(event, Finalize):
            self.usage.update(event.usage)
        elif isinstance(event, Change):
            kept = None if "comment" in event.removed else self.comment
            self.comment = event.changed.get("comment", kept)
            for name, value in event.changed.items():
                if name.startswith(_USAGE):
                    self.usage[name.removeprefix(_USAGE)] = value

    def _follow(self, event: AnyEvent, time: datetime) -> None:
        assert isinstance(event, ObjectPayload)  # noqa: S101 - observe looked
        if event.state is not None and event.state != self.state:
            self._close(time)
            self.spans.append(Span(event.state, time, None))
        if isinstance(event, Finalize):
            self._close(time)
            self.end = event

    def _close(self, time: datetime) -> None:
        if self.spans:
            self.spans[-1] = self.spans[-1]._replace(end=time)

    def _alterations(self, event: AnyEvent) -> tuple[Alteration, ...]:
        if not isinstance(event, Change):
            return ()
        return tuple(self._alter(event))

    def _alter(self, event: Change) -> Iterator[Alteration]:
        for name, value in event.changed.items():
            yield Alteration(name, self._attributes.get(name), value)
            self._attributes[name] = value
        for name in event.removed:
            yield Alteration(name, self._attributes.pop(name, None), None)


class Timeline:
    """The lives of any number of jobs, folded from their events.

    Events of one life must come in the order of their revisions; lives may be mixed.
    """

    def __init__(self, detailed: Callable[[AnyEvent], bool] = lambda _: True) -> None:
        self._detailed = detailed
        self._courses: dict[LifeKey, Course] = {}

    @classmethod
    def of(cls, events: Iterable[AnyEvent]) -> Timeline:
        """Fold events with all details."""
        timeline = cls()
        for event in events:
            timeline.observe(event)
        return timeline

    def observe(self, event: AnyEvent) -> Course | None:
        """Take in an event; gives the course it belongs to, None if it is not of a job."""
        if event.kind != "job":
            return None
        key = _key(event)
        if (course := self._courses.get(key)) is None:
            course = self._courses[key] = Course.begin(event)
        course.observe(event, detailed=self._detailed(event))
        return course

    @property
    def courses(self) -> list[Course]:
        """All of them, by beginning."""
        return sorted(self._courses.values(), key=lambda life: (life.began, life.key))


def _key(event: AnyEvent) -> LifeKey:
    return LifeKey(event.site, event.id, event.incarnation)


def is_usage(entry: Entry) -> bool:
    """Whether an entry tells of nothing but consumption."""
    return entry.event.event is EventName.USAGE
