"""Follow PBS jobs as they change.

async with pbscast.connect() as client:
    async with client.watch(owners="alice", start=pbscast.last()) as watch:
        async for event in watch:
            print(event)
"""

from __future__ import annotations

from pbscast import blocking
from pbscast.client import Client, connect
from pbscast.connection import ConnectionState
from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    DecodeError,
    InvalidJobId,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from pbscast.events import (
    AnyEvent,
    Change,
    EventName,
    Finalize,
    Gap,
    Kind,
    Liveness,
    Provenance,
    Reason,
    Resync,
)
from pbscast.handovers import HandOver
from pbscast.ids import JobId
from pbscast.lives import Difference, Life, Standing, Values
from pbscast.notices import Boundary, Missed, Unreadable
from pbscast.snapshot import Snapshot
from pbscast.starts import after, beginning, last, now, since
from pbscast.states import JobState
from pbscast.watch import Item, Watch

__all__ = [
    "AccessDeniedError",
    "AnyEvent",
    "Boundary",
    "Change",
    "Client",
    "ConfigError",
    "ConnectionState",
    "DecodeError",
    "Difference",
    "EventName",
    "Finalize",
    "Gap",
    "HandOver",
    "InvalidJobId",
    "Item",
    "JobId",
    "JobState",
    "Kind",
    "Life",
    "Liveness",
    "Missed",
    "NotFoundError",
    "PbscastError",
    "Provenance",
    "Reason",
    "Resync",
    "Snapshot",
    "Standing",
    "UnavailableError",
    "Unreadable",
    "UnsupportedError",
    "UsageError",
    "Values",
    "Watch",
    "after",
    "beginning",
    "blocking",
    "connect",
    "last",
    "now",
    "since",
]
