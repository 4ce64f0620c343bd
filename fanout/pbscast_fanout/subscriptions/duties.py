"""What a worker does while it is the one whose it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pbscast_fanout.subscriptions.membership import Membership

INTRODUCTION_SECONDS: Final = 3.0
"""How long to wait for news of the other workers before taking everything on."""


async def do_while_mine(
    membership: Membership, thing: str, work: Callable[[], Coroutine[None, None, NoReturn]]
) -> NoReturn:
    """Do it whenever `thing` is this worker's, until cancelled; raises what it raises."""
    await membership.known(INTRODUCTION_SECONDS)
    while True:
        if membership.mine(thing):
            await _work(membership, thing, asyncio.create_task(work()))
        else:
            await membership.wait_changed()


async def _work(membership: Membership, thing: str, task: asyncio.Task[NoReturn]) -> None:
    try:
        while membership.mine(thing):
            changed = asyncio.create_task(membership.wait_changed())
            try:
                await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if task.done():
                task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
