"""Watches while nats-server dies, the network is cut and the stream is not what it was."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from harness.openings import serving_openings
from harness.proxy import CuttingProxy, cutting_proxy
from harness.stream import STREAM, Message, Publisher, SiteLog, publishing

import pbscast
from pbscast import ConnectionState, Item, Missed, Watch, connection, dialing, wire
from pbscast.driver import Driver
from pbscast.errors import UnavailableError
from pbscast.openings import CloseRequest
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.askers import Asker
from pbscast_fanout.openings import Openings


@pytest.fixture(autouse=True)
def quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "RECONNECT_WAIT", 0.1)


@pytest.fixture
async def publisher(own_nats: NatsServer) -> AsyncIterator[Publisher]:
    async with publishing(own_nats.url) as publisher, serving_openings(own_nats.url):
        yield publisher


@pytest.fixture
async def proxy(own_nats: NatsServer) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(("127.0.0.1", own_nats.port)) as proxy:
        yield proxy


def lives(site: SiteLog, count: int) -> list[Message]:
    first = site.position
    return [
        message
        for number in range(first, first + count)
        for message in [*site.life(f"{number}.sitea"), site.mark()]
    ]


def events(messages: list[Message]) -> list[Item]:
    return [wire.decode(item.body) for item in messages if not item.subject.endswith("mark")]


async def take(watch: Watch, count: int) -> list[Item]:
    async with asyncio.timeout(60):
        return [await anext(watch) for _ in range(count)]


async def test_kill_9_of_the_server_loses_and_repeats_nothing(
    own_nats: NatsServer, publisher: Publisher
) -> None:
    site = SiteLog("sitea")
    states: list[ConnectionState] = []
    async with (
        pbscast.connect(own_nats.url, on_state=states.append) as client,
        client.watch() as everything,
        client.watch("7.sitea") as one,
    ):
        told: list[Item] = []
        published: list[Message] = []
        for _ in range(3):
            batch = lives(site, 20)
            published += batch
            await publisher.publish(*batch)
            told += await take(everything, 50)
            await asyncio.to_thread(own_nats.kill)
            await asyncio.to_thread(own_nats.start)
            await until_connected(publisher)
        told += await take(everything, len(events(published)) - len(told))
        assert told == events(published)
        assert await take(one, 5) == [event for event in told if event.id == "7.sitea"]  # type: ignore[union-attr]
        assert states[:3] == ["connected", "reconnecting", "connected"]


async def test_a_connection_cut_at_any_byte_loses_and_repeats_nothing(
    proxy: CuttingProxy, publisher: Publisher
) -> None:
    site = SiteLog("sitea")
    async with pbscast.connect(f"nats://127.0.0.1:{proxy.port}") as client, client.watch() as watch:
        told: list[Item] = []
        published: list[Message] = []
        for cut_after in (1, 500, 3_000, 20_000, 100_000):
            proxy.cut_after(cut_after)
            batch = lives(site, 60)
            published += batch
            await publisher.publish(*batch)
            told += await take(watch, len(events(batch)))
        assert told == events(published)
        assert proxy.connections >= 5


async def test_a_stream_that_lost_its_tail_and_was_refilled(publisher: Publisher) -> None:
    """A crash without fsync: sequence numbers are used again, for other messages."""
    site = SiteLog("sitea", begin=datetime.now(UTC))
    other = SiteLog("siteb", begin=datetime.now(UTC))
    batch = lives(site, 10)
    async with (
        pbscast.connect(str(publisher.client.connected_url.geturl())) as client,  # type: ignore[union-attr]
        client.watch() as watch,
    ):
        await publisher.publish(*batch)
        assert await take(watch, 50) == events(batch)
        await publisher.jetstream.delete_stream(STREAM)
        await publisher.create()
        news = lives(other, 5)
        await publisher.publish(*batch[:30], *news, *batch[30:], *(more := lives(site, 2)))
        assert await take(watch, 35) == events(news) + events(more)


async def test_a_stream_that_lost_its_tail_and_stays_short(publisher: Publisher) -> None:
    site = SiteLog("sitea", begin=datetime.now(UTC))
    batch = lives(site, 10)
    async with (
        pbscast.connect(str(publisher.client.connected_url.geturl())) as client,  # type: ignore[union-attr]
        client.watch() as watch,
    ):
        await publisher.publish(*batch)
        assert await take(watch, 50) == events(batch)
        await publisher.jetstream.delete_stream(STREAM)
        await publisher.create()
        await publisher.publish(*batch[:6], message := site.job("1.siteb"))
        # Position 51 follows 50 at once: the repeats before it are dropped, nothing is missing.
        assert await take(watch, 1) == events([message])


@pytest.mark.parametrize("heard", [0, 50])
async def test_a_lost_stream_filled_again_tells_nothing_old_as_live(
    publisher: Publisher, heard: int
) -> None:
    site = SiteLog("sitea", begin=datetime.now(UTC))
    old = SiteLog("siteb", begin=datetime.now(UTC) - timedelta(days=2))
    batch = lives(site, 10)
    async with (
        pbscast.connect(str(publisher.client.connected_url.geturl())) as client,  # type: ignore[union-attr]
        client.watch() as watch,
    ):
        if heard:
            await publisher.publish(*batch)
            assert await take(watch, heard) == events(batch)
        await publisher.jetstream.delete_stream(STREAM)
        await publisher.create()
        await publisher.publish(*lives(old, 5), *batch, last := site.job("1.sitea"))
        missing = events([*batch, last])[heard:]
        assert await take(watch, len(missing)) == missing


@pytest.mark.parametrize("heard", [0, 50])
async def test_an_emptied_stream_filled_again_tells_nothing_old_as_live(
    publisher: Publisher, heard: int
) -> None:
    """The stream stays the same one, and its consumer too: nothing breaks."""
    site = SiteLog("sitea", begin=datetime.now(UTC))
    old = SiteLog("siteb", begin=datetime.now(UTC) - timedelta(days=2))
    before, batch = lives(old, 5), lives(site, 10)
    await publisher.publish(*before)
    async with (
        pbscast.connect(str(publisher.client.connected_url.geturl())) as client,  # type: ignore[union-attr]
        client.watch() as watch,
        client.watch(owners="alice") as hers,
    ):
        await publisher.publish(*batch[:heard])
        await publisher.jetstream.purge_stream(STREAM)
        await publisher.publish(*before, *batch, last := site.job("1.sitea"))
        assert await take(watch, 51) == events([*batch, last])
        assert await take(hers, 51) == events([*batch, last])


class Skewed(Openings):
    """Of a server whose clock differs from that of the one that has the stream."""

    ahead = timedelta()

    async def _make(self, asker: Asker | None, config: dict[str, Any]) -> dict[str, Any]:
        info = await super()._make(asker, config)
        created = datetime.fromisoformat(info["created"]) + self.ahead
        return {**info, "created": created.isoformat()}


@pytest.mark.parametrize("seconds", [-30, 30])
async def test_who_has_heard_nothing_yet_goes_by_no_clock(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    monkeypatch.setattr(Skewed, "ahead", timedelta(seconds=seconds))
    site = SiteLog("sitea", begin=datetime.now(UTC))
    async with (
        publishing(nats_url) as publisher,
        serving_openings(nats_url, opening=Skewed),
        pbscast.connect(nats_url, connect_timeout=2) as client,
    ):
        await publisher.publish(*lives(site, 2))
        async with client.watch() as watch:
            for name in await publisher.consumers():
                await publisher.jetstream.delete_consumer(STREAM, name)
            await publisher.publish(*(news := lives(site, 1)))
            assert await take(watch, 5) == events(news)


async def test_a_stream_that_lost_its_tail_before_anything_was_heard(
    own_nats: NatsServer, publisher: Publisher
) -> None:
    """Numbers below that of the beginning are given to what is new."""
    site, other = SiteLog("sitea", begin=datetime.now(UTC)), SiteLog("siteb")
    store, kept = own_nats.directory / "store", own_nats.directory / "kept"
    await publisher.publish(*lives(other, 2))
    await asyncio.to_thread(own_nats.stop)
    await asyncio.to_thread(shutil.copytree, store, kept)
    await asyncio.to_thread(own_nats.start)
    await until_connected(publisher)
    await publisher.publish(*lives(other, 5))
    async with pbscast.connect(own_nats.url) as client, client.watch() as watch:
        await asyncio.to_thread(own_nats.kill)
        await asyncio.to_thread(shutil.rmtree, store)
        await asyncio.to_thread(kept.rename, store)
        await asyncio.to_thread(own_nats.start)
        await until_connected(publisher)
        await publisher.publish(*(news := lives(site, 2)))
        assert await take(watch, 10) == events(news)


async def test_what_is_late_is_told_all_the_same(publisher: Publisher) -> None:
    """A site whose capture was behind: its events are older than the watch, and new."""
    site = SiteLog("sitea", begin=datetime.now(UTC) - timedelta(days=2))
    late = SiteLog("siteb", begin=datetime.now(UTC) - timedelta(hours=2))
    await publisher.publish(*lives(site, 2))
    async with (
        pbscast.connect(str(publisher.client.connected_url.geturl())) as client,  # type: ignore[union-attr]
        client.watch() as watch,
    ):
        await publisher.publish(*(batch := lives(late, 2)))
        assert await take(watch, 10) == events(batch)


async def test_retention_while_away_is_said(proxy: CuttingProxy, publisher: Publisher) -> None:
    site = SiteLog("sitea")
    async with (
        pbscast.connect(f"nats://127.0.0.1:{proxy.port}") as client,
        client.watch() as everything,
        client.watch(owners="alice") as hers,
    ):
        first = lives(site, 2)
        await publisher.publish(*first)
        assert await take(everything, 10) == events(first)
        assert await take(hers, 10) == events(first)
        proxy.refusing = True
        proxy.cut()
        await publisher.publish(*lives(site, 5))
        await publisher.jetstream.purge_stream(STREAM)
        await publisher.publish(*(rest := lives(site, 1)))
        proxy.refusing = False
        assert await take(everything, 6) == [Missed("sitea", 10, 36), *events(rest)]
        assert await take(hers, 6) == [Missed("sitea", 10, None), *events(rest)]


async def test_a_connection_that_has_come_back_is_not_given_up(
    proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = asyncio.Event()

    def note(state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTED:
            back.set()

    monkeypatch.setattr(connection, "STUCK", 0.0)
    async with pbscast.connect(f"nats://127.0.0.1:{proxy.port}", on_state=note) as client:
        monkeypatch.setattr(dialing, "RECONNECT_WAIT", 0.7)  # ours, no more the driver's
        driver = client._connection.nats
        back.clear()
        proxy.cut()
        await back.wait()
        assert client._connection._restoring is not None
        await client._connection._restoring
        assert client._connection.nats is driver
        assert driver.is_connected


async def test_a_mistake_of_the_caller_is_no_end(
    proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver would give up its reconnecting, and be given up itself only much later."""
    monkeypatch.setattr(connection, "STUCK", 1e9)
    told: list[ConnectionState] = []
    raised: list[dict[str, Any]] = []
    back = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))

    def mistaken(state: ConnectionState) -> None:
        told.append(state)
        if told[-2:] == [ConnectionState.RECONNECTING, ConnectionState.CONNECTED]:
            back.set()
        raise ValueError("a mistake of the caller")

    async with pbscast.connect(f"nats://127.0.0.1:{proxy.port}", on_state=mistaken):
        proxy.cut()
        async with asyncio.timeout(30):
            await back.wait()
    assert raised
    assert all(isinstance(context["exception"], ValueError) for context in raised)


