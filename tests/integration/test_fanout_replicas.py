"""A stream with replicas on a cluster of three: its leader refuses in words of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from harness.fanning import assert_published, drafts, fanning, published_to, write

from pbscast import wire
from pbscast.errors import FencedError, UnavailableError
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.batches import send_mark
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import NatsSettings, StreamSettings
from pbscast_fanout.streams import Fence, ensure_stream, read_tail, site_filter
from pbscast_store.log import Log


@pytest.fixture
def cluster() -> Iterator[list[str]]:
    ports = free_ports(3)
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                NatsServer(
                    durable=False,
                    config=f"server_name: n{port}\n"
                    f"cluster {{ name: c, listen: '127.0.0.1:{port}', routes: [{routes}] }}",
                )
            ).url
            for port in ports
        ]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


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
            fence = Fence(site_filter("sitea"), tail.sequence if tail else 0)
            outcome = await asyncio.gather(*(mark(connection, fence) for connection in both))
            assert sorted(outcome) == ["fenced", "stored"]
    finally:
        for connection in both:
            await connection.close()


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
        await assert_published(cluster[2], log, "sitea")
