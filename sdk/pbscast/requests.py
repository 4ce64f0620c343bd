"""Requests to the fan-out tier's NATS services and their answers: JSON objects, one model each.

A request that cannot be served is answered as NATS micro services do, with the headers
``Nats-Service-Error`` (the name of an error of pbscast.errors and one line, ``NotFoundError: …``)
and ``Nats-Service-Error-Code`` (its HTTP-like code).

Where NATS has accounts a person is told what he may see; what he may not see is as if it were not
there. Who names others' jobs, by owner, or others' sites gets AccessDeniedError.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    model_validator,
)

from pbscast.events import Position, Site
from pbscast.lives import Difference, Life, Standing
from pbscast.messages import Request, Response
from pbscast.selection import Selection

SERVICE: Final = "pbscast"
"""The name under which NATS lists the services."""

HISTORY: Final = "pbscast.v1.history"
JOBS: Final = "pbscast.v1.jobs"
SNAPSHOT: Final = "pbscast.v1.snapshot"
AT: Final = "pbscast.v1.at"
DIFFERENCE: Final = "pbscast.v1.difference"
EVENT: Final = "pbscast.v1.event"
STATUS: Final = "pbscast.v1.status"

MAX_PAGE: Final = 1000
"""The most events that one answer holds."""

MAX_ROWS: Final = 5000
"""The most lives or objects that one answer holds."""


_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def _of_calendars(time: datetime) -> datetime:
    if not _FIRST <= time <= _LAST:
        raise ValueError("a time has to lie between the years 1970 and 9999")
    return time


Time = Annotated[AwareDatetime, AfterValidator(_of_calendars)]
"""One that can be converted to any zone, and have a day taken off."""


class Paged(Selection):
    """A question whose answer comes in pages; one may hold fewer rows than asked for, even none."""

    after: str | None = Field(default=None, max_length=65536)
    """The ``next`` of the page before, all else unchanged; None for the first."""


class PageResponse(Response):
    """What every page has."""

    next: str | None = None
    """Pass as ``after`` to go on; None: this was the last page."""


class Ranged(Paged):
    """A question about a range of time, by the clocks of the PBS datastores."""

    begin: Time | None = None
    end: Time | None = None
    """Not included."""

    @model_validator(mode="after")
    def _begins_before_its_end(self) -> Self:
        if self.begin is not None and self.end is not None and self.begin >= self.end:
            raise ValueError(f"the range is empty: it begins at {self.begin}, ends at {self.end}")
        return self


class HistoryRequest(Ranged):
    """The events, within the range, of all objects whose lives match.

    A site's events come in the order of their positions, those of several sites by time. What a job
    did at the site to which it was moved comes after its finalize at the site that it left.
    ``after`` is a JSON object in text, of each site the position of the last event that was told
    (``{"sitea":120}``): who has kept these can go on by himself. A site that it does not name is
    told from its first event in the order that is asked for.
    """

    newest_first: bool = False
    limit: int = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE)


class HistoryResponse(PageResponse):
    """One page; it may hold fewer events than asked for: it has to fit into one message."""

    events: tuple[dict[str, JsonValue], ...]
    """CloudEvents objects, the same as on the stream."""


class JobsRequest(Ranged):
    """One row for each life that matches and lasted into the range.

    Lives come by position of their first event within a site, by its time between sites. ``after``
    has the form of a history's, the positions being those of lives' first events.
    """

    newest_first: bool = True
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)


class JobsResponse(PageResponse):
    """One page."""

    lives: tuple[Life, ...]


class SnapshotRequest(Paged):
    """How all matching objects stand now; those that have ended only where asked for by id."""

    attributes: bool = False
    """Whether to tell attributes and columns as well."""
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)


class SnapshotResponse(PageResponse):
    """One page, by site, then by position of each object's first event."""

    positions: dict[Site, int]
    """Of each site asked: this page shows its objects as they are after the event there.

    Who follows the stream after the positions of the *first* page misses nothing of any page, and
    is told again what an object's own position already covers.
    """
    objects: tuple[Standing, ...]


