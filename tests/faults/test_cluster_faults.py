"""Three nats-servers with three copies of everything, and one of them dies under load."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import nats.errors
import pytest
from harness.audience import SITE, audience, load, pass_events
from harness.clusters import cluster_of, lead_at
from harness.fanning import assert_published, client_of, draft, fanning, published_to, write
from nats.aio.client import Client

from pbscast import pulling
from pbscast_deploy.embedded import NatsServer
from pbscast_store.log import Log

WATCHES = 36
"""So many that some server has the readers of a dozen, whichever these are."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, NatsServer]]:
    with cluster_of(3) as servers:
        yield servers


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers notice a silent server sooner than after twelve seconds."""
    monkeypatch.setattr(pulling, "HEARTBEAT", 1.0)
    monkeypatch.setattr(pulling, "SILENCE", 2.5)


def urls(cluster: dict[str, NatsServer]) -> str:
    return ",".join(server.url for server in cluster.values())


async def until_whole(client: Client) -> None:
    """Wait until every server has all of the events again, so that the next may die."""
    async with asyncio.timeout(60):
        while True:
            with suppress(nats.errors.Error):
                info = await client.jetstream(timeout=2).stream_info("PBS")
                replicas = info.cluster.replicas if info.cluster else None
                if replicas and all(peer.current and not peer.offline for peer in replicas):
                    return
            await asyncio.sleep(0.1)


async def readers_at(client: Client) -> str:
    """The server that has most readers of the events: at least a third of them."""
    infos = await client.jetstream(timeout=20).consumers_info("PBS")
    servers = Counter(info.cluster.leader for info in infos if info.cluster)
    [(server, count)] = servers.most_common(1)
    assert count >= WATCHES / 3
    return str(server)


async def test_kill_9_of_the_node_that_leads_and_has_the_readers_loses_and_repeats_nothing(
    log: Log, cluster: dict[str, NatsServer]
) -> None:
    await write(log, SITE, [draft()])
    async with fanning(log, urls(cluster), replicas=3) as worker:
        await published_to(worker, SITE, 1, 60)
        async with (
            audience(urls(cluster), WATCHES) as listening,
            client_of(urls(cluster)) as client,
        ):
            name = await readers_at(client)
            await lead_at(client, "PBS", name)
            leader = cluster[name]
            async with load(log):
                await pass_events(log, 200)
                leader.kill()
                await pass_events(log, 200)
                # Told to all, one server short.
                await listening.reach(await log.position(SITE))
                await asyncio.to_thread(leader.start)
                await pass_events(log, 100)
            last = await log.position(SITE)
            await listening.reach(last)
            listening.check(2, last)
            await until_whole(client)
        await published_to(worker, SITE, last)
        await assert_published(leader.url, log, SITE, replicas=3)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_nodes_killed_for_as_long_as_told(log: Log, cluster: dict[str, NatsServer]) -> None:
    """Any node, by kill -9 or in order, for a moment or for long, the next before all is well."""
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(10_000))
    print("SOAK_SEED", seed)  # noqa: T201
    choose, end = random.Random(seed), monotonic() + 60 * float(os.environ["SOAK_MINUTES"])
    await write(log, SITE, [draft()])
    async with fanning(log, urls(cluster), replicas=3) as worker:
        await published_to(worker, SITE, 1, 60)
        async with audience(urls(cluster)) as listening:
            async with load(log):
                while monotonic() < end:
                    server = choose.choice([*cluster.values()])
                    await asyncio.to_thread(choose.choice([server.kill, server.stop]))
                    await asyncio.sleep(choose.uniform(0, 20))
                    await asyncio.to_thread(server.start)
                    await asyncio.sleep(choose.uniform(0, 20))
            last = await log.position(SITE)
            await listening.reach(last, 120)
            listening.check(2, last)
        await published_to(worker, SITE, last)
    await assert_published(urls(cluster), log, SITE, replicas=3)
