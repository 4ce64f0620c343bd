"""A TCP proxy that cuts, refuses and delays connections: the network as it is on a bad day."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["up", "down"]
_CHUNK = 65536
_UNDER_WAY = 1000
"""Chunks that a slow way holds for each connection and direction."""


@dataclass
class CuttingProxy:
    """Forwards 127.0.0.1:`port` to a TCP address or to a Unix socket's path.

    `up` is the way to the server, `down` the way back. Byte counts are over all connections since
    the proxy was made.
    """

    target: tuple[str, int] | str
    port: int = 0
    refusing: bool = False
    delay: float = 0.0
    """Seconds that each chunk takes, one after another: a slow network."""
    latency: float = 0.0
    """Seconds that each chunk is under way, others meanwhile too: a network that is far away."""
    flowing: asyncio.Event = field(default_factory=lambda: _set(asyncio.Event()))
    """Cleared: what comes is held back, until it is set again."""
    passed: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    cuts: int = 0
    connections: int = 0
    _limit: dict[Direction, int | None] = field(default_factory=lambda: {"up": None, "down": None})
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _sessions: set[_Session] = field(default_factory=set)
    _cut: asyncio.Event = field(default_factory=asyncio.Event)

    def cut_after(self, count: int, direction: Direction = "down") -> None:
        """Cuts every connection once `count` more bytes have passed, to the byte."""
        self._cut.clear()
        self._limit[direction] = self.passed[direction] + count

    def cut(self) -> None:
        """Resets every connection now."""
        self._limit = {"up": None, "down": None}
        self.cuts += 1
        self._cut.set()
        for session in list(self._sessions):
            session.reset()

    async def wait_for_cut(self) -> None:
        """Returns once the cut asked for by `cut_after` has happened."""
        await self._cut.wait()

    def allowance(self, direction: Direction) -> int:
        """How many bytes may pass before the cut."""
        limit = self._limit[direction]
        return _CHUNK if limit is None else limit - self.passed[direction]

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until either side ends it, or the proxy cuts it."""
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.refusing:
            _abort(writer)
            return
        try:
            upstream = await self._open()
        except OSError:
            _abort(writer)
            return
        session = _Session(self, (reader, writer), upstream)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def close(self) -> None:
        """Cuts every connection and waits until all are done with."""
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)


@dataclass(eq=False)
class _Session:
    proxy: CuttingProxy
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter]

    async def run(self) -> None:
        """A side's end of file ends the other direction too: no protocol here half-closes."""
        for _, writer in (self.client, self.server):
            writer.transport.set_write_buffer_limits(high=0)  # so that `drain` flushes
        pumps = [
            asyncio.create_task(self._pump("up", self.client[0], self.server[1])),
            asyncio.create_task(self._pump("down", self.server[0], self.client[1])),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self.client[1].close()
        self.server[1].close()

    def reset(self) -> None:
        """Both sides see a connection reset."""
        _abort(self.client[1])
        _abort(self.server[1])

    async def _pump(
        self, way: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
        departing = asyncio.create_task(self._depart(source, under_way))
        try:
            with contextlib.suppress(ConnectionError):
                await self._arrive(way, under_way, sink)
        finally:
            departing.cancel()

    async def _depart(
        self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                await asyncio.sleep(self.proxy.delay)
                await self.proxy.flowing.wait()
                await under_way.put((self._now() + self.proxy.latency, data))
        await under_way.put((self._now() + self.proxy.latency, b""))

    async def _arrive(
        self,
        way: Direction,
        under_way: asyncio.Queue[tuple[float, bytes]],
        sink: asyncio.StreamWriter,
    ) -> None:
        while True:
            due, data = await under_way.get()
            if (rest := due - self._now()) > 0:
                await asyncio.sleep(rest)
            if not data:
                return
            await self._forward(way, data, sink)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _forward(self, way: Direction, data: bytes, sink: asyncio.StreamWriter) -> None:
        allowed = self.proxy.allowance(way)
        sink.write(data[:allowed])
        self.proxy.passed[way] += len(data[:allowed])
        await sink.drain()
        if len(data) > allowed or self.proxy.allowance(way) == 0:
            self.proxy.cut()


@asynccontextmanager
async def cutting_proxy(target: tuple[str, int] | str) -> AsyncIterator[CuttingProxy]:
    """Runs a proxy to `target`: (host, port) or the path of a Unix socket."""
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()


def _set(event: asyncio.Event) -> asyncio.Event:
    event.set()
    return event


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
