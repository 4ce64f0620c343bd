"""What time it is at the log database, without asking it each time."""

from __future__ import annotations

from datetime import datetime, timedelta
from time import monotonic


class Clock:
    """A clock that was set by another one and runs on by itself."""

    def __init__(self, now: datetime) -> None:
        self.set(now)

    def set(self, now: datetime) -> None:
        """It is `now` at this moment."""
        self._set_to, self._set_at = now, monotonic()

    def now(self) -> datetime:
        """The time by now."""
        return self._set_to + timedelta(seconds=monotonic() - self._set_at)
