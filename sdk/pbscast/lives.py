"""What the log knows beside events: lives, how objects stood at a moment, and differences."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pydantic import Field

from pbscast.events import Incarnation, Kind, Position, Reason, Revision, Site
from pbscast.messages import Response


class Life(Response):
    """One incarnation of an object, from its first event to its last."""

    site: Site
    kind: Kind
    id: str
    incarnation: Incarnation
    first_position: Position
    last_position: Position
    """Later events of the same incarnation (history is purged) may still move it."""
    began: datetime
    """The time of its first event."""
    ended: datetime | None = None
    """The time of its finalize; of other objects than jobs, when it was gone. None: it lives."""
    gone: datetime | None = None
    """When its row left the datastore."""
    reason: Reason | None = None
    exit_status: int | None = None
    owner: str | None = None
    queue: str | None = None
    project: str | None = None
    name: str | None = None
    state: str | None = None
    """The last visible one."""
    reached: tuple[str, ...] = ()
    """Every state it was in, each once, in the order of the first entry."""


class Standing(Response):
    """How an object stood at a moment: as the last of its events up to then left it."""

    site: Site
    kind: Kind
    id: str
    incarnation: Incarnation
    revision: Revision
    position: Position
    """Of that last event."""
    began: datetime
    owner: str | None = None
    queue: str | None = None
    project: str | None = None
    name: str | None = None
    state: str | None = None
    substate: int | None = None
    ended: datetime | None = None
    """Set where its life had ended by then; told only of objects that are asked for by id."""
    reason: Reason | None = None
    exit_status: int | None = None
    attributes: dict[str, str] | None = None
    """All of them, ``name`` or ``name.resource`` → value; None where they were not asked for."""
    columns: dict[str, str] | None = None
    """Columns of the datastore's row, beside the attributes; None where they were not asked for."""
    omitted: tuple[str, ...] = ()
    """Attributes and columns whose values were too large for a message."""


class Values(NamedTuple):
    """An attribute at two moments; None: it was not there."""

    old: str | None
    new: str | None


class Difference(Response):
    """An object that had events between two moments."""

    before: Standing | None = None
    """At the first moment; None: it appeared after it."""
    after: Standing
    """At the second; where its life had ended by then, with ``ended`` and how."""
    changed: dict[str, Values] = Field(default_factory=dict)
    """Attributes that differ; empty for an object that appeared."""
    omitted: tuple[str, ...] = ()
    """Attributes that differ, but whose values were too large for a message."""

    @property
    def appeared(self) -> bool:
        """Whether it was not there at the first moment."""
        return self.before is None

    @property
    def ended(self) -> bool:
        """Whether it was no longer live at the second moment; it may have appeared as well."""
        return self.after.ended is not None
