"""What is answered to requests about subscriptions: JSON, each answer in one message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbscast.subscriptions import (
        ListRequest,
        ModifyRequest,
        RenewRequest,
        SubscribeRequest,
        UnsubscribeRequest,
    )
    from pbscast_fanout.subscriptions.consumers import Consumers
    from pbscast_fanout.subscriptions.joined import JoinedSites
    from pbscast_fanout.subscriptions.registry import Registry
    from pbscast_store.log import Log


class Desk:
    """Every method raises UsageError, NotFoundError, ConflictError or UnavailableError."""

    def __init__(
        self, log: Log, registry: Registry, consumers: Consumers, joined: JoinedSites
    ) -> None:
        self._log = log
        self._registry = registry
        self._consumers = consumers
        self._joined = joined

    async def subscribe(self, request: SubscribeRequest) -> bytes:
        raise NotImplementedError

    async def renew(self, request: RenewRequest) -> bytes:
        raise NotImplementedError

    async def modify(self, request: ModifyRequest) -> bytes:
        raise NotImplementedError

    async def unsubscribe(self, request: UnsubscribeRequest) -> bytes:
        raise NotImplementedError

    async def list(self, request: ListRequest) -> bytes:
        raise NotImplementedError
