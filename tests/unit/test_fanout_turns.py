from __future__ import annotations

import asyncio

import pytest

from pbscast.errors import UnavailableError
from pbscast_fanout.turns import Turns


async def test_so_many_work_at_once_the_others_in_turn() -> None:
    turns = Turns(abreast=2, waiting=3, seconds=5)
    go_on, working, most, done = asyncio.Event(), 0, 0, 0

    async def work() -> None:
        nonlocal working, most, done
        working += 1
        most = max(most, working)
        if working == 2:
            go_on.set()
        await go_on.wait()
        working -= 1
        done += 1

    for _ in range(5):
        turns.start(lambda: turns.take(work))
    with pytest.raises(UnavailableError, match="5 requests are being answered"):
        turns.start(lambda: turns.take(work))
    await turns.ended()

    assert (most, done) == (2, 5)
    turns.start(lambda: turns.take(work))
    await turns.ended()
    assert done == 6


async def test_what_takes_too_long_is_refused_were_it_only_waiting() -> None:
    turns = Turns(abreast=1, waiting=1, seconds=0.05)
    refused: list[str] = []

    async def ask() -> None:
        try:
            await turns.take(asyncio.Event().wait)
        except UnavailableError as error:
            refused.append(str(error))

    turns.start(ask)
    turns.start(ask)
    await turns.ended()
    assert len(refused) == 2
    assert "no answer within 0.05 s" in refused[0]


async def test_what_is_cancelled_is_over() -> None:
    turns = Turns()
    turns.start(lambda: turns.take(asyncio.Event().wait))
    await turns.cancel()
    await turns.ended()
