"""Where the history of an object stands: all that numbering its next event needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

CAPACITY: Final = 100_000
"""Objects whose heads a writer keeps; about 40 MB."""


class ObjectKey(NamedTuple):
    """What names an object within a site."""

    kind: str
    id: str


class Head(NamedTuple):
    """The last event of an object's latest incarnation."""

    incarnation: int
    revision: int
    finalized: bool
    gone: bool
    born: str | None


@dataclass(slots=True)
class HeadCache:
    """The heads of the objects that changed last. A miss says nothing: ask the log."""

    capacity: int = CAPACITY
    _heads: OrderedDict[ObjectKey, Head] = field(default_factory=OrderedDict)

    def get(self, key: ObjectKey) -> Head | None:
        return self._heads.get(key)

    def update(self, heads: Mapping[ObjectKey, Head]) -> None:
        """Remembers heads, and forgets those that were updated longest ago."""
        for key, head in heads.items():
            self._heads[key] = head
            self._heads.move_to_end(key)
        while len(self._heads) > self.capacity:
            self._heads.popitem(last=False)
