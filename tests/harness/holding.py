"""Helpers for tests of what NATS holds of subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress

from pbscast.subscriptions import SubscribeRequest
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.subscriptions.definitions import Definition
from pbscast_fanout.subscriptions.following import Anew, UpToDate
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_fanout.subscriptions.registry import Registry, Removed


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection."""
    connection = Connection(NatsSettings(servers=(url,), timeout=5), name="test")
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def kept(url: str) -> AsyncIterator[Connection]:
    """A connection that is replaced when it is lost for good, as a worker's."""
    connection = Connection(NatsSettings(servers=(url,), timeout=5), name="test")
    keeping = asyncio.create_task(connection.keep())
    await connection.tried()
    try:
        yield connection
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def holdings_at(connection: Connection) -> Holdings:
    """Everything of subscriptions, made."""
    holdings = Holdings.of(connection, FanoutSettings())
    await holdings.ensure()
    return holdings


def wanting(*ids: str, lease: int = 600, **fields: object) -> SubscribeRequest:
    """A request; with a shorter lease than a client may ask for."""
    request = SubscribeRequest.model_validate({"ids": ids, **fields})
    return request.model_copy(update={"lease": lease})


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = 30) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for is only to be asked
            await asyncio.sleep(0.01)


class View:
    """What somebody sees who follows the registry."""

    def __init__(self) -> None:
        self.definitions: dict[str, Definition] = {}
        self.begun_anew = 0
        self.is_current = False
        self.news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def of(cls, registry: Registry) -> AsyncIterator[View]:
        """Follow, and wait until all is known."""
        view = cls()
        task = asyncio.create_task(view.run(registry))
        try:
            await view.until(lambda: view.is_current)
            yield view
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run(self, registry: Registry) -> None:
        """Take in what is told."""
        async with aclosing(registry.changes()) as changes:
            async for change in changes:
                self._take(change)
                self.news.set()

    def _take(self, change: Definition | Removed | Anew | UpToDate) -> None:
        if isinstance(change, Removed):
            self.definitions.pop(change.id, None)
        elif isinstance(change, Definition):
            self.definitions[change.id] = change
        elif isinstance(change, Anew):
            self.definitions.clear()
            self.begun_anew += 1
            self.is_current = False
        else:
            self.is_current = True

    async def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait for news until the condition holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.news.clear()
                await self.news.wait()
