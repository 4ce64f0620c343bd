"""Waiting between attempts."""

from __future__ import annotations

import random
from typing import Final

FIRST_SECONDS: Final = 0.2
LAST_SECONDS: Final = 15.0


class Retry:
    """Exponential back-off with jitter, for ever."""

    def __init__(self) -> None:
        self.failures = 0

    def reset(self) -> None:
        """All is well again."""
        self.failures = 0

    def fail(self) -> float:
        """Return the seconds to wait after one more failure."""
        delay = min(LAST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
