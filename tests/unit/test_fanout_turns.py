from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from pbscast.errors import UnavailableError
from pbscast_fanout.turns import ONES, ONES_ABREAST, Turns


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


class Work:
    """Requests that work until they are let go, one by one."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._go_on: list[asyncio.Future[None]] = []
        self.begun: list[str] = []

    def ask(self, name: str, whose: str | None) -> None:
        async def work() -> None:
            self.begun.append(name)
            wait = asyncio.get_running_loop().create_future()
            self._go_on.append(wait)
            await wait

        self._turns.start(lambda: self._turns.take(work, whose), whose)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def finish(self, count: int) -> None:
        for _ in range(count):
            self._go_on.pop(0).set_result(None)
            await self.settle()


async def test_persons_take_turns_however_many_requests_each_has() -> None:
    turns = Turns(abreast=3, waiting=50, seconds=5)
    work = Work(turns)
    for number in range(6):
        work.ask(f"a{number}", "alice")
    for number in range(2):
        work.ask(f"b{number}", "bob")
        work.ask(f"c{number}", "carol")
    await work.settle()
    assert ONES_ABREAST == 2
    assert work.begun == ["a0", "a1", "b0"]
    await work.finish(8)
    assert work.begun == ["a0", "a1", "b0", "c0", "a2", "b1", "c1", "a3", "a4", "a5"]
    await work.finish(2)
    await turns.ended()


async def test_what_is_nobodys_is_not_limited() -> None:
    turns = Turns(abreast=5, waiting=ONES, seconds=5)
    work = Work(turns)
    for number in range(5 + ONES):
        work.ask(str(number), None)
    await work.settle()
    assert work.begun == ["0", "1", "2", "3", "4"]
    await work.finish(5 + ONES)
    await turns.ended()


async def test_one_person_is_refused_more_and_nobody_else() -> None:
    turns = Turns(abreast=2, waiting=2 * ONES, seconds=5)
    work = Work(turns)
    for number in range(ONES):
        work.ask(f"a{number}", "alice")
    with pytest.raises(UnavailableError, match="20 requests of yours"):
        work.ask("more", "alice")
    work.ask("b", "bob")
    await work.settle()
    await work.finish(2)
    assert "b" in work.begun
    work.ask("more", "alice")
    await work.finish(ONES)
    await turns.ended()


async def test_turns_of_those_who_gave_up_are_anothers() -> None:
    turns = Turns(abreast=1, waiting=9, seconds=0.05)
    refused: list[str] = []

    async def ask(name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await turns.take(work, name)
        except UnavailableError:
            refused.append(name)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def quick() -> None:
        return

    for name in ("alice", "bob", "alice"):
        turns.start(partial(ask, name, hang), name)
    await turns.ended()
    assert sorted(refused) == ["alice", "alice", "bob"]
    await ask("carol", quick)
    await ask("alice", quick)
    assert len(refused) == 3
