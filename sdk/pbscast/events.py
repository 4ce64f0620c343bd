r"""The events of the log: one immutable change of one object each.

Every event has the header of Event; the rest, its *payload*, depends on the event's name. Attribute
values are the text that PBS stores, without the flag digits (``Resource_List.ncpus`` → ``4``). A
value that was not UTF-8 is listed in ``escaped``: there a byte that could not be decoded is written
``\xNN`` and a backslash is doubled, so that ``unescape`` gives the bytes back.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, NewType

from pydantic import BaseModel, ConfigDict, Field

from pbscast.subjects import event_subject

Site = NewType("Site", str)
"""The short name of one PBS server and its datastore."""

Position = NewType("Position", int)
"""1, 2, 3 … per site without gaps: the order of the log."""

Revision = NewType("Revision", int)
"""1, 2, 3 … per incarnation of an object without gaps."""

Incarnation = NewType("Incarnation", int)
"""1, 2, 3 …: which life of an object id at a site."""


class Kind(StrEnum):
    """What an event is about; ``site`` is capture itself (gaps, resyncs, up and down)."""

    JOB = "job"
    QUEUE = "queue"
    NODE = "node"
    RESV = "resv"
    SERVER = "server"
    SCHEDULER = "scheduler"
    SITE = "site"


class EventName(StrEnum):
    """The most significant thing that a committed row change did."""

    SUBMIT = "submit"
    STATE = "state"
    MOVE = "move"
    MODIFY = "modify"
    USAGE = "usage"
    FINALIZE = "finalize"
    PURGE = "purge"
    CREATE = "create"
    DELETE = "delete"
    GAP = "gap"
    RESYNC = "resync"
    UP = "up"
    DOWN = "down"


class Provenance(StrEnum):
    """How we know."""

    JOURNAL = "journal"
    STATUS = "status"
    ACCOUNTING = "accounting"
    RESYNC = "resync"


class Reason(StrEnum):
    """Why a job's life at a site ended."""

    FINISHED = "finished"
    FAILED = "failed"
    TERMINATED = "terminated"
    DELETED = "deleted"
    MOVED = "moved"
    REJECTED = "rejected"
    VANISHED = "vanished"


class Payload(BaseModel):
    """What an event says beyond its header."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    omitted: tuple[str, ...] = ()
    """Attributes, columns and resources whose values were too large for a message, ``*`` for
    everything but the header and short fields. Only on NATS: the log has them, and the
    ``pbscast.v1.event`` service gives the event in full."""


class ObjectPayload(Payload):
    """Where the object stands after the event; owner, queue, project and name are a job's."""

    owner: str | None = None
    """The user of ``Job_Owner``, without the host."""
    queue: str | None = None
    project: str | None = None
    name: str | None = None
    """``Job_Name``."""
    state: str | None = None
    """A job's visible letter (``S`` and ``U`` included), a reservation's or node's state as PBS
    prints it."""
    substate: int | None = None


class ChangePayload(ObjectPayload):
    """One committed change of an object."""

    old_state: str | None = None
    old_substate: int | None = None
    changed: dict[str, str] = Field(default_factory=dict)
    """Attributes that are new or have another value, ``name`` or ``name.resource`` → value."""
    removed: tuple[str, ...] = ()
    """Attributes that are gone."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns of the datastore's row, beside the attributes, that are new or have another value."""
    escaped: tuple[str, ...] = ()
    """Attributes and columns whose value was not UTF-8 and stands escaped."""


class FinalizePayload(ObjectPayload):
    """The last word on a job at a site."""

    reason: Reason
    exit_status: int | None = None
    """PBS's ``Exit_status``: 256 + signal for a killed job, negative for PBS's own codes; None
    where PBS kept none."""
    destination: str | None = None
    """Where a moved job went, ``queue@server``."""
    usage: dict[str, str] = Field(default_factory=dict)
    """Final ``resources_used``: resource → value, where known."""


class GapPayload(Payload):
    """A period in which capture was not working."""

    begin: datetime | None = None
    """Since when events may be missing; None if that is not known."""
    end: datetime | None = None
    cause: str


class ResyncPayload(Payload):
    """The tables were compared with the projection; what differed was logged before this event."""

    cause: str
    appeared: int = 0
    changed: int = 0
    vanished: int = 0


class LivenessPayload(Payload):
    """The PBS datastore answers (``up``) or no longer answers (``down``)."""

    cause: str | None = None


class Event(BaseModel):
    """The header that every event has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    site: Site
    position: Position = Field(ge=1)
    time: datetime
    """When the change was made, by the clock of the PBS datastore."""
    kind: Kind
    id: str
    """The PBS name of the object, dots and brackets as PBS writes them; of kind ``site`` the site's
    name."""
    incarnation: Incarnation = Field(ge=1)
    revision: Revision = Field(ge=1)
    event: EventName
    provenance: Provenance

    @property
    def subject(self) -> str:
        """The NATS subject this event is published on."""
        owner: str | None = getattr(self, "owner", None)
        return event_subject(
            site=self.site, kind=self.kind, object_id=self.id, event=self.event, owner=owner
        )


class Change(Event, ChangePayload):
    """A change of a job, queue, node, reservation, server or scheduler."""

    event: Literal[
        EventName.SUBMIT,
        EventName.STATE,
        EventName.MOVE,
        EventName.MODIFY,
        EventName.USAGE,
        EventName.PURGE,
        EventName.CREATE,
        EventName.DELETE,
    ]


class Finalize(Event, FinalizePayload):
    """A job has left: exactly one per incarnation."""

    event: Literal[EventName.FINALIZE]


class Gap(Event, GapPayload):
    """Capture was not working; the resync that follows says what was found."""

    event: Literal[EventName.GAP]


class Resync(Event, ResyncPayload):
    """The projection agrees with the datastore again."""

    event: Literal[EventName.RESYNC]


class Liveness(Event, LivenessPayload):
    """The PBS datastore came or went."""

    event: Literal[EventName.UP, EventName.DOWN]


AnyEvent = Annotated[Change | Finalize | Gap | Resync | Liveness, Field(discriminator="event")]

HEADER_FIELDS: Final = frozenset(Event.model_fields)

_ESCAPE: Final = re.compile(r"\\(\\|x[0-9a-f]{2})")


def escape(raw: bytes) -> tuple[str, bool]:
    """Return bytes as text, and whether they had to be escaped because they were not UTF-8."""
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode(errors="backslashreplace"), True


def unescape(text: str) -> bytes:
    """Undo escape for a value that is listed in ``escaped``."""
    pieces: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        pieces += text[end : match.start()].encode(), _unescaped(match[1])
        end = match.end()
    return b"".join([*pieces, text[end:].encode()])


def _unescaped(code: str) -> bytes:
    return b"\\" if code == "\\" else bytes.fromhex(code[1:])
