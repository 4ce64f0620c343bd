"""Readers of the stream of events: a service makes their consumers.

JetStream's own request for one cannot be left to a client: who may create a consumer chooses what
it reads and where it delivers. JSON objects over NATS services, as those of pbscast.requests and
with their errors.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from pbscast.messages import Request, Response
from pbscast.requests import Time
from pbscast.selection import Text

OPEN: Final = "pbscast.v1.open"
CLOSE: Final = "pbscast.v1.close"
STREAM: Final = "pbscast.v1.stream"

INACTIVE_THRESHOLD: Final = 60.0
"""Seconds after which the server forgets the consumer of a reader that has gone."""


MOST_FILTERS: Final = 100
"""Above so many a consumer gets slow."""


class Begin(StrEnum):
    """Where a reader begins, in NATS's words for it (ADR-37's ``deliver_policy``)."""

    ALL = "all"
    NEW = "new"
    LAST_PER_SUBJECT = "last_per_subject"
    BY_START_SEQUENCE = "by_start_sequence"
    BY_START_TIME = "by_start_time"


class OpenRequest(Request):
    """Make a consumer of the stream PBS to pull from; nothing has to be acknowledged.

    A person is told, of what he asks for, what he may see; of a filter that holds nothing of that
    the request is refused.
    """

    subjects: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_FILTERS)]
    """Filters, of which none may lie within another (``pbs.v1.*.job.alice.>``)."""
    begin: Begin = Begin.NEW
    sequence: Annotated[int, Field(ge=1)] | None = None
    """The stream's, to begin with."""
    time: Time | None = None
    """When what is to come first was stored."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for begin, name in (
            (Begin.BY_START_SEQUENCE, "sequence"),
            (Begin.BY_START_TIME, "time"),
        ):
            if (getattr(self, name) is not None) is not (self.begin is begin):
                raise ValueError(f"{name}: goes with begin={begin.value} and with nothing else")
        return self


class OpenResponse(Response):
    """The consumer, which goes when nobody has pulled from it for INACTIVE_THRESHOLD seconds."""

    consumer: str
    """Its name: pull with ``$JS.API.CONSUMER.MSG.NEXT.PBS.<consumer>``."""
    subjects: tuple[str, ...]
    """What it is told. Other filters than were asked for where a person may see less; of a job that
    he sees he sees every event, of a site perhaps not."""
    created: datetime
    stored: int
    """How many messages were there for it when it was made."""
    after: int
    """The stream's last sequence before those that are to come."""
    stored_after: str | None = None
    """With ``new``, when the message at ``after`` was stored, if there is one: should the stream
    lose its end in a crash, another message may get its sequence, but not its time."""
    opening: str
    """Says that this one is meant, and no later one of the same name: give it to ``close``."""


class CloseRequest(Request):
    """Give a consumer back; if it has gone already, that is no error."""

    consumer: Text
    opening: Text | None = None
    """What the OpenResponse said: another reader's consumer, which has the name by now, stays."""


class CloseResponse(Response):
    """It is gone, or goes as soon as the server that has it is there again."""


class StreamRequest(Request):
    """Ask what the stream is; of a position of a site also where on it one has to go on."""

    site: Text | None = None
    after: Annotated[int, Field(ge=0)] | None = None
    """A position of ``site``."""
    at: Annotated[int, Field(ge=1)] | None = None
    """A sequence of the stream."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.site is None) is not (self.after is None):
            raise ValueError("site and after go together")
        return self


class StreamResponse(Response):
    """By which a reader sees whether it is the stream that was read before, and what is left."""

    created: datetime
    first: int
    """The sequence of the oldest message that it holds."""
    sequence: int | None = None
    """With ``site``: who reads from it gets every event behind ``after`` that the stream holds."""
    next: int | None = None
    """With ``site``: the position of the site's first event from there on, which is behind
    ``after + 1`` if some are gone; None: there is none yet."""
    stored: str | None = None
    """With ``at``: when that message was stored; None: it is not there."""
