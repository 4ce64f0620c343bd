"""Tasks that last as long as the worker never end unnoticed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pbscast.cancellation import is_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def lasting(work: Awaitable[None]) -> None:
    """Await what only its own cancellation may cancel.

    A task group takes a task that ends with CancelledError for one that was asked to, without a
    word, though it may come from a future that somebody else has cancelled, as the driver does.
    Raises RuntimeError then, so that the worker falls and is started anew in place of living on
    without a part of it.
    """
    try:
        await work
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        raise RuntimeError("ended by a cancellation that nobody asked for") from error
