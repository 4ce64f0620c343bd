"""Key-value buckets on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from harness.fanning import client_of
from harness.holding import connected, eventually
from harness.proxy import cutting_proxy
from nats.aio.msg import Msg
from nats.js.manager import JetStreamManager

from pbscast.errors import ConflictError, UnavailableError
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import NatsSettings
from pbscast_fanout.subscriptions.buckets import Bucket, Entry, Extent, Gone
from pbscast_fanout.subscriptions.following import Anew, UpToDate

Change = Entry | Gone | Anew | UpToDate


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    async with connected(nats_url) as connection:
        yield connection


@pytest.fixture
async def bucket(connection: Connection) -> Bucket:
    bucket = Bucket(connection, "PBS_TEST", replicas=1)
    await bucket.ensure()
    return bucket


async def value(bucket: Bucket, key: str) -> bytes | None:
    entry = await bucket.get(key)
    return None if entry is None else entry.value


async def take(changes: AsyncGenerator[Change, None], count: int) -> list[Change]:
    async with asyncio.timeout(15):
        return [await anext(changes) for _ in range(count)]


def told(changes: list[Change]) -> list[tuple[str, bytes] | Gone | type[Change]]:
    return [
        (change.key, change.value)
        if isinstance(change, Entry)
        else change
        if isinstance(change, Gone)
        else type(change)
        for change in changes
    ]


async def test_a_value_is_read_as_it_was_written(bucket: Bucket) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=1)
    assert await bucket.get("a.b") is None
    revision = await bucket.put("a.b", b"\x00\xff\r\n")
    entry = await bucket.get("a.b")
    assert entry is not None
    assert (entry.key, entry.value, entry.revision) == ("a.b", b"\x00\xff\r\n", revision)
    assert begun < entry.written < begun + timedelta(minutes=1)
    assert await bucket.put("a.b", b"") > revision
    assert await value(bucket, "a.b") == b""


async def test_a_write_that_expects_what_is_no_more_is_refused(bucket: Bucket) -> None:
    first = await bucket.put("a", b"1", last=0)
    with pytest.raises(ConflictError, match="a in KV_PBS_TEST was written meanwhile"):
        await bucket.put("a", b"2", last=0)
    second = await bucket.put("a", b"2", last=first)
    with pytest.raises(ConflictError):
        await bucket.delete("a", last=first)
    await bucket.delete("a", last=second)
    assert await bucket.get("a") is None
    with pytest.raises(ConflictError):
        await bucket.put("a", b"3", last=second)
    with pytest.raises(ConflictError):
        await bucket.put("a", b"3", last=0)
    await bucket.put("a", b"3")
    assert await value(bucket, "a") == b"3"


async def test_a_value_lives_for_its_time_unless_it_is_written_again(bucket: Bucket) -> None:
    async with aclosing(bucket.follow()) as changes:
        assert told(await take(changes, 1)) == [UpToDate]
        revision = await bucket.put("short", b"1", ttl=1)
        await bucket.put("long", b"1", ttl=1)
        await bucket.put("long", b"2", ttl=60)
        seen = told(await take(changes, 1))
        while not isinstance(seen[-1], Gone):
            seen += told(await take(changes, 1))
        assert seen[-1] == Gone("short", expired=True)
        assert ("long", b"2") in seen
        assert await bucket.get("short") is None
        assert await value(bucket, "long") == b"2"
        with pytest.raises(ConflictError):
            await bucket.put("short", b"1", last=revision)


async def test_keys_are_found_by_filter(bucket: Bucket) -> None:
    for key in ("a", "b", "a.x", "a.y", "b.x"):
        await bucket.put(key, key.encode())
    assert sorted(await bucket.keys("*")) == ["a", "b"]
    assert sorted(await bucket.keys("a.*")) == ["a.x", "a.y"]
    assert sorted(entry.key for entry in await bucket.load("*.x")) == ["a.x", "b.x"]
    await bucket.forget("a.*")
    await bucket.forget("a.*")
    assert sorted(await bucket.keys()) == ["a", "b", "b.x"]
    assert await bucket.load("a.*") == []
    await bucket.delete("a")
    assert [entry.value for entry in await bucket.load()] == [b"b", b"b.x"]


async def test_its_extent_is_what_it_holds_now(bucket: Bucket) -> None:
    assert await bucket.extent() == Extent(0, 0)
    for text in (b"1", bytes(10_000)):
        await bucket.put("a", text)
        await bucket.put("b", text)
    extent = await bucket.extent()
    assert extent.keys == 2
    assert 20_000 < extent.bytes < 21_000
    await bucket.forget("a")
    assert (await bucket.extent()).keys == 1


async def test_a_bucket_gets_our_settings_but_keeps_others(
    connection: Connection, nats_url: str
) -> None:
    await Bucket(connection, "PBS_TEST", replicas=1).ensure()
    async with client_of(nats_url) as client:
        manager = JetStreamManager(client)
        config = (await manager.stream_info("KV_PBS_TEST")).config
        await manager.update_stream(config.evolve(description="ours", max_msgs=7))
        await Bucket(connection, "PBS_TEST", replicas=1).ensure()
        config = (await manager.stream_info("KV_PBS_TEST")).config
        assert (config.description, config.max_msgs) == ("ours", -1)


async def test_somebody_elses_bucket_is_refused(connection: Connection, bucket: Bucket) -> None:
    with pytest.raises(ConflictError, match="not ours: its storage is 'file', not 'memory'"):
        await Bucket(connection, "PBS_TEST", replicas=1, in_memory=True).ensure()


async def test_a_bucket_that_is_not_there_is_unavailable(connection: Connection) -> None:
    with pytest.raises(UnavailableError, match="KV_PBS_NONE is not there: try again"):
        await Bucket(connection, "PBS_NONE", replicas=1).put("a", b"1")


async def test_who_follows_is_told_what_is_there_and_what_happens(bucket: Bucket) -> None:
    for key in ("a", "b", "c"):
        await bucket.put(key, b"1")
    await bucket.put("a", b"2")
    await bucket.delete("b")
    async with aclosing(bucket.follow()) as changes:
        there = told(await take(changes, 4))
        assert there == [("c", b"1"), ("a", b"2"), Gone("b", expired=False), UpToDate]
        await bucket.put("d", b"1")
        await bucket.delete("a")
        assert told(await take(changes, 2)) == [("d", b"1"), Gone("a", expired=False)]


async def test_many_values_are_told_once_each(bucket: Bucket) -> None:
    await asyncio.gather(*(bucket.put(f"{number}", bytes(40_000)) for number in range(250)))
    async with aclosing(bucket.follow()) as changes:
        there = await take(changes, 251)
    assert isinstance(there[-1], UpToDate)
    assert {entry.key for entry in there[:-1] if isinstance(entry, Entry)} == set(
        map(str, range(250))
    )


async def test_after_a_cut_everything_is_told_anew(nats_url: str, bucket: Bucket) -> None:
    await bucket.put("a", b"1")
    host, port = nats_url.rpartition("/")[2].split(":")
    async with (
        cutting_proxy((host, int(port))) as proxy,
        connected(f"nats://127.0.0.1:{proxy.port}") as away,
        aclosing(Bucket(away, "PBS_TEST", replicas=1).follow()) as changes,
    ):
        assert told(await take(changes, 2)) == [("a", b"1"), UpToDate]
        proxy.cut()
        await bucket.delete("a")
        await bucket.put("b", b"1")
        while not isinstance((await take(changes, 1))[0], Anew):
            pass
        there = await take(changes, 3)
        while not isinstance(there[-1], UpToDate):
            there += await take(changes, 1)
        assert ("b", b"1") in told(there)
        assert ("a", b"1") not in told(there)


async def test_a_server_that_forgot_the_bucket_gets_it_again(own_nats: NatsServer) -> None:
    async with connected(own_nats.url) as connection:
        bucket = Bucket(connection, "PBS_TEST", replicas=1, in_memory=True)
        async with aclosing(bucket.follow()) as changes:
            assert told(await take(changes, 1)) == [UpToDate]
            await bucket.put("a", b"1")
            await take(changes, 1)
            await asyncio.to_thread(own_nats.restart)
            while not isinstance((await take(changes, 1))[0], UpToDate):
                pass
            await bucket.put("b", b"1")
            assert told(await take(changes, 1)) == [("b", b"1")]
            assert await bucket.keys() == ["b"]


class Behind(Connection):
    """Its readers are on a server that has nothing yet of what the stream's leader has."""

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        return await super().request(
            subject, payload.replace(b'"last_per_subject"', b'"new"'), headers
        )


