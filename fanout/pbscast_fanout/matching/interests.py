"""Attributes of interest: whether an event touches them, and the event cut to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pbscast.events import Change, EventName, Finalize

if TYPE_CHECKING:
    from pbscast.lives import Standing

_ALL: Final = "*"
"""Among omitted names: even these did not fit."""


@dataclass(frozen=True, slots=True)
class Interest:
    """Names of attributes and columns; ``Resource_List`` covers all its resources.

    Equal ones cut to equal messages, so that a message is made once for all who share one.
    """

    names: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> Interest | None:
        """None where everything is of interest."""
        return _shared(frozenset(names)) if names else None

    def covers(self, name: str) -> bool:
        return name in self.names or name.partition(".")[0] in self.names

    def touches(self, event: Change | Finalize) -> bool:
        """Whether one of them is new, has another value or is gone; the last word touches all.

        ``job_state`` is what qstat shows: it is touched as well when a job is suspended, which
        changes no attribute.
        """
        if isinstance(event, Finalize) or event.event is EventName.DELETE:
            return True
        covers = self.covers
        if any(map(covers, event.changed)) or any(map(covers, event.removed)):
            return True
        if any(map(covers, event.columns)) or any(map(covers, event.omitted)):
            return True
        return (
            "job_state" in self.names
            and event.old_state is not None
            and event.old_state != event.state
        )

    def cut(self, event: Change | Finalize) -> Change | Finalize:
        """The event with these alone; a finalize stays whole."""
        if isinstance(event, Finalize):
            return event
        return event.model_copy(
            update={
                "changed": self._only(event.changed),
                "columns": self._only(event.columns),
                "removed": tuple(filter(self.covers, event.removed)),
                "escaped": tuple(filter(self.covers, event.escaped)),
                "omitted": tuple(
                    name for name in event.omitted if name == _ALL or self.covers(name)
                ),
            }
        )

    def cut_standing(self, standing: Standing) -> Standing:
        """How an object stands, with these alone."""
        attributes, columns = standing.attributes, standing.columns
        return standing.model_copy(
            update={
                "attributes": None if attributes is None else self._only(attributes),
                "columns": None if columns is None else self._only(columns),
            }
        )

    def _only(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in values.items() if self.covers(name)}


@lru_cache(4096)
def _shared(names: frozenset[str]) -> Interest:
    return Interest(names)