Moment = datetime | dict[str, int]
"""A time, by the clocks of the PBS datastores: up to each object's last event whose time is not
later. Or a position of each site that is asked about: up to the event there."""


def _of_sites(moment: Moment) -> Moment:
    if isinstance(moment, dict) and not moment:
        raise ValueError("give a time, or a position of at least one site")
    return moment


def _form(moment: object) -> str:
    return "positions" if isinstance(moment, Mapping) else "time"


GivenMoment = Annotated[
    Annotated[Time, Tag("time")]
    | Annotated[dict[str, Annotated[int, Field(ge=1, lt=2**63)]], Tag("positions")],
    Discriminator(_form),
    AfterValidator(_of_sites),
]


class AtRequest(Paged):
    """How all matching objects stood at a moment: those that were live then.

    An object that is asked for by id is told even if it had ended by then: its latest life that had
    begun.
    """

    moment: GivenMoment
    attributes: bool = False
    """Whether to tell attributes and columns as well."""
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)


class AtResponse(PageResponse):
    """One page, by site, then by position of each object's first event."""

    objects: tuple[Standing, ...]


class DifferenceRequest(Paged):
    """What the events after one moment, up to another, have changed of matching objects.

    ``states`` select objects that stood so at either moment.
    """

    begin: GivenMoment
    end: GivenMoment
    limit: int = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE)

    @model_validator(mode="after")
    def _goes_forward(self) -> Self:
        if isinstance(self.begin, datetime) and isinstance(self.end, datetime):
            forward = self.begin < self.end
        elif isinstance(self.begin, dict) and isinstance(self.end, dict):
            if self.begin.keys() != self.end.keys():
                raise ValueError("begin and end give positions of different sites")
            forward = all(self.begin[site] <= self.end[site] for site in self.begin)
        else:
            raise ValueError("begin and end have to be two times, or positions both")  # noqa: TRY004 - pydantic's way
        if not forward:
            raise ValueError("begin has to be before end")
        return self


class DifferenceResponse(PageResponse):
    """One page, by site, then by position of each object's first event."""

    objects: tuple[Difference, ...]


class EventRequest(Request):
    """A piece of one event in full, for those cut to fit into a message (see ``omitted``)."""

    site: Site
    position: Position = Field(ge=1)
    offset: int = Field(default=0, ge=0)
    """In characters."""


class EventResponse(Response):
    """A piece of the event's CloudEvents JSON text; the pieces joined are the event."""

    text: str
    next: int | None = None
    """The offset of the next piece; None: this was the last."""


class StatusRequest(Request):
    """Asks for the state of every site."""


class PublisherState(StrEnum):
    """What a worker's publisher of one site is doing."""

    STARTING = "starting"
    PUBLISHING = "publishing"
    CURRENT = "current"
    """Everything logged is published."""
    STANDBY = "standby"
    """Another worker publishes this site."""
    RETRYING = "retrying"
    """NATS or the log cannot be used at the moment; ``error`` says why."""
    DIVERGED = "diverged"
    """The stream holds what the log does not (a restored log): an administrator has to decide."""


class SiteStatus(Response):
    """One site's way from the log to the stream, as the answering worker sees it."""

    site: Site
    state: PublisherState
    logged: int
    """The last position in the log."""
    published: int
    """The last position known to be on the stream."""
    since: datetime
    """When the state was entered."""
    error: str | None = None

    @property
    def lag(self) -> int:
        """How many events wait to be published."""
        return max(0, self.logged - self.published)


class DelivererStatus(Response):
    """How a site is told to registered subscriptions, as the answering worker sees it."""

    site: Site
    state: PublisherState
    delivered: int
    """The last position that all have been told of; 0 while there are none."""
    subscriptions: int
    """How many cover the site."""
    joining: int
    """Those of them that are still told how everything stood."""
    since: datetime
    """When the state was entered."""
    error: str | None = None


class StatusResponse(Response):
    """Every site known to the worker that answered."""

    worker: str
    error: str | None = None
    """What is wrong with NATS or the log at the moment."""
    sites: tuple[SiteStatus, ...]
    deliveries: tuple[DelivererStatus, ...] = ()
