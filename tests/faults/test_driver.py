"""The driver is closed whatever became of its reconnecting, and connecting may be cancelled."""

from __future__ import annotations

import asyncio
import socket

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
    async with asyncio.timeout(30):
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


async def test_connecting_is_cancelled_though_the_server_answers_at_that_moment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Driver()
        url = f"nats://127.0.0.1:{listener.getsockname()[1]}"
        connecting = asyncio.create_task(client.connect(url, reconnect_time_wait=0.05))
        connection, _ = await asyncio.to_thread(listener.accept)
        with connection:
            while not client.is_connecting:  # noqa: ASYNC110 - then it waits for the first line
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            connection.sendall(b"-ERR 'not now'\r\n")
            # The loop looks at the socket first, and then at the time.
            asyncio.get_running_loop().call_later(0, connecting.cancel)
            await asyncio.wait({connecting}, timeout=30)
        assert connecting.cancelled()
        await client.abandon()
