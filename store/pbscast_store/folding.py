"""What an object's events, one after the other, leave of it. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json

from pbscast.events import ObjectPayload
from pbscast_store.records import Record
from pbscast_store.source import LifeSpan

STANDING: Final = tuple(name for name in ObjectPayload.model_fields if name != "omitted")
"""Where an object stands: every payload about one has them all, and before anything else."""


@dataclass(slots=True)
class Fold:
    """The attributes of one life."""

    attributes: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """The next event of the same life."""
        payload = from_json(record.payload)
        for name in payload.get("removed", ()):
            self.attributes.pop(name, None)
        self.attributes.update(payload.get("changed", {}))
        self.columns.update(payload.get("columns", {}))

    def copy(self) -> Fold:
        return Fold(dict(self.attributes), dict(self.columns))

    @property
    def size(self) -> int:
        """Characters of all values."""
        return sum(map(len, self.attributes.values())) + sum(map(len, self.columns.values()))


@dataclass(frozen=True, slots=True)
class Folded:
    """A life's attributes at one or two moments."""

    index: int
    """Of the life among those that were asked for."""
    before: Fold
    after: Fold


async def fold_lives(
    records: AsyncIterator[Record], lives: Sequence[LifeSpan], cuts: Sequence[int]
) -> AsyncIterator[Folded]:
    """What the events of lives, told life by life, make of each: up to its cut, and in all."""
    indexes = {(life.id, life.incarnation): index for index, life in enumerate(lives)}
    index, before, after = None, None, Fold()
    async for record in records:
        current = indexes[record.id, record.incarnation]
        if current != index:
            if index is not None:
                yield Folded(index, before or after, after)
            index, before, after = current, None, Fold()
        if before is None and record.position > cuts[index]:
            before = after.copy()
        after.add(record)
    if index is not None:
        yield Folded(index, before or after, after)


def standing_of(beginning: str, *, is_whole: bool) -> dict[str, Any] | None:
    """What the beginning of a payload says of where the object stands; None if it is too short."""
    payload = from_json(beginning, allow_partial=not is_whole)
    if not is_whole and payload.keys() <= ObjectPayload.model_fields.keys():
        return None
    return {name: payload[name] for name in STANDING if name in payload}
