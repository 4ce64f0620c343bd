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
from pbscast.ids import JobId
from pbscast.notices import Boundary, Missed, Unreadable
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
    "EventName",
    "Finalize",
    "Gap",
    "InvalidJobId",
    "Item",
    "JobId",
    "JobState",
    "Kind",
    "Liveness",
    "Missed",
    "NotFoundError",
    "PbscastError",
    "Provenance",
    "Reason",
    "Resync",
    "UnavailableError",
    "Unreadable",
    "UnsupportedError",
    "UsageError",
    "Watch",
    "after",
    "beginning",
    "blocking",
    "connect",
    "last",
    "now",
    "since",
]
