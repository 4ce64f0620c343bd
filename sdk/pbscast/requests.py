"""Requests to the fan-out tier's NATS services and their answers: JSON objects, one model each.

A request that cannot be served is answered as NATS micro services do, with the headers
``Nats-Service-Error`` (the name of an error of pbscast.errors and one line, ``NotFoundError: …``)
and ``Nats-Service-Error-Code`` (its HTTP-like code).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from pbscast.events import Kind, Position, Site

SERVICE: Final = "pbscast"
"""The name under which NATS lists the services."""

HISTORY: Final = "pbscast.v1.history"
EVENT: Final = "pbscast.v1.event"
STATUS: Final = "pbscast.v1.status"

MAX_PAGE: Final = 1000
"""The most events that one answer holds."""


class Request(BaseModel):
    """An unknown field is refused, so that a misspelt filter cannot widen a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Response(BaseModel):
    """Fields that this release does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class HistoryRequest(Request):
    """All that the log holds of one object, oldest first; an array's id covers its subjobs.

    A site's events come in the order of their positions, those of several sites by time.
    """

    id: str = Field(min_length=1, max_length=1024)
    kind: Kind = Kind.JOB
    site: Site | None = None
    """None: at every site."""
    after: str | None = Field(default=None, max_length=65536)
    """The ``next`` of the page before; None for the first."""
    limit: int = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE)


class HistoryResponse(Response):
    """One page; it may hold fewer events than asked for: it has to fit into one message."""

    events: tuple[dict[str, JsonValue], ...]
    """CloudEvents objects, the same as on the stream."""
    next: str | None = None
    """Pass as ``after`` to go on; None: this was the last page."""


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


class StatusResponse(Response):
    """Every site known to the worker that answered."""

    worker: str
    error: str | None = None
    """What is wrong with NATS or the log at the moment."""
    sites: tuple[SiteStatus, ...]
