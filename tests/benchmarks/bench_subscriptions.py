"""A thousand connected subscribers, each with jobs of its own: rate delivered, memory for each."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from itertools import islice
from pathlib import Path
from subprocess import Popen
from time import perf_counter
from typing import Final

import nats
import pytest
from harness import fanout_process
from harness.jobs import EVENTS_A_JOB, batches, interleaved_lives
from nats.aio.client import Client

import pbscast
from pbscast import Boundary, Finalize, UnavailableError
from pbscast.subscription import Subscription
from pbscast.told import Matched
from pbscast_deploy.embedded import NatsServer, PostgresServer
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_SUBSCRIBERS: Final = int(os.environ.get("SUBSCRIBERS", "1000"))
_JOBS: Final = 3
"""Of each subscriber."""
_EVENTS: Final = _SUBSCRIBERS * _JOBS * EVENTS_A_JOB
_DIALLING: Final = 50
"""Connections made at once."""


async def test_subscribers_each_with_jobs_of_its_own(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    with NatsServer(durable=True) as server, _worker(dsn, server.url) as worker:
        async with Log.open(dsn) as log, AsyncExitStack() as stack:
            await log.register_site("sitea")
            await _serving(server.url)
            before = _resident(worker.pid), _resident(server.pid)
            subscriptions = await _subscribe_all(server.url, stack)
            after = _resident(worker.pid), _resident(server.pid)
            seconds = await _deliver(log, subscriptions)
        floor = await _floor(server.url)
    rate, bare = _EVENTS / seconds, _EVENTS / floor
    print(
        f"\n{_SUBSCRIBERS} subscribers, {_JOBS} jobs each: {rate:,.0f} events/s from the log to"
        f" their readers; as many bytes over core NATS {bare:,.0f}/s; ratio {rate / bare:.2f}"
        f"\nmemory a subscription: worker {(after[0] - before[0]) / _SUBSCRIBERS:.1f} kB,"
        f" nats-server {(after[1] - before[1]) / _SUBSCRIBERS:.1f} kB, connection included"
    )


@contextmanager
def _worker(dsn: str, url: str) -> Iterator[Popen[bytes]]:
    """The fan-out as a process of its own."""
    with Popen([sys.executable, fanout_process.__file__, dsn, url]) as process:
        try:
            yield process
        finally:
            process.terminate()


async def _serving(url: str) -> None:
    """Return once a subscription has begun."""
    async with pbscast.connect(url) as client, asyncio.timeout(60):
        while True:
            with suppress(UnavailableError):  # the worker is still starting
                async with client.subscribe("0.siteb") as subscription:
                    return await _current(subscription)


async def _subscribe_all(url: str, stack: AsyncExitStack) -> list[Subscription]:
    """Connect and subscribe, each for jobs that are still to come; return when all are current."""
    dialling = asyncio.Semaphore(_DIALLING)

    async def one(number: int) -> Subscription:
        jobs = [f"{number + turn * _SUBSCRIBERS}.sitea" for turn in range(_JOBS)]
        async with dialling:
            client = await stack.enter_async_context(pbscast.connect(url))
            subscription = await stack.enter_async_context(client.subscribe(jobs))
            await _current(subscription)
        return subscription

    return await asyncio.gather(*map(one, range(_SUBSCRIBERS)))


async def _current(subscription: Subscription) -> None:
    async for item in subscription:
        if isinstance(item, Boundary):
            return


async def _deliver(log: Log, subscriptions: list[Subscription]) -> float:
    """From the first append to the last job's last word."""
    drafts = islice(interleaved_lives(), _EVENTS)
    began = perf_counter()
    counts = await asyncio.gather(_append(log, drafts), *map(_count, subscriptions))
    seconds = perf_counter() - began
    assert counts[1:] == [_JOBS * EVENTS_A_JOB] * _SUBSCRIBERS
    return seconds


async def _append(log: Log, drafts: Iterator[Draft]) -> int:
    writer = await log.acquire("sitea", "bench", 600)
    assert writer is not None
    for batch in batches(drafts, 1000):
        await writer.append(batch, {})
    await writer.release()
    return 0


async def _count(subscription: Subscription) -> int:
    """The events that are told until each job has ended."""
    events = ends = 0
    async for item in subscription:
        if isinstance(item, Matched):
            events += 1
            ends += isinstance(item.event, Finalize)
        if ends == _JOBS:
            break
    return events


async def _floor(url: str) -> float:
    """One publisher, as many connections, messages of the size of an event: nothing else."""
    body = b"x" * 900
    async with _connections(url) as clients:
        remaining = _EVENTS
        done = asyncio.Event()

        async def take(_: object) -> None:
            nonlocal remaining
            remaining -= 1
            if not remaining:
                done.set()

        for number, client in enumerate(clients):
            await client.subscribe(f"floor.{number}", cb=take)
            await client.flush()
        publisher = await nats.connect(url)
        began = perf_counter()
        for number in range(_EVENTS):
            await publisher.publish(f"floor.{number % _SUBSCRIBERS}", body)
            if number % 100 == 0:
                await publisher.flush()
        await done.wait()
        seconds = perf_counter() - began
        await publisher.close()
        return seconds


@asynccontextmanager
async def _connections(url: str) -> AsyncIterator[list[Client]]:
    clients = [await nats.connect(url) for _ in range(_SUBSCRIBERS)]
    try:
        yield clients
    finally:
        await asyncio.gather(*(client.close() for client in clients))


def _resident(pid: int | None) -> int:
    """Resident memory of a process, kB."""
    [found] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found)
