"""Reads from the log what subscriptions that join need, beside the deliveries."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from pbscast.errors import PbscastError
from pbscast.selection import MOST_VALUES
from pbscast_fanout.subscriptions import standings
from pbscast_fanout.subscriptions.joining import Join, Learn, Wish

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator

    from pbscast.events import Site
    from pbscast_fanout.subscriptions.means import Means
    from pbscast_fanout.subscriptions.numbers import Numbers
    from pbscast_fanout.subscriptions.site import SiteDeliveries

ABREAST: Final = 3
"""Of one site."""

_MOST_LARGE: Final = 2
"""Of these, that are about more than a few ids: the others wait for none of them."""

MOST_WAITING: Final = 2_000
"""Messages of one subscription that are read ahead of what is stored."""

LONGEST_RETRY: Final = 30.0
_NOTED: Final = 3
"""After so many failures in a row somebody should know."""

_Errand = Wish | Join | Learn
_Page = TypeVar("_Page")

_log = structlog.get_logger(__name__)


class Errands:
    """Runs them, as many pages at a time as all sites together may read; ``aclose`` it.

    One that fails is begun anew later and later, and nobody else notices.
    """

    def __init__(
        self,
        means: Means,
        core: SiteDeliveries,
        site: Site,
        numbers: Numbers,
        tell: Callable[[], None],
    ) -> None:
        """`tell` is called when one has brought something."""
        self._means = means
        self._core = core
        self._site = site
        self._numbers = numbers
        self._tell = tell
        self._small: deque[_Errand] = deque()
        self._large: deque[_Errand] = deque()
        self._large_under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: dict[int, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._drawn = asyncio.Event()

    def start(self, errands: Iterable[_Errand]) -> None:
        """Begin with these as soon as it is their turn."""
        for errand in errands:
            (self._small if _is_small(errand) else self._large).append(errand)
        waiting = len(self._small) + len(self._large)
        for _ in range(min(waiting, ABREAST - len(self._tasks))):
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def drawn(self) -> None:
        """Say that messages were taken away."""
        self._drawn.set()
        self._drawn = asyncio.Event()

    async def aclose(self) -> None:
        """Give them up."""
        for timer in self._later.values():
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        await self._means.room.wait()
        while (errand := self._next()) is not None:
            is_large = not _is_small(errand)
            self._large_under_way += is_large
            try:
                await self._try([errand, *self._like(errand)])
            finally:
                self._large_under_way -= is_large
            await self._means.room.wait()

    def _next(self) -> _Errand | None:
        if self._large and self._large_under_way < _MOST_LARGE:
            return self._large.popleft()
        return self._small.popleft() if self._small else None

    def _like(self, first: _Errand) -> Iterator[Wish]:
        """The next ones, as long as all can be asked for at once: few ids each, of jobs."""
        if not isinstance(first, Wish) or not self._is_alike(first):
            return
        count = len(first.request.ids)
        while self._small and isinstance(wish := self._small[0], Wish) and self._is_alike(wish):
            count += len(wish.request.ids)
            if count > MOST_VALUES:
                break
            self._small.popleft()
            yield wish

    def _is_alike(self, wish: Wish) -> bool:
        """Whether nothing speaks against asking for it together with others."""
        return _is_small(wish) and wish.key not in self._failures

    async def _try(self, errands: list[_Errand]) -> None:
        """Do these; `errands` becomes what is under way in their place."""
        try:
            await self._do(errands)
        except Exception as error:  # noqa: BLE001 - one subscription's, were it our own bug
            if not isinstance(error, PbscastError):
                _log.exception("joining_bug", site=self._site)
            for errand in errands:
                self._put_off(errand, error)
        else:
            for errand in errands:
                self._failures.pop(_name(errand), None)

    def _put_off(self, errand: _Errand, error: Exception) -> None:
        again = self._core.put_off(errand)
        if again is None:
            return
        name = _name(errand)
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures == _NOTED:
            _log.warning("joining_fails", site=self._site, subscription=name, error=repr(error))
        delay = min(LONGEST_RETRY, 0.1 * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        loop = asyncio.get_running_loop()
        self._later[again.ticket] = loop.call_later(delay, self._retry, again)

    def _retry(self, errand: Wish | Learn) -> None:
        del self._later[errand.ticket]
        if self._core.is_wanted(errand):
            self.start([errand])
        else:
            self._failures.pop(_name(errand), None)

    async def _do(self, errands: list[_Errand]) -> None:
        [first, *_] = errands
        if isinstance(first, Learn):
            await self._learn(first)
            return
        joins = [first] if isinstance(first, Join) else await self._embark(errands)
        errands[:] = joins
        if len(joins) > 1 and sum(len(join.ids) for join in joins) <= MOST_VALUES:
            await self._join_together(joins)
        else:  # also if they were given more ids meanwhile
            for join in joins:
                await self._join(join)

    async def _embark(self, errands: list[_Errand]) -> list[Join]:
        """Let them begin, those that are still to."""
        wishes = [item for item in errands if isinstance(item, Wish) and self._core.is_wanted(item)]
        await self._numbers.ask([wish.key for wish in wishes])
        return [join for wish in wishes if (join := self._core.embark(wish)) is not None]

    async def _join_together(self, joins: list[Join]) -> None:
        pages = standings.joining_together(self._means.log, self._site, joins)
        async with aclosing(self._paged(pages)) as found:
            async for page in found:
                for join, rows in page.items():
                    self._core.offer(join, rows)
                self._tell()
                await self._told(joins)
        for join in joins:
            self._core.bound(join)
        self._tell()

    async def _learn(self, learn: Learn) -> None:
        pages = standings.living(self._means.log, self._site, learn.position, attributes=True)
        async with aclosing(self._paged(pages)) as found:
            async for page in found:
                if not self._core.is_wanted(learn):
                    return
                self._core.supply(learn, page)
        self._core.supplied(learn)
        self._tell()

    async def _join(self, join: Join) -> None:
        await self._numbers.ask([join.key])
        pages = standings.joining(self._means.log, self._site, join)
        async with aclosing(self._paged(pages)) as found:
            async for page in found:
                self._core.offer(join, page)
                self._tell()
                await self._told([join])
                if not self._core.is_wanted(join):
                    return
        self._core.bound(join)
        self._tell()

    async def _paged(self, pages: AsyncIterator[_Page]) -> AsyncGenerator[_Page, None]:
        """Read one page at a time, each when it is its turn: large ones hold nobody up."""
        while True:
            async with self._means.reading:
                page = await anext(pages, None)
            if page is None:
                return
            yield page

    async def _told(self, joins: list[Join]) -> None:
        """Wait until so much of these is told that more may be read."""
        while (backlog := sum(map(self._core.backlog, joins))) > 0:
            if backlog <= MOST_WAITING and not self._means.room.is_full:
                break
            await self._drawn.wait()


def _is_small(errand: _Errand) -> bool:
    """Whether it is about few ids of jobs, so that one page says how they stood."""
    return not isinstance(errand, Learn) and 0 < len(errand.request.ids) <= MOST_VALUES


def _name(errand: _Errand) -> str:
    """Whose failures count together."""
    return "" if isinstance(errand, Learn) else errand.key
