"""Waiting between attempts."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Final

FIRST_SECONDS: Final = 0.2
LAST_SECONDS: Final = 15.0
"""No pause is longer, however often it failed: so soon is noticed what works again."""


class Retry:
    """Exponential back-off with jitter, for ever: pauses double from FIRST to LAST_SECONDS."""

    def __init__(self) -> None:
        self.failures = 0

    def reset(self) -> None:
        """All is well again."""
        self.failures = 0

    def fail(self) -> float:
        """Return the seconds to wait after one more failure: half to all of the pause due."""
        delay = min(LAST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


async def pause(seconds: float, stopping: asyncio.Event) -> None:
    """Wait for that long, or until stopping is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
