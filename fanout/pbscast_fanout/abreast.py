"""Doing the same for many things, several at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from pbscast.errors import PbscastError
from pbscast_fanout.lasting import lasting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_T = TypeVar("_T")


async def each(
    things: Iterable[_T], do: Callable[[_T], Awaitable[object]], abreast: int
) -> list[PbscastError]:
    """Do it for every one of them, so many at a time; return what was refused.

    What is refused keeps none of the others from being done. Any other error ends all.
    """
    waiting = iter(things)
    refused: list[PbscastError] = []

    async def work() -> None:
        for thing in waiting:
            try:
                await do(thing)
            except PbscastError as error:
                refused.append(error)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(abreast):
            tasks.create_task(lasting(work()))
    return refused
