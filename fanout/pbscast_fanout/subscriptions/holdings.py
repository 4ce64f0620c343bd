"""All that NATS holds of subscriptions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pbscast.errors import DecodeError, NotFoundError
from pbscast_fanout.subscriptions.consumers import Consumers
from pbscast_fanout.subscriptions.joined import JoinedSites
from pbscast_fanout.subscriptions.registry import Registry
from pbscast_fanout.subscriptions.slots import Slot, Slots
from pbscast_fanout.subscriptions.stream import ensure_deliveries

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.settings import FanoutSettings
    from pbscast_fanout.subscriptions.definitions import Head


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a subscription leaves in several places. Everything raises UnavailableError."""

    connection: Connection
    settings: FanoutSettings
    registry: Registry
    joined: JoinedSites
    consumers: Consumers
    slots: Slots

    @classmethod
    def of(cls, connection: Connection, settings: FanoutSettings) -> Self:
        """Return those that the connection leads to."""
        replicas = settings.stream.replicas
        return cls(
            connection,
            settings,
            Registry(connection, replicas=replicas),
            JoinedSites(connection, replicas=replicas),
            Consumers(connection),
            Slots(connection, replicas=replicas),
        )

    async def ensure(self) -> None:
        """Make buckets and stream, or give them our settings. Raises ConflictError."""
        await self.registry.ensure()
        await self.joined.ensure()
        replicas = self.settings.stream.replicas
        await ensure_deliveries(self.connection, self.settings.subscriptions, replicas)
        await self.slots.ensure()

    async def remove(self, key: str) -> None:
        """Take everything away that there is of a subscription; again, if it was interrupted.

        But what was stored for it goes by age.
        """
        head = await self._head(key)
        # First what the deliverers see, so that they stop to write for it.
        await self.registry.remove(key)
        await self.joined.drop(key)
        if head is None:
            await self.consumers.drop(key)
            await self.vacate(key)
        elif head.owner is None or head.slot is None:
            await self.consumers.drop(key)
        else:
            await self.consumers.drop(key, head.owner.slot(head.slot))
            # Last: who takes the slot next finds nobody's messages in it.
            await self.slots.release(Slot(head.owner.token, head.slot), key)

    async def vacate(self, key: str, owner: str = "*") -> None:
        """Give back the slots, of a person or of all, that a subscription without definition has.

        With its consumers there. All else that there may be of it is left, as it may be another's.
        """
        taken = await self.slots.taken(owner)
        held = {slot for slot, holder in taken.items() if holder == key}
        if not held:
            return
        for name, slot in (await self.consumers.in_slots()).items():
            if slot in held:
                await self.consumers.drop(key, name)
        for slot in held:
            await self.slots.release(slot, key)

    async def _head(self, key: str) -> Head | None:
        try:
            return await self.registry.head(key)
        except (NotFoundError, DecodeError):  # there is none, or it is of a newer release
            return None

    async def traces(self) -> set[str]:
        """Return the subscriptions of which there is something beside the definition."""
        leased, joined = await self.registry.leased(), await self.joined.keys()
        taken = await self.slots.taken()
        return leased | joined | await self.consumers.keys() | set(taken.values())

    async def loose_consumers(self) -> set[str]:
        """Return the names of consumers in slots that nobody has, or beside the slot's own."""
        found = await self.consumers.in_slots()
        taken = await self.slots.taken()
        count = Counter(found.values())
        loose: set[str] = set()
        for name, slot in found.items():
            key = taken.get(slot)
            if key is None or (count[slot] > 1 and await self._is_left_behind(key, name)):
                loose.add(name)
        return loose

    async def _is_left_behind(self, key: str, name: str) -> bool:
        """Whether a subscription has another consumer than this one in its slot by now."""
        head = await self._head(key)
        return head is not None and head.consumer(key) != name
