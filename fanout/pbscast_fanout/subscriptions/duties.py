"""What a worker does while it is the one whose it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pbscast_fanout.subscriptions.membership import Membership

INTRODUCTION_SECONDS: Final = 3.0
"""How long to wait for news of the other workers before taking everything on."""

LOOK_SECONDS: Final = 1.0


async def do_while_mine(
    membership: Membership, thing: str, work: Callable[[], Coroutine[None, None, NoReturn]]
) -> NoReturn:
    """Do it whenever `thing` is this worker's, until cancelled; raises what it raises.

    While nothing is known of the other workers, which is so for a moment after NATS was away, all
    go on as before.
    """
    task: asyncio.Task[NoReturn] | None = None
    try:
        while True:
            await membership.known(INTRODUCTION_SECONDS)
            if not membership.mine(thing):
                await _end(task)
                task = None
            elif task is None:
                task = asyncio.create_task(work())
            await _changed(membership, task)
    finally:
        await _end(task)


async def _changed(membership: Membership, task: asyncio.Task[NoReturn] | None) -> None:
    """Wait until the workers may be others; raise what the task raises."""
    changed = asyncio.create_task(membership.wait_changed())
    waiting = {changed} if task is None else {changed, task}
    try:
        # A change just before the waiting began is seen a little later.
        await asyncio.wait(waiting, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
    if task is not None and task.done():
        task.result()


async def _end(task: asyncio.Task[NoReturn] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
