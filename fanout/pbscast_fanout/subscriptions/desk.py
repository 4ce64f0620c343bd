"""What is answered to requests about subscriptions: JSON, each answer in one message."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.deliveries import KEPT, LIVE, delivery_filter
from pbscast.errors import (
    AccessDeniedError,
    ConflictError,
    DecodeError,
    NotFoundError,
    UnavailableError,
)
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
from pbscast_fanout.abreast import each
from pbscast_fanout.expressions import compile_expression
from pbscast_fanout.subscriptions.acknowledged import read_acknowledged
from pbscast_fanout.subscriptions.completing import pending
from pbscast_fanout.subscriptions.definitions import consumer_of, unknown
from pbscast_fanout.subscriptions.owners import Owner
from pbscast_fanout.subscriptions.quotas import LONGEST_LEASE_OWNED, check_ids
from pbscast_fanout.subscriptions.registering import Registering
from pbscast_fanout.subscriptions.registry import Lease
from pbscast_fanout.subscriptions.slots import Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from pbscast.subscriptions import (
        ListRequest,
        ModifyRequest,
        RenewRequest,
        SubscribeRequest,
        UnsubscribeRequest,
    )
    from pbscast_fanout.askers import Asker
    from pbscast_fanout.subscriptions.definitions import Definition, Head
    from pbscast_fanout.subscriptions.holdings import Holdings
    from pbscast_store.log import Log

_log = structlog.get_logger(__name__)

LISTED: Final = 100
"""Subscriptions on a page of the list."""
LISTED_IDS: Final = 20_000
"""Ids that are looked up for a page, or those of one subscription: 10 ms for 1000."""

_ABREAST: Final = 16
"""Subscriptions that are settled at a time."""


class Desk:
    """Every method raises UsageError, NotFoundError, ConflictError or UnavailableError.

    The asker is None where everybody may do everything. A person is told of subscriptions of his
    own; one of anybody else is to him as if there were none.
    """

    def __init__(self, log: Log, holdings: Holdings) -> None:
        self._log = log
        self._registry = holdings.registry
        self._consumers = holdings.consumers
        self._holdings = holdings
        self._registering = Registering(holdings)

    async def subscribe(self, request: SubscribeRequest, asker: Asker | None) -> bytes:
        """Register it; messages wait for its reader from now on.

        Raises AccessDeniedError for a site that the asker may not see.
        """
        owner = None if asker is None else Owner.of(asker)
        if owner is not None:
            owner.check_sites(request.sites)
            request = request.model_copy(update={"lease": _bounded(request.lease, owner)})
        if request.where is not None:
            await asyncio.to_thread(compile_expression, request.where)
        definition = await self._registering.register(request, owner)
        if owner is not None and definition.owner is not None:
            await self._confirm(definition.id, definition, owner)
            definition = replace(definition, owner=owner)
        metrics.REGISTERED.inc()
        whose = {} if owner is None else {"owner": owner.token}
        _log.info(
            "subscription_registered", subscription=definition.id, **whose, **_in_short(request)
        )
        return _dump(_described(definition, Lease.from_now(request.lease)))

    async def renew(self, request: RenewRequest, asker: Asker | None) -> bytes:
        """Let it live on.

        Raises AccessDeniedError, and ends it, if the asker may no longer see all that he could when
        it was registered; UnavailableError if only this server says so.
        """
        key, head = request.id, await self._head(request.id, asker)
        lease = None if request.lease is None else _bounded(request.lease, head.owner)
        lived = await self._registry.renew(key, lease)
        asked, name = head.request, head.consumer(key)
        acknowledged = unhandled = None
        if name is not None:
            if request.resume:
                await self._resume(key, head, name)
            if asked.shared:
                unhandled = await self._consumers.unhandled(key, name)
            elif request.acknowledged:
                acknowledged = await read_acknowledged(self._holdings.connection, key, name)
        return _dump(
            RenewResponse(
                unhandled=unhandled,
                acknowledged=acknowledged,
                subject=_subject(key, asked),
                consumer=name,
                lease=lived.seconds,
                expires=lived.expires,
                delivery=asked.delivery,
                shared=asked.shared,
            )
        )

    async def _resume(self, key: str, head: Head, name: str) -> None:
        # Before: another's consumer would go. After: it may have ended meanwhile.
        await self._check_slot(key, head)
        await self._consumers.resume(key, name, shared=head.request.shared)
        try:
            await self._check_slot(key, head)
        except NotFoundError:
            await self._consumers.drop(key, name)
            raise

    async def _check_slot(self, key: str, held: Definition | Head) -> None:
        """Raise NotFoundError if it has ended, so that its slot may be another's by now."""
        if held.owner is None or held.slot is None:
            return
        if await self._holdings.slots.holder(Slot(held.owner.token, held.slot)) != key:
            raise unknown(key)

    async def modify(self, request: ModifyRequest, asker: Asker | None) -> bytes:
        """Change it; asked once more it changes nothing. Raises as `renew` does."""
        if asker is not None:
            head = await self._head(request.id, asker)
            if request.add_ids:
                await self._check_ids(request, head.count, Owner.of(asker))
        definition = await self._registry.modify(request.id, request)
        return _dump(ModifyResponse(ids=len(definition.request.ids)))

    async def _check_ids(self, request: ModifyRequest, count: int, owner: Owner) -> None:
        others = await self._registering.heads(owner, but=request.id)
        try:
            check_ids(owner.name, others, count + len(request.add_ids))
        except ConflictError:
            # Some may be there already: whoever lost the answer asks again.
            had = (await self._registry.get(request.id)).request.ids
            check_ids(owner.name, others, len({*had, *request.add_ids}))

    async def unsubscribe(self, request: UnsubscribeRequest, asker: Asker | None) -> bytes:
        """End it; if it has ended already, that is an answer as well."""
        was_there = await self._has(request.id, asker)
        if was_there:
            await self._holdings.remove(request.id)
            metrics.ENDED.labels("unsubscribed").inc()
            _log.info("subscription_unsubscribed", subscription=request.id)
        elif asker is not None:
            # Who was interrupted here shall not wait for the janitor with his slot.
            await self._holdings.vacate(request.id, asker.owner)
        return _dump(UnsubscribeResponse(was_there=was_there))

    async def _has(self, key: str, asker: Asker | None) -> bool:
        if asker is None:
            return await self._registry.has(key)
        try:
            await self._owned(key, Owner.of(asker))
        except NotFoundError:
            return False
        return True

    async def list(self, request: ListRequest, asker: Asker | None) -> bytes:
        """Return a page of those of the asker; of all that there are if it is nobody."""
        owner = None if asker is None else Owner.of(asker)
        keys = await self._page(request.after, owner)
        listed: list[Registered] = []
        ids, end = 0, min(len(keys), LISTED)
        for number, key in enumerate(keys[:end], 1):
            with suppress(NotFoundError, DecodeError):  # it has ended; it is of a newer release
                listed.append(await self._registered(await self._definition(key, owner)))
                ids += listed[-1].ids
            if ids >= LISTED_IDS:
                end = number
                break
        following = keys[end - 1] if end < len(keys) else None
        return _dump(ListResponse(subscriptions=tuple(listed), next=following))

    async def _page(self, after: str | None, owner: Owner | None) -> Sequence[str]:
        if owner is None:
            return await self._registry.page(after, LISTED + 1)
        own = sorted(await self._holdings.slots.of(owner.token))
        return [key for key in own if after is None or key > after]

    async def _definition(self, key: str, owner: Owner | None) -> Definition:
        """Return one as its owner may see it now."""
        definition = await self._registry.get(key)
        if owner is None:
            return definition
        if definition.owner is None or definition.owner.token != owner.token:
            raise unknown(key)
        return replace(definition, owner=owner)

    async def _registered(self, definition: Definition) -> Registered:
        request = definition.request
        described = _described(definition, await self._registry.lease(definition.id))
        count = 0 if definition.ended else await pending(self._log, definition)
        return Registered(
            **described.model_dump(),
            delivery=request.delivery,
            shared=request.shared,
            ids=len(request.ids),
            pending=count,
        )

    async def _head(self, key: str, asker: Asker | None) -> Head:
        """Return what there is of a subscription, its owner's rights as they are now."""
        if asker is None:
            return await self._registry.head(key)
        owner = Owner.of(asker)
        head = await self._owned(key, owner)
        await self._confirm(key, head, owner)
        return head.model_copy(update={"owner": owner})

    async def _owned(self, key: str, owner: Owner) -> Head:
        """Raise NotFoundError for another's, in the words for one that there is not."""
        try:
            head = await self._registry.head(key)
        except DecodeError as error:  # of a newer release: whose it is nobody knows
            raise unknown(key) from error
        if not head.is_of(owner):
            raise unknown(key)
        return head

    async def settle(self, owners: Sequence[Owner]) -> None:
        """Have people's subscriptions go on by their rights of now, where these are enough.

        The others end: they are told so when they ask next.
        """
        of = {owner.token: owner for owner in owners}
        taken = await self._holdings.slots.taken(next(iter(of)) if len(of) == 1 else "*")
        held = {(key, of[slot.owner]) for slot, key in taken.items() if slot.owner in of}
        if refused := await each(held, lambda one: self._settle(*one), _ABREAST):
            raise refused[0]

    async def _settle(self, key: str, owner: Owner) -> None:
        with suppress(NotFoundError, DecodeError):  # it has ended; it is of a newer release
            head = await self._owned(key, owner)
            if _is_enough(owner, head):
                await self._hand_over(key, head, owner)
            else:
                await self._registry.lose(key)

    async def _confirm(self, key: str, held: Definition | Head, now: Owner) -> None:
        """Note the rights of a subscription's owner.

        If he has lost some that it was registered with it ends, and what is stored for it cannot be
        read any more: it may tell what he must not see. But that is not for him who asks to say: he
        is who he was before to a server that has not heard yet that he may see more.
        """
        if not held.lost:
            if not _is_enough(now, held):
                raise UnavailableError(
                    f"subscription {key!r} was registered with other rights than {now.name} has by"
                    " this server, which may not have heard of a change: try again"
                )
            await self._hand_over(key, held, now)
            return
        await self._holdings.remove(key)
        metrics.ENDED.labels("rights").inc()
        _log.warning("subscription_ended", subscription=key, owner=now.token, reason="rights")
        raise AccessDeniedError(
            f"subscription {key!r} has ended: {now.name} may no longer see all that it was"
            " registered for: subscribe anew"
        )

    async def _hand_over(self, key: str, held: Definition | Head, now: Owner) -> None:
        """Note his rights of now, with which he reaches another consumer than before."""
        if held.owner == now and not held.lost:
            return
        before, after = _consumer(key, held, held.owner), _consumer(key, held, now)
        if before is None or after is None or before == after:
            await self._registry.hand_over(key, now)
            return
        # As in _resume.
        await self._check_slot(key, held)
        await self._consumers.move(key, before, after)
        try:
            await self._check_slot(key, held)
            await self._registry.hand_over(key, now)
        except NotFoundError:
            await self._consumers.drop(key, after)
            raise
        await self._consumers.drop(key, before)