async def test_a_mistake_of_the_driver_is_no_end(
    proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STUCK", 0.0)
    back = asyncio.Event()
    async with pbscast.connect(f"nats://127.0.0.1:{proxy.port}") as client:
        connect, state = Driver.connect, client._connection

        async def fail(*_: object, **__: object) -> None:
            monkeypatch.setattr(Driver, "connect", connect)
            proxy.refusing = False
            back.set()
            raise AttributeError("'NoneType' object has no attribute 'write'")

        monkeypatch.setattr(Driver, "connect", fail)
        proxy.refusing = True
        proxy.cut()
        await back.wait()
        async with asyncio.timeout(5):
            await state.wait_up()


async def test_a_service_that_is_away_is_waited_for(nats_url: str) -> None:
    site = SiteLog("sitea")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(publishing(nats_url))
        async with serving_openings(nats_url):
            client = await stack.enter_async_context(pbscast.connect(nats_url, connect_timeout=1))
            watch = await stack.enter_async_context(client.watch())
            await publisher.publish(*(first := lives(site, 1)))
            assert await take(watch, 5) == events(first)
        [reader] = await publisher.consumers()
        await publisher.jetstream.delete_consumer(STREAM, reader)
        await publisher.publish(*(rest := lives(site, 1)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(watch)
        async with serving_openings(nats_url):
            assert await take(watch, 5) == events(rest)


class Grasping(Openings):
    """Takes nothing back."""

    async def close(self, request: CloseRequest, asker: Asker | None) -> bytes:
        raise UnavailableError("nobody says that it is gone")


async def test_what_cannot_be_given_back_holds_no_reader_up(nats_url: str) -> None:
    site = SiteLog("sitea")
    async with (
        publishing(nats_url) as publisher,
        serving_openings(nats_url, opening=Grasping),
        pbscast.connect(nats_url, connect_timeout=2) as client,
        client.watch() as watch,
    ):
        [reader] = await publisher.consumers()
        await publisher.jetstream.delete_consumer(STREAM, reader)
        await publisher.publish(*(messages := lives(site, 1)))
        async with asyncio.timeout(5):
            assert await take(watch, 5) == events(messages)


async def test_who_is_impatient_does_not_use_up_the_readers_one_may_have(nats_url: str) -> None:
    site = SiteLog("sitea")
    async with (
        publishing(nats_url) as publisher,
        serving_openings(nats_url),
        cutting_proxy(("127.0.0.1", urlsplit(nats_url).port or 0)) as proxy,
        pbscast.connect(f"nats://127.0.0.1:{proxy.port}", connect_timeout=1) as client,
        client.watch() as watch,
    ):
        for _ in range(3):
            proxy.cut()
            for _ in range(40):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.005):
                        await anext(watch)
            await publisher.publish(*(messages := lives(site, 1)))
            assert await take(watch, 5) == events(messages)
            assert len(await publisher.consumers()) == 1


async def until_connected(publisher: Publisher) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await publisher.client.jsm(timeout=0.2).stream_info(STREAM)
            except Exception:  # noqa: BLE001 - the server is coming up
                await asyncio.sleep(0.05)
            else:
                return
