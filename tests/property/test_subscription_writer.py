"""Whatever happens to two workers that deliver one site, each message is stored once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, ClassVar

import nats
import pytest
from harness.delivering import (
    AFTER,
    BEFORE,
    LATE,
    FrailConnection,
    Pair,
    PlainDeliverer,
    assert_each_once,
    delivered,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from nats.aio.client import Client

from pbscast.errors import FencedError, UnavailableError
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout import fences
from pbscast_fanout.settings import SubscriptionSettings
from pbscast_fanout.subscriptions.stream import ensure_deliveries
from pbscast_fanout.subscriptions.writer import DeliveryWriter

WORKERS = st.integers(0, 1)
FAULTS = st.sampled_from([BEFORE, AFTER, LATE])


class Workers(RuleBasedStateMachine):
    """Two workers; what each does is one request after the other, any of which may go wrong."""

    runner: ClassVar[asyncio.Runner]
    connections: ClassVar[list[FrailConnection]]
    reader: ClassVar[Client]
    sites: ClassVar[Iterator[int]] = count()

    def __init__(self) -> None:
        super().__init__()
        self.site = f"site{next(self.sites)}"
        self.pairs: list[Pair] = []
        slots = asyncio.Semaphore(12)
        self.workers = [
            PlainDeliverer(DeliveryWriter(connection, self.site, slots), self.site, self.pairs)
            for connection in self.connections
        ]

    @rule(keys=st.sets(st.sampled_from("abcdefghij"), min_size=1), skipped=st.integers(0, 2))
    def happen(self, keys: set[str], skipped: int) -> None:
        position = self.pairs[-1][0] if self.pairs else 0
        self.pairs += [(position + 1 + skipped, key) for key in sorted(keys)]

    @rule(worker=WORKERS, count=st.integers(1, 30))
    def deliver(self, worker: int, count: int) -> None:
        with suppress(FencedError, UnavailableError):
            self.run(self.workers[worker].deliver(count))

    @rule(worker=WORKERS, left=st.integers(0, 12), how=FAULTS)
    def fail(self, worker: int, left: int, how: str) -> None:
        self.connections[worker].fail(left, how)

    @rule(worker=WORKERS)
    def arrive(self, worker: int) -> None:
        self.run(self.connections[worker].arrive())

    @rule(worker=WORKERS)
    def restart(self, worker: int) -> None:
        self.workers[worker].numbers = None

    def teardown(self) -> None:
        for connection in self.connections:
            connection.fail(0, "")
            self.run(connection.arrive())
        self.run(self.finish())

    async def finish(self) -> None:
        assert_each_once(await delivered(self.reader, self.site), self.pairs, all_=False)
        worker = self.workers[0]
        while True:
            with suppress(FencedError):
                if not await worker.deliver(1):
                    break
        assert_each_once(await delivered(self.reader, self.site), self.pairs, all_=True)

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        self.runner.run(work)


def test_each_message_is_stored_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # Small batches, so that an event's matches often do not fit into one.
    monkeypatch.setattr(fences, "split", partial(fences.split, max_messages=4))
    limits = "limits { batch { timeout: 500ms } }"
    with NatsServer(durable=False, jetstream=limits) as server, asyncio.Runner() as runner:
        Workers.runner = runner
        Workers.connections = [FrailConnection(server.url) for _ in range(2)]
        Workers.reader = runner.run(nats.connect(server.url))
        for connection in Workers.connections:
            runner.run(connection.open())
        runner.run(ensure_deliveries(Workers.connections[0], SubscriptionSettings()))
        run_state_machine_as_test(
            Workers, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
        )
        for connection in Workers.connections:
            runner.run(connection.close())
        runner.run(Workers.reader.close())
