"""The registry in a cluster of three: a stream with replicas has limits of another kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from harness.clusters import run_cluster
from harness.holding import View, connected, wanting

from pbscast.errors import ConflictError, PbscastError
from pbscast.subscriptions import ModifyRequest
from pbscast_fanout.jetstream import call
from pbscast_fanout.subscriptions import registry as registry_module
from pbscast_fanout.subscriptions.registry import Registry

KEYS = ["a" * 32, "b" * 32]


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    with run_cluster(3) as urls:
        async with connected(urls[0]) as connection:
            registry = Registry(connection, replicas=3)
            await made(registry)
            yield registry


async def made(registry: Registry) -> None:
    """Once the cluster has agreed on a leader."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await registry.ensure()
            except PbscastError:
                await asyncio.sleep(0.1)


async def test_at_the_limit_all_that_there_are_live_on(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "MOST_SUBSCRIPTIONS", 2)
    for key in KEYS:
        await registry.register(wanting("1.sitea", "2.sitea", id=key))
    monkeypatch.setattr(registry_module, "MOST_BYTES", 10)
    with pytest.raises(ConflictError, match="which is the limit"):
        await registry.register(wanting("1.sitea"))
    async with View.of(registry) as view:
        for key in KEYS:
            await registry.renew(key)
            await registry.modify(key, ModifyRequest(id=key, remove_ids=("1.sitea",)))
            changed = await registry.modify(key, ModifyRequest(id=key, attributes=("comment",)))
            assert await registry.end(key, changed.revision)
        await view.until(lambda: all(item.ended for item in view.definitions.values()))
        await registry.remove(KEYS[0])
        await view.until(lambda: view.definitions.keys() == {KEYS[1]})
    for bucket in (registry_module.SUBSCRIPTIONS, registry_module.LEASES):
        config = (await call(registry._connection, f"STREAM.INFO.KV_{bucket}"))["config"]
        assert (config["num_replicas"], config["max_msgs"], config["max_bytes"]) == (3, -1, -1)