def _is_enough(owner: Owner, held: Definition | Head) -> bool:
    """Whether he may see all that a subscription of his was registered for."""
    return held.owner is None or held.owner.is_within(owner, held.request.sites)


def _consumer(key: str, held: Definition | Head, owner: Owner | None) -> str | None:
    return consumer_of(key, held.request.delivery, owner, held.slot)


def _bounded(lease: int, owner: Owner | None) -> int:
    return lease if owner is None else min(lease, LONGEST_LEASE_OWNED)


def _described(definition: Definition, lease: Lease) -> SubscribeResponse:
    return SubscribeResponse(
        id=definition.id,
        subject=_subject(definition.id, definition.request),
        consumer=definition.consumer,
        lease=lease.seconds,
        expires=lease.expires,
    )


def _subject(key: str, request: SubscribeRequest) -> str:
    """As a person sees it, too, whose account leaves himself out of it."""
    is_kept = request.delivery is Delivery.AT_LEAST_ONCE
    return delivery_filter(key, KEPT if is_kept else LIVE)


def _in_short(request: SubscribeRequest) -> dict[str, object]:
    """Return what it is about, for a line of the log."""
    given = request.model_dump(mode="json", exclude_defaults=True, exclude={"id", "ids", "more"})
    short = {name: value[:3] if isinstance(value, list) else value for name, value in given.items()}
    return {"ids": len(request.ids), **short}


def _dump(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()
