"""Readers of subscriptions that are killed or slow, on a worker, a log and nats-server as they are.

What is proved: every message is told, in order, at least once to who comes back; of several readers
one takes over what another held; who missed its window is told, and can catch up to the event.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import fanout_process, subscription_reader
from harness.fanning import client_of, write

import pbscast
from pbscast import (
    Boundary,
    Client,
    Complete,
    Matched,
    Missed,
    Subscription,
    SubscriptionItem,
)
from pbscast.deliveries import DELIVERIES
from pbscast.events import (
    AnyEvent,
    ChangePayload,
    EventName,
    FinalizePayload,
    Kind,
    ObjectPayload,
    Provenance,
    Reason,
)
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.settings import FanoutSettings, NatsSettings, SubscriptionSettings
from pbscast_fanout.worker import Fanout
from pbscast_store.drafts import Draft
from pbscast_store.log import Log


def draft(job: str, event: EventName, payload: ObjectPayload) -> Draft:
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=event,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=payload,
    )


def change(job: str, state: str) -> Draft:
    event = EventName.SUBMIT if state == "Q" else EventName.STATE
    return draft(job, event, ChangePayload(owner="alice", queue="workq", state=state))


def end(job: str) -> Draft:
    payload = FinalizePayload(
        owner="alice", queue="workq", state="F", reason=Reason.FINISHED, exit_status=0
    )
    return draft(job, EventName.FINALIZE, payload)


@asynccontextmanager
async def process_of(
    script: str | None, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    assert script is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, *arguments, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def told(file: Path) -> list[dict[str, Any]]:
    """The messages in a reader's file; a line that was cut off is none."""
    if not file.exists():
        return []
    lines = file.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.02)


async def read_on(file: Path, count: int) -> None:
    seen = len(told(file))
    await until(lambda: len(told(file)) > seen + count)


async def take(subscription: Subscription, count: int) -> list[object]:
    async with asyncio.timeout(30):
        return [await anext(subscription) for _ in range(count)]


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with pbscast.connect(nats_url) as client:
        yield client


