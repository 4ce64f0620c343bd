"""What the deliverers of a worker share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.settings import FanoutSettings
    from pbscast_fanout.subscriptions.checkpoints import Checkpoints
    from pbscast_fanout.subscriptions.completing import Completing
    from pbscast_fanout.subscriptions.destinations import Destinations
    from pbscast_fanout.subscriptions.joined import JoinedSites
    from pbscast_fanout.subscriptions.room import Room
    from pbscast_fanout.subscriptions.view import RegistryView
    from pbscast_store.log import Log


@dataclass(frozen=True, slots=True)
class Means:
    """Of one worker, for all its sites."""

    log: Log
    connection: Connection
    settings: FanoutSettings
    view: RegistryView
    joined: JoinedSites
    checkpoints: Checkpoints
    completing: Completing
    destinations: Destinations
    slots: asyncio.Semaphore
    """Each atomic batch takes one."""
    reading: asyncio.Semaphore
    """Each errand takes one while it reads a page of the log."""
    room: Room
    """For what waits to be told to those who join."""
    is_sure: Callable[[], bool]
    """Whether it is known which worker's each site is."""
