"""Workers that come, go and die, on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain

import pytest
from harness.fanning import draft, fanning, in_state, published_to, until, write
from harness.holding import connected, kept

from pbscast.requests import PublisherState
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout import publisher
from pbscast_fanout.connection import Connection
from pbscast_fanout.subscriptions import membership
from pbscast_fanout.subscriptions.membership import Membership
from pbscast_fanout.worker import Fanout
from pbscast_store.log import Log

SITES = [f"site{number}" for number in range(50)]


@asynccontextmanager
async def member(connection: Connection, name: str = "worker") -> AsyncIterator[Membership]:
    one = Membership(connection, name)
    task = asyncio.create_task(one.run())
    try:
        await one.known(10)
        yield one
    finally:
        task.cancel()
        await asyncio.wait({task})


async def sees(one: Membership, count: int) -> None:
    """Wait until that is how many workers are seen."""
    async with asyncio.timeout(30):
        while len(one.workers) != count:
            await one.wait_changed()


async def seen_first(one: Membership) -> frozenset[str]:
    await one.known(10)
    return one.workers


def shares(*members: Membership) -> list[list[str]]:
    return [[site for site in SITES if one.mine(site)] for one in members]


async def test_each_site_is_one_workers(nats_url: str) -> None:
    async with connected(nats_url) as connection, member(connection) as first:
        assert shares(first) == [SITES]
        async with member(connection) as second, member(connection) as third:
            for one in (first, second, third):
                await sees(one, 3)
            mine = shares(first, second, third)
            assert sorted(chain.from_iterable(mine)) == sorted(SITES)
            assert all(mine)
            had = set(mine[0])
        await sees(first, 1)
        assert had < set(shares(first)[0])


async def test_who_leaves_is_missed_at_once_and_who_dies_soon(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "SIGN_SECONDS", 0.3)
    async with (
        connected(nats_url) as connection,
        connected(nats_url) as others,
        member(connection) as first,
    ):
        monkeypatch.setattr(membership, "LIFE_SECONDS", 60)
        async with member(connection):
            await sees(first, 2)
        await sees(first, 1)
        monkeypatch.setattr(membership, "LIFE_SECONDS", 1)
        async with member(others):
            await sees(first, 2)
            await others.close()
            await sees(first, 1)


async def test_while_nothing_is_known_everything_is_everybodys(
    own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "LIFE_SECONDS", 3)
    monkeypatch.setattr(membership, "SIGN_SECONDS", 0.2)
    async with (
        kept(own_nats.url) as connection,
        connected(own_nats.url) as others,
        member(connection) as one,
        member(connection) as two,
        member(others) as three,
    ):
        for each in (one, two, three):
            await sees(each, 3)
        before = one.workers
        await asyncio.to_thread(own_nats.kill)
        await sees(one, 0)
        assert shares(one) == [SITES]
        await others.close()
        await asyncio.to_thread(own_nats.start)
        # The server has forgotten who lives: for a moment nobody knows that one is missing.
        assert set(await asyncio.gather(seen_first(one), seen_first(two))) == {before}
        for each in (one, two):
            await sees(each, 2)
        assert one.workers == two.workers


def current(fanout: Fanout) -> set[str]:
    """The sites that a worker publishes."""
    publishing = (PublisherState.CURRENT, PublisherState.PUBLISHING)
    return {item.site for item in fanout.status().sites if item.state in publishing}


async def test_a_worker_that_comes_takes_its_sites_and_leaves_them(log: Log, nats_url: str) -> None:
    sites = SITES[:5]
    for site in sites:
        await write(log, site, [draft(f"1.{site}")])
    async with fanning(log, nats_url) as first:
        for site in sites:
            await published_to(first, site, 1)
        async with fanning(log, nats_url) as second:
            await until(lambda: sorted((*current(first), *current(second))) == sites)
            for site in sites:
                await write(log, site, [draft(f"1.{site}")])
                await published_to(second, site, 2, seconds=20)
        for site in sites:
            await in_state(first, site, PublisherState.CURRENT, seconds=20)
            await write(log, site, [draft(f"1.{site}")])
            await published_to(first, site, 3, seconds=20)


async def test_who_does_not_publish_its_site_is_stood_in_for(
    log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "FAILED_SECONDS", 1.0)
    await write(log, "sitea", [draft()])
    async with (
        fanning(log, nats_url) as fanout,
        connected(nats_url) as connection,
        AsyncExitStack() as idle,
    ):
        await published_to(fanout, "sitea", 1)
        while not (await idle.enter_async_context(member(connection))).mine("sitea"):
            pass
        await in_state(fanout, "sitea", PublisherState.STANDBY)
        for position in (2, 3):
            await write(log, "sitea", [draft()])
            await published_to(fanout, "sitea", position, seconds=20)
        await in_state(fanout, "sitea", PublisherState.CURRENT)
