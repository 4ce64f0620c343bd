from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from pbscast_fanout.lasting import lasting
from pbscast_fanout.settings import FanoutSettings
from pbscast_fanout.subscriptions.buckets import Bucket
from pbscast_fanout.subscriptions.completing import Completing
from pbscast_fanout.subscriptions.endings import Endings
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_fanout.subscriptions.janitor import Janitor
from pbscast_fanout.subscriptions.membership import Membership


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


async def wait(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


async def cancelled(*_: object) -> object:
    raise asyncio.CancelledError


async def cut(*_: object) -> AsyncIterator[object]:
    yield await cancelled()


def completing() -> Awaitable[None]:
    nothing = cast("Any", None)
    return Completing(nothing, nothing, nothing, nothing, {}, lambda _: True).run()


def tidying() -> Awaitable[None]:
    connection = cast("Any", None)
    holdings = Holdings.of(connection, FanoutSettings())
    return Janitor(holdings, Membership(connection, "one")).run()


def belonging() -> Awaitable[None]:
    return Membership(cast("Any", None), "one").run()


@pytest.mark.parametrize(
    ("place", "method", "work"),
    [
        (Bucket, "follow", belonging),
        (Bucket, "follow", tidying),
        (Endings, "run", completing),
        (Completing, "_look_on", completing),
    ],
)
async def test_no_part_of_a_work_ends_unnoticed(
    monkeypatch: pytest.MonkeyPatch, place: type, method: str, work: Callable[[], Awaitable[None]]
) -> None:
    for name in ("ensure", "put", "delete"):
        monkeypatch.setattr(Bucket, name, wait)
    monkeypatch.setattr(Endings, "run", wait)
    monkeypatch.setattr("pbscast_fanout.subscriptions.membership._LEAVE_SECONDS", 0)
    monkeypatch.setattr(place, method, cut if method == "follow" else cancelled)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5):
            await work()
    assert "nobody asked for" in str(caught.value.exceptions[0])
