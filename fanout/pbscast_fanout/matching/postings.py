"""One part of the inverted index: value → filters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbscast_fanout.matching.entries import Entry


class Postings:
    """Filters under values; a value with one filter, as most ids are, costs no set."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, Entry | set[Entry]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, value: str, entry: Entry) -> None:
        found = self._found.setdefault(value, entry)
        if isinstance(found, set):
            found.add(entry)
        elif found is not entry:
            self._found[value] = {found, entry}

    def discard(self, value: str, entry: Entry) -> None:
        found = self._found.get(value)
        if found is entry:
            del self._found[value]
        elif isinstance(found, set):
            found.discard(entry)
            if len(found) == 1:
                self._found[value] = found.pop()

    def collect(self, value: str | None, into: set[Entry]) -> None:
        """Add the filters under a value to a set."""
        if value is None or (found := self._found.get(value)) is None:
            return
        if isinstance(found, set):
            into |= found
        else:
            into.add(found)

    def load(self, values: Iterable[str]) -> int:
        """How many filters there are under values, all told."""
        return sum(map(self._count, values))

    def _count(self, value: str) -> int:
        found = self._found.get(value)
        return len(found) if isinstance(found, set) else int(found is not None)
