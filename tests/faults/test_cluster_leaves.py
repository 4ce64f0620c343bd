"""The link between a site's nats-server and the hub is cut for a while."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from harness.audience import SITE, audience, load, pass_events
from harness.clusters import free_ports, until_linked
from harness.fanning import assert_published, client_of, draft, fanning, published_to, write
from harness.proxy import CuttingProxy, cutting_proxy
from harness.servers import Databases

import pbscast
from pbscast import pulling
from pbscast.events import Change
from pbscast_deploy.embedded import NatsServer
from pbscast_store.log import Log

SHIPPED = Path(__file__).parents[2] / "deploy" / "nats"
RELAY = "default_js_domain: { $G: hub }"
"""Of a leaf node that has no streams: who is there pulls from the hub's."""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers notice a silent way sooner than after twelve seconds."""
    monkeypatch.setattr(pulling, "HEARTBEAT", 1.0)
    monkeypatch.setattr(pulling, "SILENCE", 2.5)


@asynccontextmanager
async def joined(
    jetstream: str, config: str = "", remote: str = ""
) -> AsyncIterator[tuple[NatsServer, NatsServer, CuttingProxy]]:
    """The hub, a site's leaf node, and the way from there to the hub."""
    [port] = free_ports(1)
    with ExitStack() as stack:
        hub = await asyncio.to_thread(
            NatsServer(
                durable=False,
                jetstream="domain: hub",
                config="server_name: hub\n"
                # Or the leaf node learns the way that is not cut.
                f"leafnodes {{ listen: '127.0.0.1:{port}', no_advertise: true }}",
            ).start
        )
        stack.callback(hub.close)
        async with cutting_proxy(("127.0.0.1", port)) as proxy:
            url = f"nats://127.0.0.1:{proxy.port}"
            remotes = f"remotes: [ {{ url: '{url}'\n {remote} }} ], reconnect: 1"
            leaf = await asyncio.to_thread(
                NatsServer(
                    durable=False,
                    jetstream=jetstream,
                    config=f"server_name: leaf\nleafnodes {{ {remotes} }}\n{config}",
                ).start
            )
            stack.callback(leaf.close)
            yield hub, leaf, proxy


@asynccontextmanager
async def cut(proxy: CuttingProxy) -> AsyncIterator[None]:
    """Nothing passes meanwhile."""
    proxy.refusing = True
    proxy.cut()
    try:
        yield
    finally:
        proxy.refusing = False


async def test_who_listens_at_a_leaf_node_loses_and_hears_twice_nothing(log: Log) -> None:
    await write(log, SITE, [draft()])
    async with (
        joined("enabled: false", RELAY) as (hub, leaf, proxy),
        fanning(log, hub.url) as worker,
    ):
        await published_to(worker, SITE, 1)
        async with audience(leaf.url) as listening:
            async with load(log):
                await pass_events(log, 200)
                await listening.reach(100)
                async with cut(proxy):
                    await pass_events(log, 300)
                    published = await log.position(SITE)
                    await published_to(worker, SITE, published)
                    assert listening.watched[0][-1] < published
                await pass_events(log, 100)
            last = await log.position(SITE)
            await listening.reach(last)
            listening.check(2, last)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_a_link_that_is_cut_for_as_long_as_told(log: Log) -> None:
    """Also for longer than the hub keeps the consumer of somebody who is silent."""
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(10_000))
    print("SOAK_SEED", seed)  # noqa: T201
    choose, end = random.Random(seed), monotonic() + 60 * float(os.environ["SOAK_MINUTES"])
    await write(log, SITE, [draft()])
    async with (
        joined("enabled: false", RELAY) as (hub, leaf, proxy),
        fanning(log, hub.url) as worker,
    ):
        await published_to(worker, SITE, 1)
        async with audience(leaf.url) as listening:
            async with load(log):
                while monotonic() < end:
                    async with cut(proxy):
                        await asyncio.sleep(choose.choice([0, 5, 20, 100]))
                    await asyncio.sleep(choose.uniform(0, 20))
            last = await log.position(SITE)
            await listening.reach(last, 120)
            listening.check(2, last)


async def test_the_hub_copies_what_a_site_published_while_the_link_was_cut(
    log: Log, log_databases: Databases
) -> None:
    at_hub = log_databases.create()
    await Log.migrate_at(at_hub)
    denied = '["pbs.v1.>", "pbscast.>", "$KV.>"]'
    await write(log, SITE, [draft()])
    async with (
        joined("domain: sitea", remote=f"deny_exports: {denied}\n deny_imports: {denied}") as (
            hub,
            leaf,
            proxy,
        ),
        fanning(log, leaf.url) as worker,
        Log.open(at_hub) as hub_log,
        fanning(hub_log, hub.url, name="hub"),
    ):
        await published_to(worker, SITE, 1)
        await gather_from(hub.url, SITE)
        async with pbscast.connect(hub.url) as client, client.watch() as watch:
            async with load(log):
                await pass_events(log, 200)
                async with cut(proxy):
                    await pass_events(log, 300)
                    published = await log.position(SITE)
                    await published_to(worker, SITE, published)
                    assert (await copied(hub.url)) < published
                await pass_events(log, 100)
            last = await log.position(SITE)
            told: list[int] = []
            async with asyncio.timeout(100):
                while not told or told[-1] < last:
                    item = await anext(watch)
                    assert isinstance(item, Change), item
                    told.append(item.position)
        assert told == list(range(told[0], last + 1))
        await published_to(worker, SITE, last)
        for url in (leaf.url, hub.url):
            await assert_published(url, log, SITE)


async def copied(url: str) -> int:
    """How many messages the hub's stream has."""
    async with client_of(url) as client:
        return (await client.jetstream().stream_info("PBS")).state.messages


async def gather_from(url: str, *sites: str) -> None:
    """The stream that is shipped for the hub, of these sites, once it has what there is."""
    config: dict[str, Any] = json.loads((SHIPPED / "hub-stream.json").read_text())
    config["sources"] = [
        source
        for source in config["sources"]
        if source["external"]["api"] in [f"$JS.{site}.API" for site in sites]
    ]
    async with client_of(url) as client, asyncio.timeout(60):
        for site in sites:
            await until_linked(client, site)
        answer = await client.request("$JS.API.STREAM.CREATE.PBS", json.dumps(config).encode())
        assert "error" not in json.loads(answer.data), answer.data
        jetstream = client.jetstream()
        while not (await jetstream.stream_info("PBS")).state.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
