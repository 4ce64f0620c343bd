"""What is answered to requests about subscriptions: JSON, each answer in one message."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.deliveries import KEPT, LIVE, delivery_filter
from pbscast.errors import DecodeError, NotFoundError, PbscastError
from pbscast.subscriptions import (
    Delivery,
    ListResponse,
    ModifyResponse,
    Registered,
    RenewResponse,
    SubscribeResponse,
    UnsubscribeResponse,
)
from pbscast_fanout import metrics
from pbscast_fanout.expressions import compile_expression
from pbscast_fanout.subscriptions.acknowledged import read_acknowledged
from pbscast_fanout.subscriptions.completing import pending
from pbscast_fanout.subscriptions.definitions import used
from pbscast_fanout.subscriptions.registry import Lease

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pbscast.subscriptions import (
        ListRequest,
        ModifyRequest,
        RenewRequest,
        SubscribeRequest,
        UnsubscribeRequest,
    )
    from pbscast_fanout.askers import Asker
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.holdings import Holdings
    from pbscast_store.log import Log

_log = structlog.get_logger(__name__)

LISTED: Final = 100
"""Subscriptions on a page of the list."""
LISTED_IDS: Final = 20_000
"""Ids that are looked up for a page, or those of one subscription: 10 ms for 1000."""


class Desk:
    """Every method raises UsageError, NotFoundError, ConflictError or UnavailableError."""

    def __init__(self, log: Log, holdings: Holdings) -> None:
        self._log = log
        self._registry = holdings.registry
        self._consumers = holdings.consumers
        self._holdings = holdings

    async def subscribe(self, request: SubscribeRequest, asker: Asker | None = None) -> bytes:  # noqa: ARG002
        """Register it; messages wait for its reader from now on."""
        if request.where is not None:
            await asyncio.to_thread(compile_expression, request.where)
        if request.id is not None:
            await self._check_unused(request.id)
        definition = await self._registry.register(request)
        if request.delivery is Delivery.AT_LEAST_ONCE:
            await self._make_consumer(definition.id, is_known=request.id is not None)
        metrics.REGISTERED.inc()
        _log.info("subscription_registered", subscription=definition.id, **_in_short(request))
        return _dump(_described(definition.id, request, Lease.from_now(request.lease)))

    async def _check_unused(self, key: str) -> None:
        """Raise ConflictError if one that has ended left messages: a new reader would get them."""
        # In this order: what is stored for one that is just being registered is not left over.
        if await self._consumers.has_messages(key) and not await self._registry.has(key):
            raise used(key)

    async def _make_consumer(self, key: str, *, is_known: bool) -> None:
        try:
            await self._consumers.create(key)
        except PbscastError:
            if not is_known:  # to its client: then nobody asks again
                with suppress(PbscastError):
                    await self._holdings.remove(key)
            raise

    async def renew(self, request: RenewRequest, asker: Asker | None = None) -> bytes:  # noqa: ARG002
        """Let it live on."""
        head = await self._registry.head(request.id)
        lease = await self._registry.renew(request.id, request.lease)
        asked = head.request
        if request.resume and asked.delivery is Delivery.AT_LEAST_ONCE:
            await self._consumers.resume(request.id, shared=asked.shared)
        acknowledged = None
        if request.acknowledged and asked.delivery is Delivery.AT_LEAST_ONCE and not asked.shared:
            acknowledged = await read_acknowledged(self._holdings.connection, request.id)
        unhandled = None
        if asked.shared and asked.delivery is Delivery.AT_LEAST_ONCE:
            unhandled = await self._consumers.unhandled(request.id)
        described = _described(request.id, asked, lease)
        return _dump(
            RenewResponse(
                unhandled=unhandled,
                acknowledged=acknowledged,
                subject=described.subject,
                consumer=described.consumer,
                lease=described.lease,
                expires=described.expires,
                delivery=asked.delivery,
                shared=asked.shared,
            )
        )

    async def modify(self, request: ModifyRequest, asker: Asker | None = None) -> bytes:  # noqa: ARG002
        """Change it; asked once more it changes nothing."""
        definition = await self._registry.modify(request.id, request)
        return _dump(ModifyResponse(ids=len(definition.request.ids)))

    async def unsubscribe(self, request: UnsubscribeRequest, asker: Asker | None = None) -> bytes:  # noqa: ARG002
        """End it; if it has ended already, that is an answer as well."""
        was_there = await self._registry.has(request.id)
        if was_there:
            await self._holdings.remove(request.id)
            metrics.ENDED.labels("unsubscribed").inc()
            _log.info("subscription_unsubscribed", subscription=request.id)
        return _dump(UnsubscribeResponse(was_there=was_there))

    async def list(self, request: ListRequest, asker: Asker | None = None) -> bytes:  # noqa: ARG002
        """Return a page of all that there are."""
        keys = await self._registry.page(request.after, LISTED + 1)
        listed: list[Registered] = []
        ids, end = 0, min(len(keys), LISTED)
        for number, key in enumerate(keys[:end], 1):
            with suppress(NotFoundError, DecodeError):  # it has ended; it is of a newer release
                listed.append(await self._registered(await self._registry.get(key)))
                ids += listed[-1].ids
            if ids >= LISTED_IDS:
                end = number
                break
        following = keys[end - 1] if end < len(keys) else None
        return _dump(ListResponse(subscriptions=tuple(listed), next=following))

    async def _registered(self, definition: Definition) -> Registered:
        request = definition.request
        described = _described(definition.id, request, await self._registry.lease(definition.id))
        count = 0 if definition.ended else await pending(self._log, definition)
        return Registered(
            **described.model_dump(),
            delivery=request.delivery,
            shared=request.shared,
            ids=len(request.ids),
            pending=count,
        )


def _described(key: str, request: SubscribeRequest, lease: Lease) -> SubscribeResponse:
    is_kept = request.delivery is Delivery.AT_LEAST_ONCE
    return SubscribeResponse(
        id=key,
        subject=delivery_filter(key, KEPT if is_kept else LIVE),
        consumer=key if is_kept else None,
        lease=lease.seconds,
        expires=lease.expires,
    )


def _in_short(request: SubscribeRequest) -> dict[str, object]:
    """Return what it is about, for a line of the log."""
    given = request.model_dump(mode="json", exclude_defaults=True, exclude={"id", "ids", "more"})
    short = {name: value[:3] if isinstance(value, list) else value for name, value in given.items()}
    return {"ids": len(request.ids), **short}


def _dump(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()
