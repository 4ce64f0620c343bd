"""Registered subscriptions: filters that subjects cannot say, kept by the fan-out tier.

JSON objects over NATS services, as those of pbscast.requests and with their errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pbscast.errors import InvalidJobId
from pbscast.events import EventName, Kind, Site
from pbscast.ids import JobId
from pbscast.messages import Request, Response
from pbscast.selection import MOST_VALUES, Text
from pbscast.states import JobState

SUBSCRIBE: Final = "pbscast.v1.subscribe"
RENEW: Final = "pbscast.v1.renew"
MODIFY: Final = "pbscast.v1.modify"
UNSUBSCRIBE: Final = "pbscast.v1.unsubscribe"
LIST: Final = "pbscast.v1.list"

MOST_IDS: Final = 100_000
"""How many ids one subscription may name."""

LONGEST_WHERE: Final = 4096
"""Characters of an expression."""

SHORTEST_LEASE: Final = 10
LONGEST_LEASE: Final = 30 * 86_400
"""Seconds."""

_OBJECT_EVENTS: Final = frozenset({EventName.CREATE, EventName.MODIFY, EventName.DELETE})
_EVENTS: Final = {
    **dict.fromkeys(Kind, _OBJECT_EVENTS),
    Kind.JOB: frozenset(
        {
            EventName.SUBMIT,
            EventName.STATE,
            EventName.MOVE,
            EventName.MODIFY,
            EventName.USAGE,
            EventName.FINALIZE,
        }
    ),
    Kind.SITE: frozenset({EventName.GAP, EventName.RESYNC, EventName.UP, EventName.DOWN}),
}
_OF_JOBS: Final = ("owners", "queues", "projects", "names")
_OF_OBJECTS: Final = ("ids", "states", "where", "attributes")
_JOBS: Final = frozenset({Kind.JOB, Kind.SITE})
_STATES: Final = frozenset(JobState)

Ids = Annotated[tuple[Text, ...], Field(max_length=MOST_IDS)]
SubscriptionId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Lease = Annotated[int, Field(ge=SHORTEST_LEASE, le=LONGEST_LEASE)]
"""Seconds for which a subscription lives on without being renewed."""

_SITE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_ATTRIBUTE: Final = re.compile(r"[^\s.]+(\.[^\s.]+)*")

# Parsing is ten times slower than seeing that there is nothing to mend.
_CANONICAL_ID: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\[(?:0|[1-9][0-9]*)?\])?\.[^\s@]+")


class Filter(Request):
    """What a subscription is about; a criterion that lists nothing is not given.

    An object belongs to it while every criterion that is given holds, but for ``events`` and
    ``attributes``: these choose among the events of what belongs. An event is told if its object
    belongs before or after it. Of a job that has ever belonged, the finalize is told in any case,
    whole, and nothing after it. Capture's own events (kind ``site``) are chosen by ``sites``,
    ``kinds`` and ``events`` alone.
    """

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = (Kind.JOB,)
    sites: tuple[Site, ...] = Field(default=(), max_length=MOST_VALUES)
    ids: Ids = ()
    """Complete ids; that of an array covers its subjobs."""
    owners: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    queues: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    projects: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    names: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    """Job names; ``*`` stands for any text, ``?`` for one character."""
    states: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    """A job's visible letters (``S`` and ``U`` included); of other kinds as PBS prints them."""
    where: Annotated[str, Field(min_length=1, max_length=LONGEST_WHERE)] | None = None
    """An expression over attributes, ``Resource_List.ncpus >= 64 and state == "R"``; what it may
    say is checked by the service that is asked."""
    events: tuple[EventName, ...] = ()
    attributes: tuple[Text, ...] = Field(default=(), max_length=MOST_VALUES)
    """Only events that touch one of these, and only these in the message; ``Resource_List`` covers
    all its resources. Where the object stands (owner, queue, project, name, state) is always
    told."""

    @field_validator(*_OF_JOBS, *_OF_OBJECTS)
    @classmethod
    def _can_match(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(info)
        if value and kinds == {Kind.SITE}:
            raise ValueError("capture's own events have none: name a kind of object as well")
        if value and info.field_name in _OF_JOBS and (others := sorted(kinds - _JOBS)):
            raise ValueError(f"a {others[0]} has none: only jobs do")
        return value

    @field_validator("sites")
    @classmethod
    def _can_be_sites(cls, sites: tuple[Site, ...]) -> tuple[Site, ...]:
        if odd := [site for site in sites if _SITE.fullmatch(site) is None]:
            raise ValueError(f"{odd[0]!r} can be no site's name")
        return sites

    @field_validator("attributes")
    @classmethod
    def _can_be_attributes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return attribute_names(names)

    @field_validator("ids")
    @classmethod
    def _are_complete(cls, ids: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return complete(ids, _kinds(info))

    @field_validator("states")
    @classmethod
    def _are_known(cls, states: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        unknown = [state for state in states if state not in _STATES]
        if unknown and _kinds(info) <= _JOBS:
            raise ValueError(f"unknown state {unknown[0]!r} (one of {', '.join(JobState)})")
        return states

    @field_validator("events")
    @classmethod
    def _can_happen(
        cls, events: tuple[EventName, ...], info: ValidationInfo
    ) -> tuple[EventName, ...]:
        if EventName.PURGE in events:
            raise ValueError("'purge' comes after a job's last word, so it is never told")
        kinds = _kinds(info)
        possible = {event for kind in kinds for event in _EVENTS[kind]}
        if kinds and (never := [event for event in events if event not in possible]):
            raise ValueError(f"no {' or '.join(sorted(kinds))} has {never[0].value!r}")
        return events


class Delivery(StrEnum):
    """How often a message of a subscription may come."""

    AT_LEAST_ONCE = "at-least-once"
    """Kept until it is acknowledged: repeats are known by their position."""
    AT_MOST_ONCE = "at-most-once"
    """Not kept: what a client is not there for is gone."""


class SubscribeRequest(Filter):
    """Register a subscription. It begins with how everything stands that belongs to it."""

    id: SubscriptionId | None = None
    """What it shall be called; whoever knows it may read it, so nobody must be able to guess it.
    The same request with the same id is the same subscription. None: the service makes one."""
    more: bool = False
    """Whether more ids follow in a modify: it begins, and may be complete, with the last."""
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    lease: Lease = 600
    shared: bool = False
    """Whether several processes share it: each message goes to one of them, and to another if that
    one does not acknowledge it."""

    @field_validator("shared")
    @classmethod
    def _is_acknowledged(cls, shared: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
        if shared and info.data.get("delivery") is Delivery.AT_MOST_ONCE:
            raise ValueError("what nobody acknowledges cannot go to another process")
        return shared


class SubscribeResponse(Response):
    """A subscription as it is registered."""

    id: str
    subject: str
    """Where its messages are delivered."""
    consumer: str | None = None
    """The consumer of PBS_DELIVERIES from which to pull them and to acknowledge; None: they come at
    most once, so subscribe to the subject."""
    lease: int
    """Seconds within which it has to be renewed."""
    expires: datetime
    """When it goes unless it is renewed before, by the clock of the worker that answered."""


class RenewRequest(Request):
    """Keep a subscription alive."""

    id: Text
    lease: Lease | None = None
    """None: as long as before."""
    resume: bool = False
    """Whether to deliver again, in order and at once, what has not been acknowledged; whoever else
    reads it is cut off. Of a shared one the others go on, and it comes when they are late."""
    acknowledged: bool = False
    """Whether to say up to where messages have been acknowledged; for who does not know it."""


class RenewResponse(Response):
    """Until when it lives now."""

    subject: str
    consumer: str | None = None
    """As when it was registered."""
    lease: int
    expires: datetime
    delivery: Delivery
    shared: bool
    unhandled: int | None = None
    """Of one that processes share: how many stored messages nobody has acknowledged, those included
    that are being handled. None where nothing is kept."""
    acknowledged: dict[Site, int] | None = None
    """The ``n`` of the last message of each site that was acknowledged, if the stream still holds
    it or one before. Of a site that is not named all of those may be gone: the next message shows
    by its ``n`` whether there were any. None: not asked for, shared, or nothing is kept."""


class ModifyRequest(Request):
    """Change a subscription; it keeps its place."""

    id: Text
    add_ids: Ids = ()
    """Complete ids; only a subscription that was registered with ids takes more."""
    remove_ids: Ids = ()
    """The last id cannot be removed: unsubscribe."""
    attributes: tuple[Text, ...] | None = Field(default=None, max_length=MOST_VALUES)
    """Instead of those before; an empty list for all, None for no change."""
    more: bool = False
    """Whether more ids follow: it is not complete before the last."""

    @field_validator("attributes")
    @classmethod
    def _can_be_attributes(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else attribute_names(names)

    @field_validator("remove_ids")
    @classmethod
    def _is_not_added(cls, ids: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if both := set(ids).intersection(info.data.get("add_ids", ())):
            raise ValueError(f"{min(both)!r} is to be added as well")
        return ids

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.add_ids and not self.remove_ids and self.attributes is None:
            raise ValueError("nothing to change: give add_ids, remove_ids or attributes")
        return self


class ModifyResponse(Response):
    """The subscription after the change."""

    ids: int
    """How many it names now."""


class UnsubscribeRequest(Request):
    """End a subscription; what it had not delivered is gone."""

    id: Text


class UnsubscribeResponse(Response):
    """It has ended."""

    was_there: bool = True
    """Whether there was one just now."""


class ListRequest(Request):
    """Ask for one's subscriptions."""

    after: Text | None = None
    """The ``next`` of the page before; None for the first."""


class Registered(SubscribeResponse):
    """One of them."""

    delivery: Delivery
    shared: bool
    ids: int
    """How many it names; 0: it is not about given ids."""
    pending: int
    """How many of these have not ended."""


class ListResponse(Response):
    """One page, by id."""

    subscriptions: tuple[Registered, ...]
    next: str | None = None
    """Pass as ``after`` to go on; None: this was the last page."""


def attribute_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names. Raises ValueError for the first that no attribute or resource can have."""
    if odd := [name for name in names if _ATTRIBUTE.fullmatch(name) is None]:
        raise ValueError(f"{odd[0]!r} can be no attribute's name (comment, Resource_List.ncpus)")
    return names


def complete(ids: Iterable[str], kinds: Iterable[Kind]) -> tuple[str, ...]:
    """Return ids, each once, in the order given; where jobs alone are meant, as PBS writes them.

    Raises InvalidJobId for the first that is no complete job id.
    """
    of_jobs = _JOBS.issuperset(kinds)
    return tuple(dict.fromkeys(map(_as_written, ids) if of_jobs else ids))


def _as_written(text: str) -> str:
    if _CANONICAL_ID.fullmatch(text):
        return text
    job_id = JobId.parse(text)
    if job_id.server is None:
        raise InvalidJobId(f"{text!r} lacks its server: give the id in full, like {job_id}.SERVER")
    return str(job_id)


def _kinds(info: ValidationInfo) -> frozenset[Kind]:
    """What was given before; empty if that was refused."""
    return frozenset(info.data.get("kinds", ()))
