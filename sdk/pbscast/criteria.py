"""What a watch asks for: filters for the server, and an exact match for what they cannot say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar, Unpack

from pbscast.errors import UsageError
from pbscast.events import AnyEvent, EventName, Kind, ObjectPayload
from pbscast.ids import JobId, split_subjob
from pbscast.subjects import ROOT, encode_token, is_covered, job_filter, object_filter

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_FILTERS: Final = 16
"""Above about a hundred filters a consumer gets slow; a wider filter and a local match does not."""

_Name = TypeVar("_Name", EventName, Kind)


class CriteriaOptions(TypedDict, total=False):
    """What an event has to be; one text stands for a list of one, None for all."""

    sites: str | Iterable[str] | None
    owners: str | Iterable[str] | None
    queues: str | Iterable[str] | None
    states: str | Iterable[str] | None
    kinds: str | Iterable[str] | None
    events: str | Iterable[str] | None


class Coverage(IntEnum):
    """How much of the log the server's filters let through, and so what a hole can be seen by."""

    PART = 0
    """Some events of an object: neither positions nor revisions follow one another."""
    OBJECTS = 1
    """All events of some objects: revisions follow one another."""
    SITES = 2
    """All events of some sites: positions follow one another."""


@dataclass(frozen=True)
class Criteria:
    """Every criterion that is given must hold; None is not given. ``ids`` are canonical.

    ids, owners, queues and states are about jobs: an event of another kind passes them if ``kinds``
    names that kind; without ``kinds`` they select jobs alone.
    """

    ids: frozenset[str] | None = None
    sites: frozenset[str] | None = None
    owners: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    states: frozenset[str] | None = None
    kinds: frozenset[Kind] | None = None
    events: frozenset[EventName] | None = None

    @classmethod
    def of(
        cls, job_ids: str | Iterable[str] | None = None, **options: Unpack[CriteriaOptions]
    ) -> Criteria:
        """Check and keep what a caller gave.

        Raises InvalidJobId, or UsageError for an unknown kind or event and for an empty list.
        """
        ids = _texts("job_ids", job_ids)
        return cls(
            ids=None if ids is None else frozenset(str(JobId.parse(text)) for text in ids),
            sites=_texts("sites", options.get("sites")),
            owners=_texts("owners", options.get("owners")),
            queues=_texts("queues", options.get("queues")),
            states=_texts("states", options.get("states")),
            kinds=_members(Kind, "kinds", options.get("kinds")),
            events=_members(EventName, "events", options.get("events")),
        )

    @property
    def selects_jobs(self) -> bool:
        return any(item is not None for item in (self.ids, self.owners, self.queues, self.states))

    @cached_property
    def wanted_kinds(self) -> frozenset[Kind] | None:
        """The kinds that can match, None for all."""
        return frozenset({Kind.JOB}) if self.kinds is None and self.selects_jobs else self.kinds

    def matches(self, event: AnyEvent) -> bool:
        """Whether the event is asked for."""
        return (
            (self.sites is None or event.site in self.sites)
            and (self.events is None or event.event in self.events)
            and (self.wanted_kinds is None or event.kind in self.wanted_kinds)
            and (event.kind is not Kind.JOB or self._matches_job(event))
        )

    def _matches_job(self, event: AnyEvent) -> bool:
        return (self.ids is None or not self.ids.isdisjoint(aliases(event.id))) and (
            not isinstance(event, ObjectPayload)
            or (
                (self.owners is None or event.owner in self.owners)
                and (self.queues is None or event.queue in self.queues)
                and (self.states is None or event.state in self.states)
            )
        )

    def filters(self, *, also: frozenset[EventName] = frozenset()) -> Filters:
        """Return the server's filters: few, never narrower than the criteria.

        ``also`` names events that are needed beside those asked for.
        """
        events = None if self.events is None else self.events | also
        kinds = self.wanted_kinds
        if kinds is None and events is None:
            return _site_filters(self.sites)
        subjects: set[str] = set()
        if kinds is None or Kind.JOB in kinds:
            subjects |= self._job_filters(events)
        others: Iterable[str] = ("*",) if kinds is None else kinds - {Kind.JOB}
        sites, names = _widened([_options(self.sites), _options(events)])
        for kind, site, name in product(others, sites, names):
            subjects.add(object_filter(kind, site=site, event=name or "*"))
        return Filters(_without_covered(subjects), Coverage.PART if events else Coverage.OBJECTS)

    def _job_filters(self, events: frozenset[EventName] | None) -> set[str]:
        ids = self.ids
        if ids is not None and any(JobId.parse(job_id).server is None for job_id in ids):
            ids = None  # a token cannot be matched in part
        dimensions = [_options(self.sites), _options(self.owners), _options(ids), _options(events)]
        return {
            job_filter(site=site, owner=owner, job_id=job_id, event=event or "*")
            for site, owner, job_id, event in product(*_widened(dimensions))
        }


