"""Requests that are answered side by side, in bounded number and time, and in fair turns."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from pbscast.errors import UnavailableError

ABREAST: Final = 6
"""Requests that a worker answers at once; of the log's ten connections some are left to publish."""

WAITING: Final = 200
"""Requests that wait for their turn; another worker may have time for the others."""

SECONDS: Final = 10.0
"""For which a request may wait and be answered: by then nobody listens any more."""

ONES_ABREAST: Final = 2
"""Of those that are answered at once, one person's."""

ONES: Final = 20
"""Requests of one person, those included that wait."""

_R = TypeVar("_R")


class Turns:
    """Gives each request its turn, so that one that takes long holds up no other.

    Of each request it is said whose it is: persons have their turns one after the other, however
    many requests each has waiting. Those of nobody (None) are not limited beyond the whole.
    """

    def __init__(
        self, abreast: int = ABREAST, waiting: int = WAITING, seconds: float = SECONDS
    ) -> None:
        self._rota = _Rota(abreast)
        self._most = abreast + waiting
        self._seconds = seconds
        self._tasks: set[asyncio.Task[object]] = set()
        self._of: Counter[str | None] = Counter()

    def start(
        self, answer: Callable[[], Coroutine[None, None, object]], whose: str | None = None
    ) -> None:
        """Begin to deal with a request. Raises UnavailableError if there are too many."""
        if len(self._tasks) >= self._most:
            msg = f"{len(self._tasks)} requests are being answered: try again"
            raise UnavailableError(msg)
        if whose is not None and self._of[whose] >= ONES:
            msg = f"{ONES} requests of yours are being answered: wait for an answer, then try again"
            raise UnavailableError(msg)
        task = asyncio.create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._of[whose] += 1
        task.add_done_callback(lambda _: _take_one(self._of, whose))

    async def take(self, work: Callable[[], Awaitable[_R]], whose: str | None = None) -> _R:
        """Wait for a turn and do the work. Raises UnavailableError when time is up."""
        try:
            async with asyncio.timeout(self._seconds), self._rota.turn(whose):
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


class _Rota:
    """Who is next: who has fewest at work, of these each in turn, of one what came first."""

    def __init__(self, abreast: int) -> None:
        self._free = abreast
        self._working: Counter[str | None] = Counter()
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, whose: str | None) -> AsyncIterator[None]:
        """Wait for a turn and have it."""
        await self._wait(whose)
        try:
            yield
        finally:
            self._give_back(whose)

    async def _wait(self, whose: str | None) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(place)
        self._call()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self._give_back(whose)  # it was this one's turn just now
            raise

    def _give_back(self, whose: str | None) -> None:
        self._free += 1
        _take_one(self._working, whose)
        self._call()

    def _call(self) -> None:
        """Let those in that are next."""
        for whose in list(self._waiting):
            self._strike_out(whose)
        while self._free and (ready := [one for one in self._waiting if self._has_room(one)]):
            self._let_in(min(ready, key=lambda one: self._working[one]))

    def _has_room(self, whose: str | None) -> bool:
        return whose is None or self._working[whose] < ONES_ABREAST

    def _strike_out(self, whose: str | None) -> None:
        """Forget those who have not waited for their turn."""
        line = deque(place for place in self._waiting[whose] if not place.cancelled())
        if line:
            self._waiting[whose] = line
        else:
            del self._waiting[whose]

    def _let_in(self, whose: str | None) -> None:
        line = self._waiting.pop(whose)
        line.popleft().set_result(None)
        if line:
            self._waiting[whose] = line  # behind all others
        self._free -= 1
        self._working[whose] += 1


def _take_one(counts: Counter[str | None], whose: str | None) -> None:
    counts[whose] -= 1
    if not counts[whose]:
        del counts[whose]
