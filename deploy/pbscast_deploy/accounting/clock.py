"""The PBS server's local time, in which accounting is written, turned into moments. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

_BACKWARDS: Final = timedelta(minutes=1)
"""How far a record may lie before the one ahead of it: PBS takes a second's time once a loop."""


class LocalClock:
    """Resolves local times in the order in which they were written.

    Where clocks are put back an hour comes twice. The second it is where the record's own epoch
    (``end``, ``start`` …) is nearer to that, or, without one, where the first would lie before the
    record ahead.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._last: datetime | None = None

    def resolve(self, local: datetime, epoch: int | None = None) -> datetime:
        """Return the moment; without a zone the machine's is meant."""
        first, second = (self._moment(local.replace(fold=fold)) for fold in (0, 1))
        moment = first if first == second else self._choose(first, second, epoch)
        self._last = moment
        return moment

    def _moment(self, local: datetime) -> datetime:
        zoned = local.astimezone() if self._zone is None else local.replace(tzinfo=self._zone)
        return zoned.astimezone(UTC)

    def _choose(self, first: datetime, second: datetime, epoch: int | None) -> datetime:
        if epoch is not None:
            return min(first, second, key=lambda moment: abs(moment.timestamp() - epoch))
        late = self._last is not None and first < self._last - _BACKWARDS
        return second if late else first
