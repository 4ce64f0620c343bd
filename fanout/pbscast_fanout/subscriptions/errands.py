"""Reads from the log what subscriptions that join need, beside the deliveries."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from pbscast.selection import MOST_VALUES
from pbscast_fanout.subscriptions import standings
from pbscast_fanout.subscriptions.joining import Join, Learn, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pbscast.events import Site
    from pbscast_fanout.subscriptions.numbers import Numbers
    from pbscast_fanout.subscriptions.site import SiteDeliveries
    from pbscast_store.log import Log

ABREAST: Final = 3
"""Of one site."""

MOST_WAITING: Final = 2_000
"""Messages of one subscription that are read ahead of what is stored."""


class Errands:
    """Runs them, as many at a time as the `turns` of all sites let it; ``aclose`` it."""

    def __init__(
        self,
        log: Log,
        core: SiteDeliveries,
        site: Site,
        numbers: Numbers,
        turns: asyncio.Semaphore,
        tell: Callable[[], None],
    ) -> None:
        """`tell` is called when one has brought something, or failed."""
        self._log = log
        self._core = core
        self._site = site
        self._numbers = numbers
        self._turns = turns
        self._tell = tell
        self._waiting: deque[Wish | Join | Learn] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drawn = asyncio.Event()
        self._failure: BaseException | None = None

    def start(self, errands: Iterable[Wish | Join | Learn]) -> None:
        """Begin with these as soon as it is their turn."""
        self._waiting.extend(errands)
        for _ in range(min(len(self._waiting), ABREAST - len(self._tasks))):
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def check(self) -> None:
        """Raise what one of them raised."""
        if self._failure is not None:
            raise self._failure

    def drawn(self) -> None:
        """Say that messages were taken away."""
        self._drawn.set()
        self._drawn = asyncio.Event()

    async def aclose(self) -> None:
        """Give them up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
            self._tell()

    async def _run(self) -> None:
        while self._waiting:
            async with self._turns:
                if self._waiting:  # still, after our turn has come
                    await self._do(self._waiting.popleft())

    async def _do(self, errand: Wish | Join | Learn) -> None:
        if isinstance(errand, Learn):
            await self._learn(errand)
        elif isinstance(errand, Join):
            await self._join(errand)
        else:
            wishes = [errand, *self._like(errand)]
            joins = [join for wish in wishes if (join := self._core.embark(wish)) is not None]
            await self._numbers.ask([join.key for join in joins])
            if len(joins) > 1 and sum(len(join.ids) for join in joins) <= MOST_VALUES:
                await self._join_together(joins)
            else:  # also if they were given more ids meanwhile
                for join in joins:
                    await self._join(join)

    def _like(self, first: Wish) -> Iterator[Wish]:
        """The next ones, as long as all can be asked for at once: few ids each, of jobs."""
        count = len(first.request.ids)
        while self._waiting and 0 < count <= MOST_VALUES:
            wish = self._waiting[0]
            if not isinstance(wish, Wish) or not wish.request.ids:
                break
            count += len(wish.request.ids)
            if count <= MOST_VALUES:
                self._waiting.popleft()
                yield wish

    async def _join_together(self, joins: list[Join]) -> None:
        async for found in standings.joining_together(self._log, self._site, joins):
            for join, rows in found.items():
                self._core.offer(join, rows)
            self._tell()
        for join in joins:
            self._core.bound(join)
        self._tell()

    async def _learn(self, learn: Learn) -> None:
        pages = standings.living(self._log, self._site, learn.position, attributes=True)
        async for page in pages:
            if not self._core.is_wanted(learn):
                return
            self._core.supply(learn, page)
        self._core.supplied(learn)
        self._tell()

    async def _join(self, join: Join) -> None:
        await self._numbers.ask([join.key])
        async for page in standings.joining(self._log, self._site, join):
            self._core.offer(join, page)
            self._tell()
            while self._core.backlog(join) > MOST_WAITING:
                await self._drawn.wait()
            if not self._core.is_wanted(join):
                return
        self._core.bound(join)
        self._tell()