async def subscribed(client: Client, *arguments: Any, **options: Any) -> Subscription:
    """A subscription, as soon as the worker serves."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await client.subscribe(*arguments, **options)
            except pbscast.UnavailableError:
                await asyncio.sleep(0.1)


async def test_a_reader_killed_again_and_again_is_told_everything_in_order(
    log: Log, log_dsn: str, nats_url: str, client: Client, tmp_path: Path
) -> None:
    jobs = [f"{number}.sitea" for number in range(25)]
    await write(log, "sitea", [change(job, "Q") for job in jobs])
    file = tmp_path / "told"
    async with process_of(fanout_process.__file__, log_dsn, nats_url):
        made = await subscribed(client, jobs, keep=True)
        await made.close()
        reader = (subscription_reader.__file__, nats_url, str(file), made.id, "0.005")
        for turn in range(2):
            async with process_of(*reader):
                await write(log, "sitea", [change(job, "RS"[turn]) for job in jobs])
                await read_on(file, 10)
        await write(log, "sitea", map(end, jobs))
        async with process_of(*reader) as last:
            async with asyncio.timeout(60):
                assert await last.wait() == 0
        assert [item async for item in client.subscriptions()] == []
    *messages, complete = told(file)
    assert complete["what"] == "complete"
    assert {message["what"] for message in messages} == {"begin", "object", "boundary", "event"}
    begun = [number for number, message in enumerate(messages) if message["what"] == "begin"][-1]
    _assert_in_order(messages[begun:])
    ends = Counter(
        (message["n"], message["event"]["data"]["id"])
        for message in messages
        if message["what"] == "event" and message["passage"] == "ended"
    )
    assert sorted(job for _, job in ends) == sorted(jobs)


def _assert_in_order(messages: Iterable[dict[str, Any]]) -> None:
    """Each number follows the one before, or one that was told before is told again."""
    first, *rest = (message["n"] for message in messages)
    last = first
    for number in rest:
        assert number <= last + 1
        last = max(last, number)


async def test_of_two_readers_one_takes_over_from_the_other(
    log: Log, log_dsn: str, nats_url: str, client: Client, tmp_path: Path
) -> None:
    jobs = [f"{number}.sitea" for number in range(60)]
    await write(log, "sitea", [change(job, "Q") for job in jobs])
    dead, alive = tmp_path / "dead", tmp_path / "alive"
    async with process_of(fanout_process.__file__, log_dsn, nats_url):
        made = await subscribed(client, jobs, shared=True, keep=True)
        await made.close()
        first = (subscription_reader.__file__, nats_url, str(dead), made.id, "0.02")
        second = (subscription_reader.__file__, nats_url, str(alive), made.id, "0.002")
        async with process_of(*first) as one, process_of(*second) as other:
            await _wait_for_readers(nats_url, made.id, 2)
            before = len(told(dead)), len(told(alive))
            await write(log, "sitea", map(end, jobs))
            await until(lambda: len(told(dead)) > before[0] and len(told(alive)) > before[1])
            one.kill()
            await one.wait()
            await _quicken(nats_url, made.id)
            async with asyncio.timeout(60):
                assert await other.wait() == 0
    messages = told(dead) + told(alive)
    numbers = Counter(message["n"] for message in messages if "n" in message)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    # Only what was in the hand of the dead can have been told twice.
    assert numbers.total() - len(numbers) <= 1
    ends = {
        message["event"]["data"]["id"]
        for message in messages
        if message["what"] == "event" and message["passage"] == "ended"
    }
    assert ends == set(jobs)
    assert told(alive)[-1]["what"] == "complete"


async def _wait_for_readers(url: str, key: str, count: int) -> None:
    """Return once so many have handled all that there is, and ask for more."""
    async with client_of(url) as plain, asyncio.timeout(60):
        while True:
            info = await plain.jetstream().consumer_info(DELIVERIES, key)
            if info.num_waiting == count and not (info.num_pending or info.num_ack_pending):
                return
            await asyncio.sleep(0.05)


async def _quicken(url: str, key: str) -> None:
    """Let what is not acknowledged come again after seconds instead of half a minute."""
    async with client_of(url) as plain:
        jetstream = plain.jetstream()
        config = (await jetstream.consumer_info(DELIVERIES, key)).config
        await jetstream.add_consumer(DELIVERIES, config.evolve(ack_wait=4.0))


async def test_nats_is_killed_under_worker_and_reader(
    log: Log, log_dsn: str, own_nats: NatsServer
) -> None:
    await write(log, "sitea", [change("1.sitea", "Q")])
    async with (
        process_of(fanout_process.__file__, log_dsn, own_nats.url),
        pbscast.connect(own_nats.url) as client,
        await subscribed(client, "1.sitea") as reader,
    ):
        assert isinstance((await take(reader, 3))[-1], Boundary)
        reading = asyncio.create_task(_read(reader))
        for _ in range(2):
            await write(log, "sitea", [change("1.sitea", "SR"[step % 2]) for step in range(300)])
            await asyncio.to_thread(own_nats.kill)
            await write(log, "sitea", [change("1.sitea", "SR"[step % 2]) for step in range(300)])
            await asyncio.to_thread(own_nats.start)
        await write(log, "sitea", [end("1.sitea")])
        async with asyncio.timeout(60):
            *items, complete = await reading
    assert isinstance(complete, Complete)
    positions = [item.event.position for item in items if isinstance(item, Matched)]
    assert positions == list(range(2, 1203))


async def _read(reader: Subscription) -> list[SubscriptionItem]:
    return [item async for item in reader]


async def test_who_missed_its_window_is_told_and_catches_up(
    log: Log, nats_url: str, client: Client
) -> None:
    settings = FanoutSettings(
        nats=NatsSettings(servers=(nats_url,), timeout=2),
        subscriptions=SubscriptionSettings(max_messages=1000),
    )
    await write(log, "sitea", [change("1.sitea", "Q")])
    worker = asyncio.create_task(Fanout(log, settings).run())
    try:
        async with await subscribed(client, owners="alice") as slow:
            other = await subscribed(client, owners="alice")
            assert isinstance((await take(slow, 3))[-1], Boundary)
            assert isinstance((await take(other, 3))[-1], Boundary)
            await write(log, "sitea", [change("1.sitea", "SR"[step % 2]) for step in range(3000)])
            # Who is slow delays nobody.
            assert len(await take(other, 3000)) == 3000
            items: list[AnyEvent] = []
            missed: list[Missed] = []
            while not (items and items[-1].position == 3001):
                [item] = await take(slow, 1)
                if isinstance(item, Missed):
                    missed.append(item)
                else:
                    assert isinstance(item, Matched)
                    items.append(item.event)
        assert missed
        for hole in missed:
            assert hole.site is not None
            assert hole.after is not None
            assert hole.before is not None
            async for event in client.history(sites=hole.site, after={hole.site: hole.after}):
                if event.position >= hole.before:
                    break
                items.append(event)
        assert sorted(event.position for event in items) == list(range(2, 3002))
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
