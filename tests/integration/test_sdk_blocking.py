"""The blocking client, from threads without an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest
from harness.stream import Publisher, SiteLog, serve_history

import pbscast
from pbscast import Boundary, Item, blocking, wire


async def test_iterates_calls_back_and_asks_for_history(
    publisher: Publisher, nats_url: str
) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("1.sitea")]
    expected = [wire.decode(message.body) for message in messages]
    await publisher.publish(*messages)
    await serve_history(publisher, messages)

    def work() -> tuple[list[Item], list[Item], list[Item]]:
        called: list[Item] = []
        with blocking.connect(nats_url) as client:
            start = pbscast.beginning()
            with client.watch("1.sitea", until_finished=True, start=start) as watch:
                iterated = list(watch)
                assert watch.positions == {"sitea": 5}
            client.watch("1", until_finished=True).run(called.append)
            assert list(client.history("1.sitea", limit=2)) == expected[:2]
            return iterated, called, list(client.history("1.sitea"))

    iterated, called, history = await asyncio.to_thread(work)
    boundary = Boundary({"sitea": 5})
    assert iterated == [*expected, boundary]
    assert called == [expected[-1], boundary]
    assert history == expected


async def test_another_thread_ends_a_waiting_watch(publisher: Publisher, nats_url: str) -> None:
    def work() -> None:
        with blocking.connect(nats_url) as client:
            watch = client.watch()
            threading.Timer(0.2, watch.close).start()
            assert list(watch) == []
        with pytest.raises(pbscast.UsageError, match="has been closed"):
            next(watch)

    await asyncio.to_thread(work)
    assert await publisher.consumers() == []


async def test_errors_reach_the_caller(nats_url: str) -> None:
    def work() -> None:
        with pytest.raises(pbscast.UnavailableError), blocking.connect("nats://127.0.0.1:1"):
            pass
        with blocking.connect(nats_url) as client:
            with pytest.raises(pbscast.InvalidJobId):
                client.watch("x")
            with pytest.raises(pbscast.UnavailableError):
                next(client.watch())

    await asyncio.to_thread(work)
    assert "pbscast" not in {thread.name for thread in threading.enumerate()}
