"""An event's object as it is on either side of the event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pbscast.events import Change, EventName, Finalize, Kind, ObjectPayload
from pbscast.ids import split_subjob

if TYPE_CHECKING:
    from pbscast.lives import Standing
    from pbscast_fanout.matching.conditions import Condition
    from pbscast_fanout.matching.objects import Past

FIELDS: Final = frozenset(
    {"site", "kind", "id", "owner", "queue", "project", "name", "state", "substate"}
)
"""What an expression may name beside attributes."""


class Sight:
    """One object at one moment."""

    __slots__ = (
        "_attributes", "_changed", "_removed", "_verdicts",
        "array", "id", "kind", "name", "owner", "project", "queue", "site", "state", "substate",
    )  # fmt: skip

    def __init__(
        self,
        event: Change | Finalize | Standing,
        standing: ObjectPayload | Past | Standing,
        attributes: Mapping[str, str],
        change: Change | None = None,
    ) -> None:
        self.site, self.kind, self.id = event.site, event.kind, event.id
        self.array = split_subjob(event.id)[0] if event.kind is Kind.JOB else event.id
        self.owner, self.queue, self.project = standing.owner, standing.queue, standing.project
        self.name, self.state, self.substate = standing.name, standing.state, standing.substate
        self._attributes = attributes
        self._changed: Mapping[str, str] = {} if change is None else change.changed
        self._removed = () if change is None else change.removed
        self._verdicts: dict[int, bool] = {}

    def look_up(self, name: str) -> str | None:
        """A field's or an attribute's text."""
        if name in FIELDS:
            value = getattr(self, name)
            return None if value is None else str(value)
        if name in self._changed:
            return self._changed[name]
        return None if name in self._removed else self._attributes.get(name)

    def stands_as(self, other: Sight) -> bool:
        """Whether all that is told of where an object stands is the same."""
        return (
            self.state == other.state
            and self.substate == other.substate
            and self.queue == other.queue
            and self.name == other.name
            and self.project == other.project
            and self.owner == other.owner
        )

    def fulfils(self, condition: Condition) -> bool:
        """Whether an expression holds, worked out once for all that share it."""
        verdict = self._verdicts.get(id(condition))
        if verdict is None:
            verdict = self._verdicts[id(condition)] = condition.matches(self.look_up)
        return verdict


def before(event: Change | Finalize, past: Past | None) -> Sight | None:
    """How the object was; None if it was not there."""
    return None if past is None else Sight(event, past, past.attributes)


def after(event: Change | Finalize, past: Past | None) -> Sight | None:
    """How the event leaves it; None if it is gone."""
    if event.event is EventName.DELETE:
        return None
    attributes = {} if past is None else past.attributes
    return Sight(event, event, attributes, event if isinstance(event, Change) else None)


def standing_sight(standing: Standing) -> Sight:
    """How the log says that an object stands."""
    return Sight(standing, standing, standing.attributes or {})
