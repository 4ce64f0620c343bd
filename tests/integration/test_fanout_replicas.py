"""A stream with replicas on a cluster of three: its leader refuses in words of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from harness.clusters import run_cluster
from harness.fanning import assert_published, drafts, fanning, published_to, write

from pbscast import wire
from pbscast.errors import FencedError, UnavailableError, UnsupportedError
from pbscast.events import ChangePayload
from pbscast_fanout.batches import compose, mark_of, send_batch, send_mark
from pbscast_fanout.connection import Connection
from pbscast_fanout.fences import Fence, send_one
from pbscast_fanout.settings import NatsSettings, StreamSettings
from pbscast_fanout.streams import ensure_stream, part_of, read_last_event, read_tail
from pbscast_store.log import Log
from pbscast_store.records import Record


@pytest.fixture
def cluster() -> Iterator[list[str]]:
    with run_cluster(3) as urls:
        yield urls


async def made(connection: Connection, settings: StreamSettings) -> None:
    """The stream, once the cluster has agreed on a leader."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await ensure_stream(connection, settings)
            except UnavailableError:
                await asyncio.sleep(0.2)


async def mark(connection: Connection, fence: Fence) -> str:
    now = wire.Mark(site="sitea", position=0, time=datetime.now(UTC))
    try:
        await send_mark(connection, now, fence)
    except FencedError:
        return "fenced"
    return "stored"


async def test_of_two_that_write_at_once_one_is_fenced(cluster: list[str]) -> None:
    settings = StreamSettings(replicas=3, duplicate_window=timedelta(seconds=10))
    both = [Connection(NatsSettings(servers=(url,)), name="test") for url in cluster[:2]]
    try:
        for connection in both:
            await connection.open()
        await made(both[0], settings)
        for _ in range(50):
            tail = await read_tail(both[0], "sitea")
            fence = Fence(part_of("sitea").all, tail.sequence if tail else 0)
            outcome = await asyncio.gather(*(mark(connection, fence) for connection in both))
            assert sorted(outcome) == ["fenced", "stored"]
    finally:
        for connection in both:
            await connection.close()


_OUTCOMES = (FencedError, UnsupportedError, Fence, type(None))


@pytest.mark.parametrize("as_batch", [False, True])
async def test_nothing_comes_in_after_the_mark_that_fences_it(
    cluster: list[str], *, as_batch: bool
) -> None:
    """What is written under an older mark may come in before the newer one, but not after it."""
    settings = StreamSettings(replicas=3, duplicate_window=timedelta(seconds=10))
    one, other = [Connection(NatsSettings(servers=(url,)), name="test") for url in cluster[:2]]
    await one.open()
    await other.open()
    try:
        await made(one, settings)
        now = wire.Mark(site="sitea", position=0, time=datetime.now(UTC))
        fenced = 0
        for position in range(1, 31):
            tail = await read_tail(one, "sitea")
            last = tail.sequence if tail else 0
            older = await send_mark(one, now, Fence(part_of("sitea").all, last))
            outcome = await asyncio.gather(
                send_mark(other, now, Fence(part_of("sitea").all, older.sequence)),
                _send(one, position, older, as_batch=as_batch),
                return_exceptions=True,
            )
            # One server may not have heard yet where the stream is: then nothing came in by it.
            assert all(isinstance(item, _OUTCOMES) for item in outcome), outcome
            event = await read_last_event(one, "sitea")
            if isinstance(outcome[0], Fence):
                fenced += 1
                assert event is None or event.sequence < outcome[0].sequence
        assert fenced
    finally:
        await one.close()
        await other.close()


async def _send(connection: Connection, position: int, fence: Fence, *, as_batch: bool) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    payload = wire.encode_payload(ChangePayload(owner="alice"))
    header = ("sitea", position, moment, "job", "1.sitea", 1, position)
    record = Record(*header, "modify", "journal", "alice", payload, moment, None)
    message = compose(record, 10**6)
    if as_batch:
        await send_batch(connection, [message], mark_of(record), fence)
    else:
        await send_one(connection, message, fence)


async def test_workers_of_a_cluster_publish_what_is_logged(log: Log, cluster: list[str]) -> None:
    await write(log, "sitea", drafts(1_500))
    async with (
        fanning(log, cluster[0], replicas=3) as one,
        fanning(log, cluster[1], replicas=3) as other,
    ):
        for worker in (one, other):
            await published_to(worker, "sitea", 1_500)
        await write(log, "sitea", drafts(5))
        await published_to(one, "sitea", 1_505)
        await published_to(other, "sitea", 1_505)
        await assert_published(cluster[2], log, "sitea", replicas=3)
