"""The driver is closed whatever became of its reconnecting."""

from __future__ import annotations

import asyncio

import pytest

from pbscast.driver import Driver
from pbscast_deploy.embedded.nats import NatsServer


@pytest.mark.parametrize("turns", range(8))
async def test_it_is_abandoned_at_whatever_turn_its_reconnecting_died(
    own_nats: NatsServer, turns: int
) -> None:
    """One of the first turns is where it waits for the old socket, as closing does."""
    lost: list[None] = []
    client = Driver()

    async def disconnected() -> None:
        lost.append(None)

    await client.connect(own_nats.url, disconnected_cb=disconnected)
    killing = asyncio.create_task(asyncio.to_thread(own_nats.kill))
    async with asyncio.timeout(10):
        while client._reconnection_task is None:  # noqa: ASYNC110 - each turn counts
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        client._reconnection_task.cancel()
        await asyncio.wait({client._reconnection_task})
        await client.abandon()
    await killing
    assert client.is_closed
    assert lost