@dataclass(frozen=True, slots=True)
class Filters:
    """Subjects for a consumer, none inside another, and what they cover."""

    subjects: tuple[str, ...]
    coverage: Coverage


def aliases(job_id: str) -> tuple[str, ...]:
    """Return every canonical id by which a user may mean this job.

    ``6[1].sitea`` is meant by itself, ``6[1]``, its array ``6[].sitea`` and ``6[]``.
    """
    parent, index = split_subjob(job_id)
    number, _, _ = job_id.partition(".")
    if index is None:
        return job_id, number
    return job_id, number, parent, parent.partition(".")[0]


def is_site_filter(subject: str) -> bool:
    """Whether a filter of a service's answer lets through every event of some sites."""
    *site, kind, rest = subject.split(".")
    return (len(site), kind, rest) == (3, "*", ">")


def _site_filters(sites: frozenset[str] | None) -> Filters:
    # Five tokens and more: a site's marks have four.
    names = _widened([_options(sites)])[0]
    tokens = ("*" if name is None else encode_token(name) for name in names)
    return Filters(tuple(sorted(f"{ROOT}.{token}.*.>" for token in tokens)), Coverage.SITES)


def _options(values: Iterable[str] | None) -> list[str | None]:
    return [None] if values is None else sorted(values)  # type: ignore[return-value]


def _widened(dimensions: list[list[str | None]]) -> list[list[str | None]]:
    """Give up the largest dimensions until the product is a handful."""
    while _size(dimensions) > MOST_FILTERS:
        widest = max(range(len(dimensions)), key=lambda index: len(dimensions[index]))
        dimensions[widest] = [None]
    return dimensions


def _size(dimensions: Sequence[Sequence[str | None]]) -> int:
    size = 1
    for options in dimensions:
        size *= len(options)
    return size


def _without_covered(subjects: set[str]) -> tuple[str, ...]:
    """The server refuses filters that overlap; ours overlap only where one holds the other."""
    return tuple(
        sorted(
            subject
            for subject in subjects
            if not any(is_covered(subject, other) for other in subjects if other != subject)
        )
    )


def _texts(name: str, values: str | Iterable[str] | None) -> frozenset[str] | None:
    if values is None:
        return None
    texts = frozenset({values} if isinstance(values, str) else values)
    if not texts or not all(texts):
        msg = f"{name}: give at least one, and none empty (leave it out to ask for all)"
        raise UsageError(msg)
    return texts


def _members(
    names: type[_Name], what: str, values: str | Iterable[str] | None
) -> frozenset[_Name] | None:
    texts = _texts(what, values)
    if texts is None:
        return None
    known = {member.value: member for member in names}
    if unknown := sorted(texts - known.keys()):
        msg = f"{what}: unknown {unknown[0]!r} (one of {', '.join(known)})"
        raise UsageError(msg)
    return frozenset(known[text] for text in texts)
