"""What nobody renews goes, with all that belongs to it, on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harness.delivering import BEFORE, FrailConnection
from harness.holding import connected, eventually, holdings_at, wanting

from pbscast.errors import NotFoundError, PbscastError, UnavailableError
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import FanoutSettings
from pbscast_fanout.subscriptions import janitor
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_fanout.subscriptions.janitor import Janitor
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.membership import Membership

KEY, OTHER = "a" * 32, "b" * 32


class Others(Membership):
    """Of workers of which this one has nothing to do."""

    def mine(self, thing: str) -> bool:
        return False


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    async with connected(nats_url) as connection:
        yield connection


@pytest.fixture
async def holdings(connection: Connection) -> Holdings:
    return await holdings_at(connection)


@pytest.fixture
def membership(connection: Connection) -> Membership:
    return Membership(connection, "test")


async def subscribe(holdings: Holdings, key: str, lease: int = 600) -> None:
    ids = [f"{number}.sitea" for number in range(5000)]
    await holdings.registry.register(wanting(*ids, id=key))
    await holdings.joined.put("sitea", key, Joined(position=1, revision=1))
    await holdings.consumers.create(key)
    await holdings.registry.renew(key, lease)


async def is_registered(holdings: Holdings, key: str) -> bool:
    try:
        await holdings.registry.get(key)
    except NotFoundError:
        return False
    return True


async def is_made(holdings: Holdings) -> bool:
    try:
        await holdings.traces()
    except PbscastError:
        return False
    return True


@asynccontextmanager
async def running(holdings: Holdings, membership: Membership) -> AsyncIterator[None]:
    task = asyncio.create_task(Janitor(holdings, membership).run())
    yield
    task.cancel()
    await asyncio.wait({task})


async def test_what_is_not_renewed_goes(holdings: Holdings, membership: Membership) -> None:
    async with running(holdings, membership):
        await subscribe(holdings, KEY, lease=1)
        await subscribe(holdings, OTHER, lease=1)
        await holdings.registry.renew(OTHER, 60)

        async def is_gone() -> bool:
            return not await is_registered(holdings, KEY)

        await eventually(is_gone)
        await eventually(lambda: traces_are(holdings, {OTHER}))
        assert await is_registered(holdings, OTHER)


async def traces_are(holdings: Holdings, keys: set[str]) -> bool:
    # Of a lease that ran out a marker stays for some time.
    found = await holdings.joined.keys() | await holdings.consumers.keys()
    return found == keys and not await holdings.registry.loose_parts()


async def test_what_ran_out_while_no_worker_was_there_goes(
    holdings: Holdings, membership: Membership
) -> None:
    await subscribe(holdings, KEY)
    await subscribe(holdings, OTHER)
    await holdings.registry._leases.forget(KEY)
    others = Others(holdings.registry._connection, "test")
    assert await Janitor(holdings, others)._try() == janitor.SWEEP_SECONDS
    assert await is_registered(holdings, KEY)
    await Janitor(holdings, membership)._try()
    assert not await is_registered(holdings, KEY)
    assert await is_registered(holdings, OTHER)
    assert await traces_are(holdings, {OTHER})


async def test_leftovers_go_when_they_are_seen_twice(
    holdings: Holdings, membership: Membership
) -> None:
    await subscribe(holdings, OTHER)
    await holdings.consumers.create(KEY)
    await holdings.joined.put("sitea", KEY, Joined(position=1, revision=1))
    await holdings.registry._leases.put(KEY, b"600")
    for part in (f"{KEY}.1", f"{OTHER}.1"):
        await holdings.registry._definitions.put(part, b"x")
    sweeper = Janitor(holdings, membership)
    await sweeper.sweep()
    assert await holdings.traces() == {KEY, OTHER}
    assert len(await holdings.registry.loose_parts()) == 2
    await sweeper.sweep()
    assert await holdings.traces() == {OTHER}
    assert await traces_are(holdings, {OTHER})
    assert await is_registered(holdings, OTHER)


async def test_what_cannot_be_removed_holds_up_no_other(
    holdings: Holdings, membership: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (KEY, OTHER):
        await subscribe(holdings, key)
        await holdings.registry._leases.forget(key)
    drop = holdings.joined.drop

    async def fail(key: str) -> None:
        if key == KEY:
            raise UnavailableError("out of order")
        await drop(key)

    monkeypatch.setattr(holdings.joined, "drop", fail)
    await Janitor(holdings, membership).sweep()
    assert KEY in await holdings.traces()
    assert await traces_are(holdings, {KEY})
    assert not await is_registered(holdings, OTHER)


async def test_one_that_is_being_registered_is_left_alone(
    holdings: Holdings, membership: Membership
) -> None:
    sweeper = Janitor(holdings, membership)
    await holdings.registry._leases.put(KEY, b"600")
    await sweeper.sweep()
    await subscribe(holdings, KEY)
    await sweeper.sweep()
    assert await is_registered(holdings, KEY)
    await holdings.registry.renew(KEY)


async def test_trouble_is_waited_out(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "_RETRY_SECONDS", 0.05)
    connection = FrailConnection(nats_url)
    connection.fail(0, BEFORE)
    holdings = Holdings.of(connection, FanoutSettings())
    async with running(holdings, Membership(connection, "test")):
        await connection.open()
        await eventually(lambda: is_made(holdings))
        await subscribe(holdings, KEY, lease=1)

        async def is_gone() -> bool:
            return not await is_registered(holdings, KEY)

        await eventually(is_gone)
    await connection.close()
