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
    """The heads of the objects that changed last. A miss says: the log has it, if there is one."""

    capacity: int = CAPACITY
    _heads: OrderedDict[ObjectKey, tuple[int, Head]] = field(default_factory=OrderedDict)

    def get(self, key: ObjectKey) -> Head | None:
        found = self._heads.get(key)
        return None if found is None else found[1]

    def update(self, heads: Mapping[ObjectKey, Head], position: int) -> None:
        """Remembers heads as a plan leaves them that ends at a position."""
        for key, head in heads.items():
            self._heads[key] = position, head
            self._heads.move_to_end(key)

    def trim(self, written: int) -> None:
        """Forgets those that were updated longest ago, as far as the log has them.

        A head that is planned but not written must stay: looked up, it would be the one before,
        and the object's next event would repeat a revision.
        """
        while len(self._heads) > self.capacity:
            key, (position, _) = next(iter(self._heads.items()))
            if position > written:
                return
            del self._heads[key]
