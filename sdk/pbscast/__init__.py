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
from pbscast.deliveries import Passage
from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    ConflictError,
    DecodeError,
    GoneError,
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
from pbscast.subscription import Subscription
from pbscast.subscriptions import Delivery, Registered
from pbscast.told import Begin, Complete, Matched
from pbscast.told import Item as SubscriptionItem
from pbscast.watch import Item, Watch

__all__ = [
    "AccessDeniedError",
    "AnyEvent",
    "Begin",
    "Boundary",
    "Change",
    "Client",
    "Complete",
    "ConfigError",
    "ConflictError",
    "ConnectionState",
    "DecodeError",
    "Delivery",
    "Difference",
    "EventName",
    "Finalize",
    "Gap",
    "GoneError",
    "HandOver",
    "InvalidJobId",
    "Item",
    "JobId",
    "JobState",
    "Kind",
    "Life",
    "Liveness",
    "Matched",
    "Missed",
    "NotFoundError",
    "Passage",
    "PbscastError",
    "Provenance",
    "Reason",
    "Registered",
    "Resync",
    "Snapshot",
    "Standing",
    "Subscription",
    "SubscriptionItem",
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
