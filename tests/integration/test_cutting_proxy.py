from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from harness.proxy import cutting_proxy


@asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[str, int]]:
    done: list[asyncio.Event] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.append(asyncio.Event())
        mine = done[-1]
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        writer.close()
        mine.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()
        await asyncio.gather(*(event.wait() for event in done))


async def ask(port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(question)
        return await reader.readexactly(len(question))
    finally:
        writer.close()


async def test_it_forwards_both_ways() -> None:
    async with echo_server() as address, cutting_proxy(address) as proxy:
        assert await ask(proxy.port, b"x" * 200_000) == b"x" * 200_000
        assert proxy.passed == {"up": 200_000, "down": 200_000}


@pytest.mark.parametrize("count", [0, 1, 7])
async def test_it_cuts_at_the_byte(count: int) -> None:
    async with echo_server() as address, cutting_proxy(address) as proxy:
        proxy.cut_after(count)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await ask(proxy.port, b"0123456789")
        assert caught.value.partial == b"0123456789"[:count]
        await proxy.wait_for_cut()
        assert await ask(proxy.port, b"again") == b"again"


async def test_it_cuts_now_refuses_and_serves_again() -> None:
    async with echo_server() as address, cutting_proxy(address) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        proxy.refusing = True
        proxy.cut()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await ask(proxy.port, b"b")
        proxy.refusing = False
        assert await ask(proxy.port, b"c") == b"c"


async def test_it_reaches_a_unix_socket(tmp_path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(greet, path)
    async with server, cutting_proxy(str(path)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read() == b"hello"
        writer.close()


async def test_a_way_that_is_long_and_no_narrower() -> None:
    async with echo_server() as address, cutting_proxy(address) as proxy:
        proxy.latency = 0.1
        clock = asyncio.get_running_loop()
        begun = clock.time()
        assert await ask(proxy.port, b"x" * 10_000_000) == b"x" * 10_000_000
        # There and back; were it narrower, each of 150 pieces would take that long.
        assert 0.2 <= clock.time() - begun < 10
