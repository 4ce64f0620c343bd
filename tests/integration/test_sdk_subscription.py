"""Registered subscriptions on a real nats-server; a stand-in for the service stores what they get.

The messages, their consumers and acknowledgements are JetStream's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from harness.proxy import cutting_proxy
from harness.standing_in import Deliverer, delivering, standing
from harness.stream import SiteLog

import pbscast
from pbscast import (
    Begin,
    Boundary,
    Client,
    Complete,
    Finalize,
    Matched,
    Missed,
    Passage,
    Standing,
    Subscription,
    SubscriptionItem,
    Unreadable,
    blocking,
    pulling,
    sources,
)
from pbscast.pulling import BATCH
from pbscast.sources import SHARED_BATCH
from pbscast.subscriptions import (
    ModifyRequest,
    RenewRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from pbscast_deploy.embedded import NatsServer


@pytest.fixture
async def client(nats_url: str, tier: Deliverer) -> AsyncIterator[Client]:
    async with pbscast.connect(nats_url, connect_timeout=2) as client:
        yield client


async def take(subscription: Subscription, count: int) -> list[SubscriptionItem]:
    async with asyncio.timeout(20):
        return [await anext(subscription) for _ in range(count)]


async def rest(subscription: Subscription) -> list[SubscriptionItem]:
    async with asyncio.timeout(20):
        return [item async for item in subscription]


def positions(items: list[SubscriptionItem]) -> list[int]:
    return [item.event.position for item in items if isinstance(item, Matched)]


async def test_tells_how_jobs_stand_then_what_happens_until_all_have_ended(
    tier: Deliverer, client: Client
) -> None:
    sitea, siteb = SiteLog("sitea", position=40), SiteLog("siteb", position=6)
    ids = ("1.sitea", "2.sitea", "3.sitea")
    async with client.subscribe(ids, attributes="comment") as subscription:
        key = subscription.id
        assert tier.known[key].ids == ids
        assert tier.known[key].attributes == ("comment",)
        assert subscription.pending == list(ids)
        ended = standing("3.sitea", ended=datetime.now().astimezone(), reason="finished")
        await tier.begin(key, "sitea", 40, standing(), standing("2.sitea"), ended)
        assert await take(subscription, 5) == [
            Begin("sitea", 40),
            Standing.model_validate(standing()),
            Standing.model_validate(standing("2.sitea")),
            Standing.model_validate(ended),
            Boundary({"sitea": 40}),
        ]
        assert subscription.pending == ["1.sitea", "2.sitea"]

        left = sitea.job("1.sitea", "finalize", reason="moved", destination="workq@siteb")
        await tier.event(key, left, "ended", to="siteb")
        await tier.event(key, sitea.job("2.sitea", "finalize", exit_status=0), "ended")
        moved, finished = await take(subscription, 2)
        assert isinstance(moved, Matched)
        assert (moved.passage, moved.to) == (Passage.ENDED, "siteb")
        assert isinstance(finished, Matched)
        assert isinstance(finished.event, Finalize)
        assert finished.to is None
        assert subscription.pending == ["1.sitea"]

        arrived = siteb.job("1.sitea", "submit", state="Q")
        await tier.event(key, arrived, "joined", standing=standing("1.sitea", "siteb"))
        await tier.event(key, siteb.job("1.sitea", "finalize"), "ended")
        await tier.complete(key)
        joined, last, complete = await rest(subscription)
        assert isinstance(joined, Matched)
        assert joined.standing == Standing.model_validate(standing("1.sitea", "siteb"))
        assert positions([last]) == [8]
        assert complete == Complete()
        assert subscription.pending == []
        assert subscription.positions == {"sitea": 42, "siteb": 8}
    assert [item.id for item in tier.requests(UnsubscribeRequest)] == [key]
    assert key not in tier.known


async def test_who_leaves_ends_it_unless_it_is_to_be_kept(tier: Deliverer, client: Client) -> None:
    async with client.subscribe(owners="alice") as passing:
        pass
    async with client.subscribe(owners="alice", keep=True, lease=86_400) as kept:
        pass
    assert await rest(passing) == []
    assert set(tier.known) == {kept.id}
    assert tier.known[kept.id].lease == 86_400
    async with client.attach(kept.id) as attached:
        assert attached.pending is None
    assert set(tier.known) == {kept.id}
    await (await client.attach(kept.id)).unsubscribe()
    assert not tier.known


async def test_what_was_not_finished_comes_again_first(tier: Deliverer, client: Client) -> None:
    log, count = SiteLog("sitea"), BATCH + 100
    async with client.subscribe(owners="alice", keep=True) as first:
        await tier.events(first.id, log, count)
        assert positions(await take(first, 3)) == [1, 2, 3]
    # The third was handed out and many more were sent, but only two are acknowledged.
    async with client.attach(first.id) as second:
        assert positions(await take(second, count - 2)) == list(range(3, count + 1))
        await tier.events(first.id, log, 1)
        assert positions(await take(second, 1)) == [count + 1]
        left = asyncio.create_task(rest(second))
        await tier.acknowledged(first.id)
    assert await left == []


async def test_every_message_once_over_cut_connections(tier: Deliverer, nats_url: str) -> None:
    host, port = nats_url.removeprefix("nats://").split(":")
    log, told = SiteLog("sitea"), []
    async with (
        cutting_proxy((host, int(port))) as proxy,
        pbscast.connect(f"nats://127.0.0.1:{proxy.port}", connect_timeout=2) as client,
        client.subscribe(owners="alice") as subscription,
    ):
        for _ in range(2):
            await tier.events(subscription.id, log, 40)
            proxy.cut_after(9_000, "down")
            told += await take(subscription, 40)
    assert positions(told) == list(range(1, 81))
    assert not [item for item in told if isinstance(item, Missed)]
    assert any(request.resume for request in tier.requests(RenewRequest))


async def test_repeats_are_dropped_and_holes_are_told(tier: Deliverer, client: Client) -> None:
    log = SiteLog("sitea", position=7)
    async with client.subscribe(owners="alice") as subscription:
        key = subscription.id
        await tier.begin(key, "sitea", 7)
        await tier.events(key, log, 1)
        await tier.quicken(key, 0.05)
        assert positions(await take(subscription, 3)) == [8]
        # Not acknowledged yet, so the server sends it again before what follows.
        await tier.sent(key, 4)
        tier.skip(key, "sitea", 2)
        log.position += 5
        await tier.events(key, log, 2)
        hole, *after = await take(subscription, 3)
        assert hole == Missed("sitea", 8, 14)
        assert positions(after) == [14, 15]
        # A site that joins anew counts from wherever it likes, but what was between is missing.
        tier.skip(key, "sitea", 10)
        await tier.begin(key, "sitea", 30)
        assert await take(subscription, 3) == [
            Missed("sitea", 15, 31),
            Begin("sitea", 30),
            Boundary({"sitea": 30}),
        ]


async def test_a_hole_of_the_time_away_is_told_to_who_kept_the_place(
    tier: Deliverer, client: Client
) -> None:
    log = SiteLog("sitea", position=10)
    async with client.subscribe(owners="alice", keep=True) as first:
        await tier.begin(first.id, "sitea", 10)
        await tier.events(first.id, log, 2)
        await take(first, 4)
        place = json.loads(json.dumps(first.place))
    tier.skip(first.id, "sitea", 3)
    log.position += 3
    await tier.events(first.id, log, 1)
    async with client.attach(first.id, place=place) as second:
        # The last one before was not acknowledged: told again unless the place says it was told.
        hole, event = await take(second, 2)
    assert hole == Missed("sitea", 12, 16)
    assert "after position 12, before position 16" in str(hole)
    assert positions([event]) == [16]


async def test_a_stream_that_was_lost_begins_anew(tier: Deliverer, client: Client) -> None:
    log = SiteLog("sitea")
    async with client.subscribe(owners="alice", keep=True) as subscription:
        key = subscription.id
        await tier.events(key, log, 5)
        assert len(await take(subscription, 5)) == 5
        for number in (1, 2):
            await tier.put(key, "sitea", number, what="begin", position=5 + number)
        hole, begin, begin_again = await take(subscription, 3)
    assert hole == Missed("sitea", 5, 7)
    assert (begin, begin_again) == (Begin("sitea", 6), Begin("sitea", 7))


async def test_the_lease_is_renewed_and_its_end_is_told(tier: Deliverer, client: Client) -> None:
    tier.lease = 1
    async with client.subscribe(owners="alice") as subscription:
        waiting = asyncio.create_task(rest(subscription))
        await tier.seen(lambda: len(tier.requests(RenewRequest)) >= 2)
        await tier.forget(subscription.id)
        with pytest.raises(pbscast.GoneError, match=f"subscription {subscription.id} is no more"):
            await waiting
    with pytest.raises(pbscast.GoneError, match="subscribe anew"):
        await client.attach(subscription.id)


async def test_the_latest_reader_takes_over(tier: Deliverer, client: Client) -> None:
    log = SiteLog("sitea")
    async with client.subscribe(owners="alice") as first:
        await tier.events(first.id, log, 1)
        await take(first, 1)
        waiting = asyncio.create_task(rest(first))
        await tier.acknowledged(first.id)
        second = await client.attach(first.id)
        with pytest.raises(pbscast.ConflictError, match="read by somebody else"):
            await waiting
    # Who made it does not end what another reads now.
    await tier.events(first.id, log, 1)
    assert positions(await take(second, 1)) == [2]


async def test_who_has_another_consumer_and_is_not_answered_at_once_asks_again(
    tier: Deliverer, client: Client
) -> None:
    log = SiteLog("sitea")
    async with client.subscribe(owners="alice") as subscription:
        await tier.events(subscription.id, log, 1)
        assert positions(await take(subscription, 1)) == [1]
        waiting = asyncio.create_task(take(subscription, 1))
        await tier.acknowledged(subscription.id)
        tier.busy = 2
        await tier.settle(subscription.id)
        await tier.events(subscription.id, log, 1)
        assert positions(await waiting) == [2]
    assert tier.busy == 0


async def test_a_worker_that_resumes_late_what_was_asked_again_cuts_nobody_off(
    tier: Deliverer, client: Client
) -> None:
    log = SiteLog("sitea")
    made = await client.subscribe(owners="alice", keep=True)
    await made.close()
    tier.pause = 0.3
    async with client.attach(made.id) as reader:
        tier.pause = 0.0
        await tier.events(made.id, log, 2)
        assert positions(await take(reader, 2)) == [1, 2]
        waiting = asyncio.create_task(take(reader, 2))
        await tier.acknowledged(made.id)
        await tier.resume(made.id)
        await tier.events(made.id, log, 2)
        assert positions(await waiting) == [3, 4]


async def test_each_message_to_one_of_several_readers(
    tier: Deliverer, client: Client, nats_url: str
) -> None:
    log, count = SiteLog("sitea"), 4 * SHARED_BATCH
    async with (
        pbscast.connect(nats_url) as elsewhere,
        client.subscribe(owners="alice", shared=True) as first,
        elsewhere.attach(first.id) as second,
    ):
        reading = [asyncio.create_task(_read_until_complete(item)) for item in (first, second)]
        await tier.events(first.id, log, count)
        await tier.complete(first.id)
        one, other = await asyncio.gather(*reading)
    assert one
    assert other
    assert sorted(one + other) == list(range(1, count + 1))


async def _read_until_complete(subscription: Subscription) -> list[int]:
    told = await rest(subscription)
    assert told[-1] == Complete()
    return positions(told)


async def test_what_a_sharing_process_held_goes_to_another(
    tier: Deliverer, client: Client, nats_url: str
) -> None:
    log = SiteLog("sitea")
    async with client.subscribe(owners="alice", shared=True, keep=True) as first:
        await tier.events(first.id, log, 10)
        handled = positions(await take(first, 2))[:1]
        async with pbscast.connect(nats_url) as elsewhere, elsewhere.attach(first.id) as second:
            taking = asyncio.create_task(take(second, 9))
            # An orderly end gives back at once, the item in hand too.
            await first.close()
            assert sorted(handled + positions(await taking)) == list(range(1, 11))


async def test_a_slow_sharing_process_keeps_what_it_is_at_work_on(
    tier: Deliverer, client: Client, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ACK_WAIT", 0.3)
    async with (
        pbscast.connect(nats_url) as elsewhere,
        client.subscribe(owners="alice", shared=True, keep=True) as slow,
    ):
        await tier.quicken(slow.id, 0.4)
        await tier.events(slow.id, SiteLog("sitea"), 3)
        assert positions(await take(slow, 1)) == [1]
        async with elsewhere.attach(slow.id) as idle:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.2):
                    await anext(idle)
            assert positions(await take(slow, 2)) == [2, 3]
            # Who stopped waiting can wait again.
            waiting = asyncio.create_task(take(idle, 1))
            await slow.close()
            assert positions(await waiting) == [3]


async def test_at_most_once(tier: Deliverer, client: Client) -> None:
    log = SiteLog("sitea")
    async with client.subscribe("1.sitea", delivery="at-most-once") as subscription:
        key = subscription.id
        await tier.begin(key, "sitea", 0, standing())
        await tier.events(key, log, 2)
        await tier.complete(key)
        told = await rest(subscription)
    assert told[:3] == [
        Begin("sitea", 0),
        Standing.model_validate(standing()),
        Boundary({"sitea": 0}),
    ]
    assert positions(told) == [1, 2]
    assert told[-1] == Complete()
    assert subscription.place == {}


async def test_at_most_once_tells_where_something_may_be_missing(
    tier: Deliverer, nats_url: str
) -> None:
    host, port = nats_url.removeprefix("nats://").split(":")
    log = SiteLog("sitea")
    async with (
        cutting_proxy((host, int(port))) as proxy,
        pbscast.connect(f"nats://127.0.0.1:{proxy.port}", connect_timeout=2) as client,
        client.subscribe(owners="alice", delivery="at-most-once") as subscription,
    ):
        await tier.events(subscription.id, log, 1)
        await take(subscription, 1)
        proxy.cut()
        assert await take(subscription, 1) == [Missed("sitea", 1, None)]
        await subscription.modify(attributes="comment")
        await tier.events(subscription.id, log, 1)
        assert positions(await take(subscription, 1)) == [2]


async def test_at_most_once_goes_on_after_a_stall_while_the_connection_is_changed(
    own_nats: NatsServer,
) -> None:
    log = SiteLog("sitea")
    async with (
        delivering(own_nats.url) as tier,
        pbscast.connect(own_nats.url, connect_timeout=2) as client,
        client.subscribe(owners="alice", delivery="at-most-once") as subscription,
    ):
        await tier.events(subscription.id, log, 1)
        await take(subscription, 1)
        connection = client._connection
        await connection._move()  # as new credentials have it done
        assert own_nats.pid is not None
        os.kill(own_nats.pid, signal.SIGSTOP)
        await asyncio.sleep(1.5 * connection.timeout)
        os.kill(own_nats.pid, signal.SIGCONT)
        assert await take(subscription, 1) == [Missed("sitea", 1, None)]
        await tier.events(subscription.id, log, 1)
        assert positions(await take(subscription, 1)) == [2]


async def test_more_ids_than_fit_into_a_message(tier: Deliverer, client: Client) -> None:
    ids = tuple(f"{number}.a-server-with-a-long-name" for number in range(100_000))
    more = [f"{number}.sitea" for number in range(100_000, 100_100)]
    async with client.subscribe(ids, lease=60) as subscription:
        first, *parts = [item for item in tier.asked if not isinstance(item, RenewRequest)]
        assert isinstance(first, SubscribeRequest)
        assert all(isinstance(part, ModifyRequest) for part in parts)
        assert [part.more for part in (first, *parts)] == [*[True] * len(parts), False]  # type: ignore[attr-defined]
        assert tier.known[subscription.id].ids == ids
        await subscription.modify(add_ids=more, remove_ids=ids[:-1])
        assert tier.known[subscription.id].ids == (ids[-1], *more)
        assert not tier.known[subscription.id].more
        assert subscription.pending == [ids[-1], *more]
    with pytest.raises(pbscast.UsageError, match="100001 are too many: 100000 at most"):
        client.subscribe([*ids, "1.sitea"])


async def test_messages_of_a_newer_release_stop_nobody(tier: Deliverer, client: Client) -> None:
    async with client.subscribe(owners="alice") as subscription:
        await tier.put(subscription.id, "sitea", what="a novelty")
        await tier.events(subscription.id, SiteLog("sitea"), 1)
        novelty, hole, event = await take(subscription, 3)
        assert isinstance(novelty, Unreadable)
        assert isinstance(hole, Missed)
        assert positions([event]) == [1]


async def test_lists_and_ends_those_that_there_are(tier: Deliverer, client: Client) -> None:
    for owner in ("alice", "bob", "carol"):
        await client.subscribe(owners=owner, keep=True)
    listed = [item.id async for item in client.subscriptions()]
    assert listed == sorted(tier.known)
    for key in listed:
        await client.unsubscribe(key)
    assert not tier.known
    with pytest.raises(pbscast.UsageError, match="a node has none"):
        client.subscribe(kinds="node", owners="alice")


async def test_needs_no_right_but_to_pull_and_to_acknowledge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = """
authorization {
  users = [
    {user: tier, password: x}
    {user: alice, password: x, permissions: {
      publish: {allow: [
        "pbscast.v1.*", "$JS.API.CONSUMER.MSG.NEXT.PBS_DELIVERIES.*", "$JS.ACK.PBS_DELIVERIES.>"
      ]}
      subscribe: {allow: ["_INBOX.>", "pbscast.live.v1.*.*"]}
    }}
    {user: mallory, password: x, permissions: {
      publish: {allow: ["pbscast.v1.*"]}, subscribe: {allow: ["_INBOX.>"]}
    }}
  ]
}
"""
    with NatsServer(durable=False, config=config) as server:

        def url(user: str) -> str:
            return server.url.replace("nats://", f"nats://{user}:x@")

        log = SiteLog("sitea")
        async with delivering(url("tier")) as tier, pbscast.connect(url("alice")) as client:
            for options in ({}, {"shared": True}, {"delivery": "at-most-once"}):
                async with client.subscribe(owners="alice", **options) as subscription:
                    await tier.events(subscription.id, log, 2)
                    assert len(await take(subscription, 2)) == 2
            monkeypatch.setattr(pulling, "SILENCE", 0.5)
            async with pbscast.connect(url("mallory")) as confined:
                with pytest.raises(pbscast.AccessDeniedError, match="PBS_DELIVERIES"):
                    await rest(confined.subscribe(owners="alice"))
                with pytest.raises(pbscast.AccessDeniedError, match="refused pbscast"):
                    await confined.subscribe(owners="alice", delivery="at-most-once")


async def test_blocking(tier: Deliverer, nats_url: str) -> None:
    log, loop = SiteLog("sitea"), asyncio.get_running_loop()

    def wait_for(coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)  # type: ignore[arg-type]

    def work() -> tuple[list[SubscriptionItem], list[SubscriptionItem]]:
        called: list[SubscriptionItem] = []
        with blocking.connect(nats_url) as client:
            with client.subscribe("1.sitea", keep=True) as subscription:
                wait_for(tier.events(subscription.id, log, 2))
                iterated = [next(subscription), next(subscription)]
                subscription.modify(add_ids="2.sitea")
                assert subscription.pending == ["1.sitea", "2.sitea"]
                assert subscription.positions == {"sitea": 2}
                place = subscription.place
            assert [item.ids for item in client.subscriptions()] == [2]
            wait_for(tier.complete(subscription.id))
            client.attach(subscription.id, place=place).run(called.append)
            client.subscribe(owners="alice").unsubscribe()
            client.unsubscribe("0" * 32)
        return iterated, called

    iterated, called = await asyncio.to_thread(work)
    assert positions(iterated) == [1, 2]
    assert called == [Complete()]
    assert not tier.known
