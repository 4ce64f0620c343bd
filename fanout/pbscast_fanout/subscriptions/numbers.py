"""How many messages of a site each subscription has had."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

    from pbscast_fanout.subscriptions.writer import DeliveryWriter

_ABREAST: Final = 50


class Numbers:
    """Counts; where a subscription stands is asked of the stream when it is first needed."""

    def __init__(self, writer: DeliveryWriter, before: Mapping[str, int]) -> None:
        """`before` holds for those whose last message the stream has lost."""
        self._writer = writer
        self._before = before
        self._last: dict[str, int] = {}

    async def ask(self, keys: Iterable[str]) -> None:
        """Make sure that these are known. Raises UnavailableError."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._last]
        for start in range(0, len(missing), _ABREAST):
            some = missing[start : start + _ABREAST]
            found = await asyncio.gather(*map(self._writer.last_number, some))
            for key, number in zip(some, found, strict=True):
                self._last.setdefault(key, max(number, self._before.get(key, 0)))

    def has_had(self, key: str) -> bool:
        """Whether it is known to have had a message; it has been asked for."""
        return self._last[key] > 0

    def next(self, key: str) -> int:
        """Count one more."""
        self._last[key] += 1
        return self._last[key]

    def retain(self, keys: Container[str]) -> None:
        """Forget all others, of whom nothing may be under way."""
        self._last = {key: number for key, number in self._last.items() if key in keys}
        self._before = {key: number for key, number in self._before.items() if key in keys}

    def all(self, keys: Collection[str]) -> dict[str, int]:
        """Return the last numbers of these, as far as they are known."""
        known = {**self._before, **self._last}
        return {key: known[key] for key in keys if key in known}