@pytest.fixture
async def behind(nats_url: str, bucket: Bucket) -> AsyncIterator[Bucket]:
    """The bucket as such a server has it."""
    connection = Behind(NatsSettings(servers=(nats_url,)), name="behind")
    await connection.open()
    yield Bucket(connection, "PBS_TEST", replicas=1)
    await connection.close()


async def until_pulled(nats_url: str, readers: int) -> None:
    async with client_of(nats_url) as client:
        manager = JetStreamManager(client)

        async def are_there() -> bool:
            infos = await manager.consumers_info("KV_PBS_TEST")
            return len([info for info in infos if info.num_waiting]) == readers

        await eventually(are_there)


async def test_who_reads_where_the_latest_is_missing_waits_for_it(
    bucket: Bucket, behind: Bucket, nats_url: str
) -> None:
    assert await behind.load() == []
    await bucket.put("a", b"1")
    async with aclosing(behind.follow()) as changes:
        loading = asyncio.create_task(behind.load())
        following = asyncio.create_task(take(changes, 2))
        await until_pulled(nats_url, 2)
        await bucket.put("a", b"2")
        async with asyncio.timeout(20):
            assert told(await following) == [("a", b"2"), UpToDate]
            assert told([*await loading]) == [("a", b"2")]


async def test_what_is_taken_away_meanwhile_is_not_waited_for(
    bucket: Bucket, behind: Bucket, nats_url: str
) -> None:
    await bucket.put("a", b"1")
    loading = asyncio.create_task(behind.load())
    await until_pulled(nats_url, 1)
    await bucket.forget("a")
    async with asyncio.timeout(20):
        assert await loading == []
