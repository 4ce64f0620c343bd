from __future__ import annotations

import asyncio

import pytest

from pbscast_store.doorbell import Doorbell


@pytest.mark.parametrize("later", range(5))
async def test_who_is_cancelled_while_it_rings_is_cancelled(later: int) -> None:
    """Or a daemon that is told to stop would go on."""
    bell = Doorbell()
    waiting = asyncio.create_task(bell.wait(10))
    await asyncio.sleep(0.01)
    bell.ring("sitea")
    for _ in range(later):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        assert waiting.result() == {"sitea"}
