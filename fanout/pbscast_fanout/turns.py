"""Requests that are answered side by side, in bounded number and time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, TypeVar

from pbscast.errors import UnavailableError

ABREAST: Final = 6
"""Requests that a worker answers at once; of the log's ten connections some are left to publish."""

WAITING: Final = 200
"""Requests that wait for their turn; another worker may have time for the others."""

SECONDS: Final = 10.0
"""For which a request may wait and be answered: by then nobody listens any more."""

_R = TypeVar("_R")


class Turns:
    """Gives each request its turn, so that one that takes long holds up no other."""

    def __init__(
        self, abreast: int = ABREAST, waiting: int = WAITING, seconds: float = SECONDS
    ) -> None:
        self._turn = asyncio.Semaphore(abreast)
        self._most = abreast + waiting
        self._seconds = seconds
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, answer: Callable[[], Coroutine[None, None, object]]) -> None:
        """Begin to deal with a request. Raises UnavailableError if there are too many."""
        if len(self._tasks) >= self._most:
            msg = f"{len(self._tasks)} requests are being answered: try again"
            raise UnavailableError(msg)
        task = asyncio.create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def take(self, work: Callable[[], Awaitable[_R]]) -> _R:
        """Wait for a turn and do the work. Raises UnavailableError when time is up."""
        try:
            async with asyncio.timeout(self._seconds), self._turn:
                return await work()
        except TimeoutError as error:
            msg = f"no answer within {self._seconds:g} s: too much is asked at once, try again"
            raise UnavailableError(msg) from error

    async def ended(self) -> None:
        """Wait for the requests that were started."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Answer none of them."""
        for task in self._tasks:
            task.cancel()
        await self.ended()
