"""What those who run the fan-out tier see of registered subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from harness.fanning import client_of, draft, fanning, until, write
from harness.subscribing import joined, subscribe, told_up_to, until_told
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from pbscast.deliveries import DELIVERIES
from pbscast.requests import PublisherState
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import NatsSettings, SubscriptionSettings
from pbscast_fanout.subscriptions import deliverer
from pbscast_fanout.subscriptions.session import Session
from pbscast_fanout.subscriptions.stream import ensure_deliveries
from pbscast_fanout.worker import Fanout
from pbscast_store.log import Log

SMALL = SubscriptionSettings(max_messages=1000)
LARGE = SubscriptionSettings(max_messages=10_000)


def state_of(worker: Fanout) -> PublisherState | None:
    """What its deliverer of the only site is doing."""
    return next((item.state for item in worker.status().deliveries), None)


async def test_of_two_workers_one_delivers_a_site_and_the_other_stands_by(
    log: Log, nats_url: str
) -> None:
    await write(log, "sitea", [draft()])
    both = [PublisherState.CURRENT, PublisherState.STANDBY]
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(fanning(log, nats_url, name=name)) for name in "ab"
        ]
        await until(lambda: sorted(map(state_of, workers), key=str) == both)
        [idle] = [worker for worker in workers if state_of(worker) is PublisherState.STANDBY]
        assert [item.subscriptions for item in idle.status().deliveries] == [0]
        assert metric("pbscast_deliverer_state", site="sitea", state="current") == 1


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
async def daemons(nats_url: str) -> AsyncIterator[list[Connection]]:
    connections = [
        Connection(NatsSettings(servers=(nats_url,)), name=name) for name in ("old", "new")
    ]
    for connection in connections:
        await connection.open()
    yield connections
    for connection in connections:
        await connection.close()


async def most_messages(url: str) -> int:
    async with client_of(url) as client:
        config = (await client.jetstream().stream_info(DELIVERIES)).config
        return config.max_msgs_per_subject or 0


async def test_daemons_that_differ_in_limits_do_not_set_them_in_turns(
    nats_url: str, daemons: list[Connection]
) -> None:
    old, new = daemons
    await ensure_deliveries(old, LARGE)
    with capture_logs() as logs:
        await ensure_deliveries(new, SMALL)
    assert await most_messages(nats_url) == 1000
    [told] = logs
    assert (told["event"], told["log_level"]) == ("stream_updated", "warning")
    assert "beyond the lower max_msgs_per_subject are gone" in told["effect"]
    with capture_logs() as logs:
        for _ in range(3):
            await ensure_deliveries(old, LARGE)
            await ensure_deliveries(new, SMALL)
    assert await most_messages(nats_url) == 1000
    [told] = logs
    assert told["event"] == "stream_has_other_settings"
    assert told["ours"] == {"max_msgs_per_subject": 10_000}
    assert told["stream_has"] == {"max_msgs_per_subject": 1000}
    assert metric("pbscast_stream_max_bytes", stream=DELIVERIES) == LARGE.max_bytes
    assert metric("pbscast_stream_bytes", stream=DELIVERIES) == 0


async def test_what_no_operator_chooses_is_restored(
    nats_url: str, daemons: list[Connection]
) -> None:
    connection, _ = daemons
    await ensure_deliveries(connection, LARGE)
    async with client_of(nats_url) as client:
        jetstream = client.jetstream()
        config = (await jetstream.stream_info(DELIVERIES)).config
        await jetstream.update_stream(config.evolve(allow_direct=False, max_msgs_per_subject=7))
        await ensure_deliveries(connection, LARGE)
        config = (await jetstream.stream_info(DELIVERIES)).config
    assert (config.allow_direct, config.max_msgs_per_subject) == (True, 7)


async def test_a_deliverer_that_gets_no_further_begins_anew(
    log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would take its site over, as its worker lives."""
    monkeypatch.setattr(deliverer, "LOOK_SECONDS", 0.1)
    taking, hung = Session._take, asyncio.Event()

    async def hang(session: Session) -> None:
        if not hung.is_set() and session._core.position:
            hung.set()
            await asyncio.Event().wait()
        await taking(session)

    await write(log, "sitea", [draft()])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        key = await subscribe(client)
        await until_told(client, key, joined("sitea"))
        with capture_logs() as logs:
            monkeypatch.setattr(Session, "_take", hang)
            await write(log, "sitea", [draft(comment="x")])
            await until_told(client, key, told_up_to("sitea", 2))
    assert hung.is_set()
    said = {entry["error"] for entry in logs if entry.get("error")}
    assert said == {"got no further for 1.2 s, and begins anew"}
