"""What a registered subscription is sent: JSON objects, told apart by ``what``.

Of each site first how everything stands that belongs to the subscription (``begin``, ``object`` …,
``boundary``), then what happens (``event``), without a hole and without a repeat between the two.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

from pbscast.errors import DecodeError
from pbscast.events import AnyEvent, Position, Site
from pbscast.lives import Standing
from pbscast.messages import Response
from pbscast.subjects import NONE, encode_token

DELIVERIES: Final = "PBS_DELIVERIES"
"""The stream that keeps what is to be acknowledged."""

KEPT: Final = "pbscast.deliver.v1"
"""``<root>.<site>.<subscription>``: what the stream keeps."""

LIVE: Final = "pbscast.live.v1"
"""The same of subscriptions with delivery at most once, which nothing keeps."""

ACK_WAIT: Final = 30.0
"""Seconds after which a message comes again unless its reader acknowledges it or says that it is
at work on it."""

MOST_UNACKNOWLEDGED: Final = 2000
"""How many messages of a subscription may wait to be acknowledged before no more are sent."""


class Passage(StrEnum):
    """What an event means for its object's belonging to the subscription."""

    JOINED = "joined"
    STAYED = "stayed"
    LEFT = "left"
    ENDED = "ended"
    """A job's last word."""


class _Message(Response):
    subscription: str
    site: Site
    n: Annotated[int, Field(ge=1)] | None = None
    """1, 2, 3 … for the messages of this site to this subscription: a reader sees that none is
    missing, and drops those that it has had. None where they come at most once."""


class BeginMessage(_Message):
    """The site is told from the beginning: what was told of it before no longer holds."""

    what: Literal["begin"] = "begin"
    position: Position
    """How everything stood after this event comes first."""


class ObjectMessage(_Message):
    """How an object stands that belongs to the subscription."""

    what: Literal["object"] = "object"
    object: Standing
    """With its attributes, cut to those of interest. ``ended`` is set where an id was asked for
    whose life is over: then nothing more is told of it."""


class BoundaryMessage(_Message):
    """All that stood at a position has been told, what follows happened after it."""

    what: Literal["boundary"] = "boundary"
    position: Position


class EventMessage(_Message):
    """Something happened."""

    what: Literal["event"] = "event"
    passage: Passage
    event: AnyEvent
    """With the attributes of interest alone, but a finalize is whole."""
    standing: Standing | None = None
    """With ``joined``, unless the object is new: how the event left it, as in a snapshot."""
    to: Site | None = None
    """Of a finalize with reason ``moved``: the site where the subscription follows the job, so that
    this is not its last word. None: it is."""

    @field_validator("event", mode="before")
    @classmethod
    def _unwrap(cls, event: Any) -> Any:
        """Take the event out of its CloudEvents object, which is how it travels."""
        if isinstance(event, dict) and event.get("specversion") == "1.0":
            return event.get("data")
        return event


class CompleteMessage(BaseModel):
    """Every job that the subscription names has ended; nothing follows."""

    what: Literal["complete"] = "complete"
    subscription: str


SubscriptionMessage = Annotated[
    BeginMessage | ObjectMessage | BoundaryMessage | EventMessage | CompleteMessage,
    Field(discriminator="what"),
]

_MESSAGE: Final[TypeAdapter[SubscriptionMessage]] = TypeAdapter(
    SubscriptionMessage, config={"defer_build": True}
)


def decode(body: bytes | str) -> SubscriptionMessage:
    """Return the message; fields this release does not know are ignored. Raises DecodeError."""
    try:
        return _MESSAGE.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise DecodeError(f"not a message of a subscription: {where}: {first['msg']}") from error


def delivery_subject(site: str, subscription: str, root: str = KEPT) -> str:
    """Return the subject of a site's messages to a subscription."""
    return f"{root}.{encode_token(site)}.{subscription}"


def complete_subject(subscription: str, root: str = KEPT) -> str:
    """Return the subject of the message that ends a subscription: of no site."""
    return f"{root}.{NONE}.{subscription}"


def delivery_filter(subscription: str, root: str = KEPT) -> str:
    """Return the filter for all messages to a subscription."""
    return f"{root}.*.{subscription}"
