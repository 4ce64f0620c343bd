"""The log's PostgreSQL dies under load, and its standby is promoted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from harness.audience import SITE, audience, load, pass_events
from harness.fanning import (
    assert_published,
    client_of,
    drafts,
    fanning,
    in_state,
    published_to,
    status_of,
    stored,
    write,
)
from harness.standbys import Standby, both, primary, wait_for_standbys

from pbscast.requests import PublisherState
from pbscast_deploy.embedded import PostgresServer
from pbscast_store.connection import is_promotion_lossy
from pbscast_store.log import Log


@pytest.fixture
def servers() -> Iterator[tuple[PostgresServer, Standby]]:
    with primary() as first:
        asyncio.run(Log.migrate_at(first.dsn()))
        with Standby(first) as second:
            yield first, second


async def test_a_promotion_loses_and_repeats_nothing_that_was_published(
    servers: tuple[PostgresServer, Standby], nats_url: str
) -> None:
    first, second = servers
    assert await is_promotion_lossy(both(first, second))
    await asyncio.to_thread(wait_for_standbys, first)
    assert not await is_promotion_lossy(both(first, second))
    async with Log.open(both(first, second)) as log:
        await write(log, SITE, drafts(1))
        async with fanning(log, nats_url) as worker:
            await published_to(worker, SITE, 1)
            async with audience(nats_url) as listening:
                async with load(log):
                    await pass_events(log, 300)
                    await asyncio.to_thread(first.kill)
                    before = status_of(worker, SITE).published
                    await asyncio.to_thread(second.promote)
                    await pass_events(log, 300)
                last = await log.position(SITE)
                assert last > before
                await listening.reach(last)
                listening.check(2, last)
                await published_to(worker, SITE, last)
        await assert_published(nats_url, log, SITE)


@pytest.mark.parametrize("grown", [False, True])
async def test_a_promotion_that_lost_events_stops_the_site_before_a_position_has_two_meanings(
    servers: tuple[PostgresServer, Standby], nats_url: str, *, grown: bool
) -> None:
    """Commits did not wait for the standby, so that it had not all that was published."""
    first, second = servers
    async with Log.open(both(first, second)) as log:
        await write(log, SITE, drafts(50))
        async with fanning(log, nats_url) as worker:
            await published_to(worker, SITE, 50)
            await asyncio.to_thread(second.kill)
            await write(log, SITE, drafts(30))
            await published_to(worker, SITE, 80)
            published = await stored(nats_url)
            await asyncio.to_thread(first.kill)
            await asyncio.to_thread(second.start)
            await asyncio.to_thread(second.promote)
            if grown:
                await write(log, SITE, drafts(60, size=20))
            await in_state(worker, SITE, PublisherState.DIVERGED)
            assert "restored" in (status_of(worker, SITE).error or "")
            assert await stored(nats_url) == published
            # What the administrator is told to do.
            async with client_of(nats_url) as client:
                await client.jetstream().purge_stream("PBS", subject=f"pbs.v1.{SITE}.>")
            await in_state(worker, SITE, PublisherState.CURRENT)
        await assert_published(nats_url, log, SITE)
