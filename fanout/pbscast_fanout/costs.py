"""Whether a few events are sooner on the stream one by one or as a batch: what both cost of late.

An event is one round trip, and one flush where the server flushes each message. A batch is one
round trip too, but costs the server files of its own. Which is cheaper depends on disk and load.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 12
"""More than so many events always go as a batch, so a batch's cost cannot stay unknown."""

_TYPICAL: Final = 32
"""The cost of larger batches says nothing of small ones."""

_WEIGHT: Final = 0.2


class Costs:
    """Moving averages, in seconds; at first an event is taken to cost a twelfth of a batch."""

    def __init__(self) -> None:
        self._event = 0.001
        self._batch = MOST * self._event

    def favour_batch(self, count: int) -> bool:
        """Whether this many events should go as a batch."""
        return count > MOST or (count > 1 and count * self._event > self._batch)

    def note_event(self, seconds: float) -> None:
        """Learn what one event took to its acknowledgement."""
        self._event += _WEIGHT * (seconds - self._event)

    def note_batch(self, seconds: float, count: int) -> None:
        """Learn what a batch took."""
        if count <= _TYPICAL:
            self._batch += _WEIGHT * (seconds - self._batch)
