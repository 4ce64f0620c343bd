"""What wakes who delivers a site."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Bell:
    """Rung whenever there is something to do; collects what."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        """Subscriptions that came, changed or went."""
        self.unread = True
        """Whether the log may have more."""
        self.is_doubted = False
        """Whether the log seemed to end before what was delivered."""
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Say that the log has news."""
        self.unread = True
        self._rung.set()

    def doubt(self) -> None:
        """Say that the log seems to end before what was delivered."""
        self.is_doubted = True
        self._rung.set()

    def note(self, key: str) -> None:
        """Say that a subscription came, changed or went."""
        self.changed.add(key)
        self._rung.set()

    def nudge(self) -> None:
        """Say that there is something else to do."""
        self._rung.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until something happens, but not longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()
