from __future__ import annotations

import asyncio

import pytest

from pbscast_fanout.lasting import lasting


async def test_what_another_has_cancelled_is_an_error() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group raises as it ends
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lasting(future))
            await asyncio.sleep(0)
            future.cancel()
    assert "nobody asked for" in str(caught.value.exceptions[0])


async def test_its_own_cancellation_is_none() -> None:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(lasting(asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
