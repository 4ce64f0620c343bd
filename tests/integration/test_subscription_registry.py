"""The registry, boundaries and consumers on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
from harness.delivering import AFTER, BEFORE, FrailConnection
from harness.holding import View, connected, eventually, holdings_at, kept, wanting
from harness.proxy import cutting_proxy
from nats.errors import TimeoutError as NatsTimeout

from pbscast.deliveries import DELIVERIES, delivery_filter, delivery_subject
from pbscast.errors import (
    ConflictError,
    DecodeError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from pbscast.subscriptions import LONGEST_LEASE, MOST_IDS, ModifyRequest
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.connection import Connection
from pbscast_fanout.jetstream import STREAM, call
from pbscast_fanout.settings import StreamSettings, SubscriptionSettings
from pbscast_fanout.streams import MOST_CONSUMERS, ensure_stream
from pbscast_fanout.subscriptions import definitions
from pbscast_fanout.subscriptions import registry as registry_module
from pbscast_fanout.subscriptions.consumers import Consumers
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_fanout.subscriptions.joined import Joined, JoinedSites
from pbscast_fanout.subscriptions.registry import Registry
from pbscast_fanout.subscriptions.stream import ensure_deliveries

KEY = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    async with connected(nats_url) as connection:
        yield connection


@pytest.fixture
async def holdings(connection: Connection) -> Holdings:
    return await holdings_at(connection)


@pytest.fixture
def registry(holdings: Holdings) -> Registry:
    return holdings.registry


@pytest.fixture
def joined(holdings: Holdings) -> JoinedSites:
    return holdings.joined


@pytest.fixture
def consumers(holdings: Holdings) -> Consumers:
    return holdings.consumers


@pytest.fixture
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_INLINE_TEXT", 40)
    monkeypatch.setattr(definitions, "_PART_IDS", 4)


def adding(*ids: str, key: str = KEY, more: bool = False) -> ModifyRequest:
    return ModifyRequest(id=key, add_ids=ids, more=more)


def removing(*ids: str, key: str = KEY) -> ModifyRequest:
    return ModifyRequest(id=key, remove_ids=ids)


def ids(count: int) -> list[str]:
    return [f"{number}.sitea" for number in range(count)]


async def test_a_subscription_is_what_was_registered(registry: Registry) -> None:
    definition = await registry.register(wanting("1.sitea", owners=["alice"]))
    assert await registry.get(definition.id) == definition
    assert definition.request.id == definition.id
    assert definition.request.owners == ("alice",)
    other = await registry.register(wanting("1.sitea", owners=["alice"]))
    assert other.id != definition.id
    assert set(await registry.page(None, 10)) == {definition.id, other.id}
    first, second = sorted((definition.id, other.id))
    assert await registry.page(None, 1) == [first]
    assert await registry.page(first, 1) == [second]
    assert await registry.page(second, 1) == []


async def test_the_same_request_twice_is_one_subscription(registry: Registry) -> None:
    request = wanting("1.sitea", id=KEY)
    first = await registry.register(request)
    await registry.modify(KEY, adding("2.sitea"))
    second = await registry.register(request)
    assert second.created == first.created
    assert second.request.ids == ("1.sitea", "2.sitea")
    assert await registry.page(None, 10) == [KEY]


async def test_the_same_request_twice_at_once_is_one_subscription(registry: Registry) -> None:
    request = wanting(*ids(5000), id=KEY)
    registered = await asyncio.gather(*(registry.register(request) for _ in range(5)))
    assert len({definition.revision for definition in registered}) == 1
    assert await registry.loose_parts() == set()
    assert (await registry.get(KEY)).request.ids == tuple(ids(5000))


async def test_another_request_with_an_id_in_use_is_refused(registry: Registry) -> None:
    await registry.register(wanting("1.sitea", id=KEY))
    with pytest.raises(ConflictError, match=f"id: there is another subscription '{KEY}'"):
        await registry.register(wanting("2.sitea", id=KEY))
    assert (await registry.get(KEY)).request.ids == ("1.sitea",)


async def test_a_late_repeat_does_not_bring_back_what_has_ended(registry: Registry) -> None:
    request = wanting("1.sitea", id=KEY)
    await registry.register(request)
    await registry.remove(KEY)
    with pytest.raises(ConflictError, match="has ended: take another id"):
        await registry.register(request)
    with pytest.raises(NotFoundError):
        await registry.lease(KEY)


async def test_a_hundred_thousand_ids(registry: Registry) -> None:
    definition = await registry.register(wanting(*ids(MOST_IDS - 1), id=KEY))
    async with View.of(registry) as view:
        assert view.definitions == {KEY: definition}
        changed = await registry.modify(KEY, adding("99999.sitea"))
        await view.until(lambda: view.definitions[KEY] == changed)
        assert changed.request.ids == tuple(ids(MOST_IDS))
        with pytest.raises(UsageError, match="add_ids: 100001 ids in all"):
            await registry.modify(KEY, adding("100000.sitea"))


@pytest.mark.usefixtures("_in_parts")
async def test_changes_at_once_all_hold(registry: Registry) -> None:
    await registry.register(wanting(*ids(20), id=KEY))
    await asyncio.gather(
        *(registry.modify(KEY, adding(f"{100 + number}.sitea")) for number in range(4)),
        *(registry.modify(KEY, removing(f"{number}.sitea")) for number in range(2)),
        registry.modify(KEY, ModifyRequest(id=KEY, attributes=("comment",))),
    )
    definition = await registry.get(KEY)
    expected = {*ids(20)[2:], *(f"{100 + number}.sitea" for number in range(4))}
    assert set(definition.request.ids) == expected
    assert definition.request.attributes == ("comment",)
    assert await registry.loose_parts() == set()


@pytest.mark.usefixtures("_in_parts")
async def test_a_change_beside_the_end_leaves_nothing(
    holdings: Holdings, registry: Registry
) -> None:
    for number in range(0, 10, 2):
        key = f"{number:032d}"
        await registry.register(wanting(*ids(20), id=key))
        change = asyncio.create_task(registry.modify(key, adding("99.sitea", key=key)))
        for _ in range(number * 20):
            await asyncio.sleep(0)
        await holdings.remove(key)
        await asyncio.wait({change})
        if change.exception() is not None:
            with pytest.raises(NotFoundError):
                await change
        with pytest.raises(NotFoundError):
            await registry.get(key)
    assert await holdings.traces() == set()


@pytest.mark.usefixtures("_in_parts")
async def test_an_interrupted_change_holds_or_does_not(nats_url: str) -> None:
    connection = FrailConnection(nats_url)
    await connection.open()
    registry = (await holdings_at(connection)).registry
    await registry.register(wanting(*ids(8), id=KEY))
    for left in range(10):
        for how in (BEFORE, AFTER):
            before = set((await registry.get(KEY)).request.ids)
            change = adding(f"{left}.{how}")
            connection.fail(left, how)
            try:
                await registry.modify(KEY, change)
            except UnavailableError:
                connection.fail(0, "")
                found = set((await registry.get(KEY)).request.ids)
                assert found in (before, before | set(change.add_ids))
                await registry.modify(KEY, change)
            connection.fail(0, "")
            assert set((await registry.get(KEY)).request.ids) == before | set(change.add_ids)
    await connection.close()


async def test_a_lease_runs_out_unless_it_is_renewed(registry: Registry) -> None:
    await registry.register(wanting("1.sitea", id=KEY, lease=1))
    await registry.register(wanting("1.sitea", id=OTHER, lease=1))
    lease = await registry.renew(OTHER, 60)
    assert lease.seconds == 60
    assert abs((await registry.lease(OTHER)).expires - lease.expires).total_seconds() < 5
    assert (await registry.renew(OTHER)).seconds == 60

    async def has_run_out() -> bool:
        return [key async for key in _until_first(registry)] == [KEY]

    assert await has_run_out()
    for _ in range(2):
        with pytest.raises(NotFoundError, match=f"there is no subscription '{KEY}'"):
            await registry.renew(KEY)
    await registry.renew(OTHER)


async def test_the_longest_lease_is_taken(registry: Registry) -> None:
    await registry.register(wanting("1.sitea", id=KEY, lease=LONGEST_LEASE))
    assert (await registry.renew(KEY)).seconds == LONGEST_LEASE
    assert (await registry.lease(KEY)).seconds == LONGEST_LEASE


async def _until_first(registry: Registry) -> AsyncIterator[str]:
    expiries = registry.expiries()
    async with asyncio.timeout(30):
        yield await anext(expiries)
    await expiries.aclose()


async def test_somebody_elses_lease_is_named(registry: Registry) -> None:
    await registry.register(wanting("1.sitea", id=KEY))
    await registry._leases.put(KEY, b"long")
    for work in (registry.renew(KEY), registry.lease(KEY)):
        with pytest.raises(DecodeError, match=f"{KEY} in PBS_LEASES is no lease of pbscast"):
            await work
    assert (await registry.renew(KEY, 60)).seconds == 60


async def test_at_the_limit_no_more_are_registered(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "MOST_SUBSCRIPTIONS", 2)
    request = wanting("1.sitea", id=KEY)
    for taken in (request, wanting("1.sitea", id=OTHER), request):
        await registry.register(taken)
    with pytest.raises(ConflictError, match="there are 2 subscriptions, which is the limit"):
        await registry.register(wanting("1.sitea"))
    assert await registry.keys() == await registry.leased() == {KEY, OTHER}
    await registry.remove(OTHER)
    await registry.register(wanting("1.sitea"))


async def test_at_the_limit_no_more_ids_are_taken(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = await registry.register(wanting("1.sitea", "2.sitea", id=KEY))
    monkeypatch.setattr(registry_module, "MOST_BYTES", 10)
    for work in (registry.register(wanting("1.sitea")), registry.modify(KEY, adding("3.sitea"))):
        with pytest.raises(ConflictError, match="together have reached the limit of 10 bytes"):
            await work
    assert await registry.get(KEY) == definition
    smaller = await registry.modify(KEY, removing("2.sitea"))
    assert await registry.end(KEY, smaller.revision)


async def test_of_what_is_not_there_nothing_is_done(registry: Registry) -> None:
    for key in (KEY, "*", ">", f"{KEY}.x", ""):
        with pytest.raises(NotFoundError):
            await registry.renew(key)
        with pytest.raises(NotFoundError):
            await registry.modify(key, adding("1.sitea"))
        with pytest.raises(NotFoundError):
            await registry.get(key)
        with pytest.raises(NotFoundError):
            await registry.end(key, 1)
    await registry.remove(KEY)
    assert await registry.keys() == set()


async def test_it_ends_once(registry: Registry) -> None:
    first = await registry.register(wanting("1.sitea", id=KEY))
    second = await registry.modify(KEY, adding("2.sitea"))
    with pytest.raises(ConflictError, match="has been modified"):
        await registry.end(KEY, first.revision)
    assert await registry.end(KEY, second.revision)
    assert not await registry.end(KEY, second.revision)
    assert (await registry.get(KEY)).ended
    with pytest.raises(ConflictError, match="subscribe anew"):
        await registry.modify(KEY, adding("3.sitea"))


@pytest.mark.usefixtures("_in_parts")
async def test_who_follows_sees_every_change(nats_url: str, registry: Registry) -> None:
    host, port = nats_url.rpartition("/")[2].split(":")
    many = await registry.register(wanting(*ids(30), id=KEY))
    async with (
        cutting_proxy((host, int(port))) as proxy,
        connected(f"nats://127.0.0.1:{proxy.port}") as away,
        View.of(Registry(away)) as view,
    ):
        assert view.definitions == {KEY: many}
        other = await registry.register(wanting(id=OTHER))
        await view.until(lambda: view.definitions.get(OTHER) == other)
        proxy.cut()
        await registry.remove(OTHER)
        changed = await registry.modify(KEY, adding("99.sitea"))
        await view.until(lambda: view.begun_anew and view.is_current)
        assert view.definitions == {KEY: changed}
        await registry.remove(KEY)
        await view.until(lambda: not view.definitions)


async def test_it_survives_the_servers_crash(own_nats: NatsServer) -> None:
    async with kept(own_nats.url) as connection:
        registry = (await holdings_at(connection)).registry
        definition = await registry.register(wanting("1.sitea", id=KEY))
        await registry.register(wanting("1.sitea", id=OTHER, lease=1))
        async with View.of(registry) as view:
            own_nats.kill()
            await asyncio.to_thread(own_nats.start)
            await view.until(lambda: view.begun_anew and view.is_current)
            assert view.definitions[KEY] == definition
        assert (await registry.renew(KEY)).seconds == 600
        assert [key async for key in _until_first(registry)] == [OTHER]


async def test_boundaries_are_kept_by_site(joined: JoinedSites) -> None:
    await joined.put("sitea", KEY, Joined(position=7, revision=3))
    noted = await joined.put("sitea", KEY, Joined(position=9, revision=4))
    other = await joined.put("site b.>", KEY, Joined(position=1, revision=1))
    await joined.put("sitea", OTHER, Joined(position=2, revision=2))
    assert await joined.get("sitea", KEY) == Joined(position=9, revision=4, noted=noted)
    assert await joined.get("sitea", "e" * 32) is None
    assert await joined.load("site b.>") == {KEY: Joined(position=1, revision=1, noted=other)}
    assert (await joined.load("sitea")).keys() == {KEY, OTHER}
    assert await joined.keys() == {KEY, OTHER}
    await joined.drop(KEY)
    assert await joined.keys() == {OTHER}


async def test_a_boundary_takes_the_place_of_that_which_was_read(joined: JoinedSites) -> None:
    first = await joined.put("sitea", KEY, Joined(position=7, revision=3), last=0)
    await joined.put("sitea", OTHER, Joined(position=1, revision=1))
    second = await joined.put("sitea", KEY, Joined(position=0, revision=0), last=first)
    for last in (0, first):
        with pytest.raises(ConflictError, match="was written meanwhile"):
            await joined.put("sitea", KEY, Joined(position=9, revision=3), last=last)
    assert await joined.get("sitea", KEY) == Joined(position=0, revision=0, noted=second)


async def read(url: str, count: int) -> list[str]:
    """Pull as a client does; what comes is not acknowledged."""
    client = await nats.connect(url)
    inbox = await client.subscribe("answers")
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{DELIVERIES}.{KEY}"
    await client.publish(subject, b'{"batch": %d, "no_wait": true}' % count, reply="answers")
    bodies: list[str] = []
    try:
        while len(bodies) < count:
            message = await inbox.next_msg(timeout=20)
            if message.subject == "answers":
                break
            bodies.append(message.data.decode())
            if bodies[-1] in {"0", "1"}:
                await message.ack_sync()
    except NatsTimeout:
        pass
    finally:
        await client.close()
    return bodies


async def test_resuming_goes_on_after_what_was_acknowledged(
    nats_url: str, consumers: Consumers
) -> None:
    client = await nats.connect(nats_url)
    for number in range(5):
        await client.jetstream().publish(delivery_subject("sitea", KEY), b"%d" % number)
        await client.jetstream().publish(delivery_subject("sitea", OTHER), b"x")
    await client.close()
    await consumers.create(KEY)
    assert await read(nats_url, 4) == ["0", "1", "2", "3"]
    await consumers.create(KEY)
    await consumers.resume(KEY, shared=True)
    assert await read(nats_url, 9) == ["4"]
    await consumers.resume(KEY, shared=False)
    assert await read(nats_url, 9) == ["2", "3", "4"]
    await consumers.drop(KEY)
    await consumers.drop(KEY)
    assert await consumers.keys() == set()
    await consumers.resume(KEY, shared=False)
    assert await read(nats_url, 5) == ["0", "1", "2", "3", "4"]
    assert await consumers.keys() == {KEY}


async def test_who_goes_does_not_make_the_stream_write_itself_anew(
    connection: Connection, consumers: Consumers
) -> None:
    await consumers.create(KEY)
    await connection.request(delivery_subject("sitea", KEY), b"1")
    assert await consumers.has_messages(KEY)
    assert not await consumers.has_messages(OTHER)
    await consumers.drop(KEY)
    state = (await call(connection, f"STREAM.INFO.{DELIVERIES}"))["state"]
    assert (state["messages"], state.get("num_deleted", 0)) == (1, 0)
    assert await consumers.keys() == set()


async def test_an_operators_consumer_is_nobodys(nats_url: str, consumers: Consumers) -> None:
    client = await nats.connect(nats_url)
    stream = client.jetstream()
    await stream.pull_subscribe(delivery_filter(KEY), "watching", stream=DELIVERIES)
    await stream.publish("pbscast.deliver.v1.sitea.mark", b"{}")
    assert await consumers.keys() == set()
    await client.close()


@pytest.mark.parametrize("stream", [STREAM, DELIVERIES])
async def test_a_stream_takes_more_readers_than_nats_would_let_it(
    connection: Connection, stream: str
) -> None:
    async def most_readers() -> int:
        if stream == STREAM:
            await ensure_stream(connection, StreamSettings())
        else:
            await ensure_deliveries(connection, SubscriptionSettings())
        config = (await call(connection, f"STREAM.INFO.{stream}"))["config"]
        return int(config["max_consumers"])

    assert await most_readers() == MOST_CONSUMERS
    config = (await call(connection, f"STREAM.INFO.{stream}"))["config"]
    # As an earlier release made it.
    await call(connection, f"STREAM.UPDATE.{stream}", {**config, "max_consumers": -1})
    assert await most_readers() == MOST_CONSUMERS
    await call(connection, f"STREAM.UPDATE.{stream}", {**config, "max_consumers": 5000})
    assert await most_readers() == 5000


async def test_without_the_stream_there_are_no_consumers(connection: Connection) -> None:
    consumers = Consumers(connection)
    for work in (consumers.create(KEY), consumers.resume(KEY, shared=True), consumers.keys()):
        with pytest.raises(UnavailableError, match="PBS_DELIVERIES is not there yet: try again"):
            await work
    await consumers.drop(KEY)


async def test_removing_leaves_nothing(nats_url: str, holdings: Holdings) -> None:
    await holdings.registry.register(wanting(*ids(5000), id=KEY))
    await holdings.joined.put("sitea", KEY, Joined(position=1, revision=1))
    await holdings.consumers.create(KEY)
    client = await nats.connect(nats_url)
    await client.jetstream().publish(delivery_subject("sitea", KEY), b"1")
    await client.close()
    assert await holdings.traces() == {KEY}
    await holdings.remove(KEY)

    async def is_gone() -> bool:
        return await holdings.traces() == set()

    await eventually(is_gone)
    assert await holdings.registry.loose_parts() == set()
