"""Registers subscriptions: of persons each in a slot of theirs, within what one may have."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pbscast.errors import ConflictError, DecodeError, NotFoundError, PbscastError, UsageError
from pbscast_fanout.subscriptions import quotas
from pbscast_fanout.subscriptions.definitions import new_id, used
from pbscast_fanout.subscriptions.slots import Slot

if TYPE_CHECKING:
    from pbscast.subscriptions import SubscribeRequest
    from pbscast_fanout.subscriptions.definitions import Definition, Head
    from pbscast_fanout.subscriptions.holdings import Holdings
    from pbscast_fanout.subscriptions.owners import Owner


class Registering:
    """Everything raises UnavailableError: then ask again with the same id, and it is done once."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    async def register(self, request: SubscribeRequest, owner: Owner | None) -> Definition:
        """Register a subscription, and make its consumer.

        Raises UsageError if it is too large, ConflictError if its id is another's or has been used
        before, or if there are too many: of this owner, or of all.
        """
        if request.id is not None:
            await self._check_ours(request.id, owner)
            await self._check_unused(request.id)
        if owner is None:
            definition = await self._holdings.registry.register(request)
        else:
            definition = await self._register_owned(request, owner)
        if definition.consumer is not None:
            await self._make_consumer(definition, is_known=request.id is not None)
        return definition

    async def _check_ours(self, key: str, owner: Owner | None) -> None:
        """Raise ConflictError, before anything is taken for it, if the id is another's."""
        with suppress(NotFoundError):
            if not (await self._holdings.registry.head(key)).is_of(owner):
                raise used(key)

    async def _check_unused(self, key: str) -> None:
        """Raise ConflictError if one that has ended left messages: a new reader would get them."""
        # In this order: what is stored for one that is just being registered is not left over.
        holdings = self._holdings
        if await holdings.consumers.has_messages(key) and not await holdings.registry.has(key):
            raise used(key)

    async def _register_owned(self, request: SubscribeRequest, owner: Owner) -> Definition:
        key = request.id or new_id()
        request = request.model_copy(update={"id": key})
        if request.ids or request.where:
            others = await self.heads(owner, but=key)
            quotas.check_ids(owner.name, others, len(request.ids))
            quotas.check_where(owner.name, others, request.where)
        claimed = await self._holdings.slots.claim(
            owner.token, quotas.numbers(request.delivery), key
        )
        if claimed is None:
            raise quotas.no_slot(owner.name, request.delivery)
        number, is_new = claimed
        slot = Slot(owner.token, number)
        try:
            definition = await self._holdings.registry.register(request, owner, number)
        except (ConflictError, UsageError):
            if is_new:
                await self._give_back(slot, key)
            raise
        if definition.slot != number:  # who asked for the same at the same time was first
            await self._give_back(slot, key)
        return definition

    async def _give_back(self, slot: Slot, key: str) -> None:
        """Unless somebody who asked for the same at the same time has it."""
        with suppress(PbscastError):  # then the janitor does
            if not await self._is_registered(key, slot):
                await self._holdings.slots.release(slot, key)

    async def _is_registered(self, key: str, slot: Slot) -> bool:
        try:
            head = await self._holdings.registry.head(key)
        except NotFoundError:
            return False
        return head.owner is not None and Slot(head.owner.token, head.slot or 0) == slot

    async def heads(self, owner: Owner, *, but: str) -> list[Head]:
        """Return what there is of a person's other subscriptions."""
        keys = await self._holdings.slots.of(owner.token) - {but}
        found = await asyncio.gather(*map(self._head, keys))
        return [head for head in found if head is not None]

    async def _head(self, key: str) -> Head | None:
        try:
            return await self._holdings.registry.head(key)
        except (NotFoundError, DecodeError):  # it has ended; it is of a newer release
            return None

    async def _make_consumer(self, definition: Definition, *, is_known: bool) -> None:
        try:
            await self._holdings.consumers.create(definition.id, definition.consumer)
        except PbscastError:
            if not is_known:  # to its client: then nobody asks again
                with suppress(PbscastError):
                    await self._holdings.remove(definition.id)
            raise
