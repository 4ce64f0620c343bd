"""What a CancelledError does not say."""

from __future__ import annotations

import asyncio


def is_cancelled() -> bool:
    """Return whether somebody has cancelled the task that asks.

    A CancelledError says nothing of it: it comes also from a future that another has cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
