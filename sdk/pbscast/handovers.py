"""Where a job's history goes on at another site."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pbscast.events import Finalize, Reason

if TYPE_CHECKING:
    from pbscast.events import AnyEvent

_KEPT: Final = 10_000
"""Jobs under way between two sites that are remembered."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """A job left one site (its finalize there says ``moved``) and began a life at another."""

    id: str
    source: str
    target: str
    destination: str | None
    """Where the source sent it, ``queue@server``."""
    left: datetime
    """When it was finalized at the source, by the clock of that datastore."""
    arrived: datetime
    """When it was first seen at the target, by the clock of that one."""


class HandOvers:
    """Recognises hand-overs in the events of a history, fed in their order."""

    def __init__(self, *, newest_first: bool = False) -> None:
        self._newest_first = newest_first
        self._waiting: OrderedDict[str, AnyEvent] = OrderedDict()

    def note(self, event: AnyEvent) -> HandOver | None:
        """Return the hand-over that this event completes, being the second told of the two."""
        first, second = (_arrives, _leaves) if self._newest_first else (_leaves, _arrives)
        found = self._waiting.get(event.id) if second(event) else None
        if found is not None and found.site != event.site:
            del self._waiting[event.id]
            return _hand_over(event, found) if self._newest_first else _hand_over(found, event)
        if first(event):
            self._waiting[event.id] = event
            if len(self._waiting) > _KEPT:
                self._waiting.popitem(last=False)
        return None


def _leaves(event: AnyEvent) -> bool:
    return isinstance(event, Finalize) and event.reason is Reason.MOVED


def _arrives(event: AnyEvent) -> bool:
    return event.revision == 1


def _hand_over(leaving: AnyEvent, arriving: AnyEvent) -> HandOver:
    destination = leaving.destination if isinstance(leaving, Finalize) else None
    return HandOver(
        id=leaving.id,
        source=leaving.site,
        target=arriving.site,
        destination=destination,
        left=leaving.time,
        arrived=arriving.time,
    )
