"""What a history passes over: revisions have no gaps, so what is not told shows by its number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pbscast.events import AnyEvent

MOST: Final = 100_000
"""Lives that are followed at once; beyond that a gap in one of the earlier goes unnoticed."""


class Revisions:
    """Counts the events between those of a history that it did not tell, in either order.

    Usage events that were thinned in the archives are such; where a range of time was asked for,
    also events between two others of which a datastore's clock said another time.
    """

    def __init__(self) -> None:
        self.missing = 0
        """Events that were passed over so far."""
        self._last: dict[tuple[str, str, str, int], int] = {}

    def observe(self, event: AnyEvent) -> None:
        """Take in the next event."""
        key = (event.site, event.kind.value, event.id, event.incarnation)
        last = self._last.pop(key, None)
        if last is not None:
            self.missing += abs(event.revision - last) - 1
        elif len(self._last) >= MOST:
            del self._last[next(iter(self._last))]
        self._last[key] = event.revision
