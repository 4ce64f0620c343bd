"""Programs that listen by the SDK while servers and links fail, and a load for them to hear of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import cycle, islice

from harness.fanning import draft, write

import pbscast
from pbscast import Boundary, Matched, Missed
from pbscast.errors import UnavailableError
from pbscast.events import Change
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

SITE = "sitea"
_JOBS = 20
_PAUSE = 0.02
"""Seconds between two appends of the load."""


class Audience:
    """What the callbacks of watches and of a subscription, at least once, were told of a site."""

    def __init__(self, watches: int = 1) -> None:
        self.watched: list[list[int]] = [[] for _ in range(watches)]
        self.matched: list[int] = []
        self.troubles: list[object] = []
        self._missing = watches + 1
        self._ready = asyncio.Event()
        self._news = asyncio.Event()

    async def wait_ready(self) -> None:
        """Wait until all are told of what is logged from now on."""
        async with asyncio.timeout(60):
            await self._ready.wait()

    async def reach(self, position: int, seconds: float = 60) -> None:
        """Wait until all have been told up to a position."""
        try:
            async with asyncio.timeout(seconds):
                while self._furthest < position:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not told up to {position}: {self}") from None

    @property
    def _furthest(self) -> int:
        return min((told[-1] if told else 0) for told in (*self.watched, self.matched))

    def check(self, first: int, last: int) -> None:
        """Nothing was lost, nothing was told twice, nothing out of order."""
        assert self.troubles == []
        for told in (*self.watched, self.matched):
            assert told == list(range(first, last + 1))

    def __str__(self) -> str:
        ends = [(len(told), told[-1:]) for told in (*self.watched, self.matched)]
        return f"watches {ends[:-1]}, subscription {ends[-1]}, {self.troubles}"

    async def watch(self, client: pbscast.Client, told: list[int]) -> None:
        """Take note of what a watch is told, until cancelled."""
        async with client.watch() as watch:
            self._begin()
            async for item in watch:
                self._note(told, item)

    async def subscribe(self, client: pbscast.Client) -> None:
        """The same of a registered subscription."""
        async with client.subscribe(owners="alice") as subscription:
            async for item in subscription:
                if isinstance(item, Boundary):
                    self._begin()
                self._note(self.matched, item.event if isinstance(item, Matched) else item)

    def _begin(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._ready.set()

    def _note(self, told: list[int], item: object) -> None:
        if isinstance(item, Change):
            told.append(item.position)
        elif isinstance(item, Missed):
            self.troubles.append(item)
        self._news.set()


@asynccontextmanager
async def audience(servers: str, watches: int = 1) -> AsyncIterator[Audience]:
    """One that listens; it is told of everything that is logged from now on."""
    listening = Audience(watches)
    async with pbscast.connect(servers) as client, asyncio.TaskGroup() as group:
        await _served(client)
        tasks = [group.create_task(listening.watch(client, told)) for told in listening.watched]
        tasks.append(group.create_task(listening.subscribe(client)))
        await listening.wait_ready()
        try:
            yield listening
        finally:
            for task in tasks:
                task.cancel()


async def _served(client: pbscast.Client) -> None:
    """Wait until subscriptions can be registered: servers may still have to agree on leaders."""
    async with asyncio.timeout(60):
        while True:
            with suppress(UnavailableError):
                async for _ in client.subscriptions():
                    pass
                return
            await asyncio.sleep(0.1)


def changes(prefix: str = "") -> Iterator[Draft]:
    """Of some jobs of alice in turn, without end."""
    for number in cycle(range(_JOBS)):
        yield draft(f"{number}.{SITE}", comment=prefix)


@asynccontextmanager
async def load(log: Log) -> AsyncIterator[None]:
    """Events are logged meanwhile, some hundred each second."""
    task = asyncio.create_task(_write_on(log))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _write_on(log: Log) -> None:
    source = changes()
    while True:
        with suppress(UnavailableError):
            await write(log, SITE, islice(source, 10))
        await asyncio.sleep(_PAUSE)


async def pass_events(log: Log, count: int) -> None:
    """Return once that many more events are logged."""
    target = await log.position(SITE) + count
    async with asyncio.timeout(60):
        while True:
            with suppress(UnavailableError):
                if await log.position(SITE) >= target:
                    return
            await asyncio.sleep(0.02)
