"""Objects that are asked for, and where their events stand. Pure; ids are compared as bytes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from pyarrow.compute import Expression


class Mention(NamedTuple):
    """Where an event stands that is about an object."""

    id: str
    kind: str
    position: int
    time: datetime
    bytes: int
    """Of its payload."""


@dataclass(frozen=True, slots=True)
class Ids:
    """A set of ids, or those of an array and its subjobs."""

    low: str
    high: str
    """The least and the greatest that may belong."""
    members: frozenset[str] | None
    """None: all in between that end with `end`."""
    end: str = ""

    @classmethod
    def one(cls, object_id: str) -> Self:
        """A single object."""
        return cls(object_id, object_id, frozenset({object_id}))

    @classmethod
    def any_of(cls, ids: Collection[str]) -> Self:
        """Several objects, at least one."""
        return cls(min(ids), max(ids), frozenset(ids))

    @classmethod
    def array(cls, object_id: str) -> Self:
        r"""An array `N[].server` and its subjobs: all ids from `N[` to before `N\\`."""
        number, _, end = object_id.partition("[")
        return cls(f"{number}[", f"{number}\\", None, end)

    def may_lie_between(self, least: str, greatest: str) -> bool:
        """Whether ids from `least` to `greatest` could belong."""
        if self.high < least or greatest < self.low:
            return False
        return self.members is None or any(least <= member <= greatest for member in self.members)

    def expression(self) -> Expression:
        """The condition on a column `id`."""
        import pyarrow as pa  # noqa: PLC0415 - only where an archive is read
        from pyarrow import compute  # noqa: PLC0415 - as above

        column = compute.field("id")
        if self.members is not None:
            return column.isin(pa.array(sorted(self.members), pa.string()))
        return (
            (column >= self.low)
            & (column < self.high)
            & compute.ends_with(column, pattern=self.end)
        )
