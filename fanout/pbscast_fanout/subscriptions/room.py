"""Memory for what waits to be told to subscriptions that join, of all sites of a worker."""

from __future__ import annotations

import asyncio
from typing import Final

MOST_BYTES: Final = 256 * 1024 * 1024
"""While so much waits nobody else begins to join, and nothing is read ahead for those who do."""


class Room:
    """Counts what is taken of it. It may be overdrawn: what happens to those who join is held."""

    def __init__(self) -> None:
        self._used = 0
        self._freed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether to wait before taking more."""
        return self._used >= MOST_BYTES

    def add(self, size: int) -> None:
        """Take so many bytes, or give them back if negative."""
        self._used += size
        if not self.is_full:
            self._freed.set()

    async def wait(self) -> None:
        """Return when it is not full."""
        while self.is_full:
            self._freed.clear()
            await self._freed.wait()
