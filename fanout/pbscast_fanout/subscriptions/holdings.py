"""All that NATS holds of subscriptions."""

from __future__ import annotations

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
        slot = await self._slot(key)
        # First what the deliverers see, so that they stop to write for it.
        await self.registry.remove(key)
        await self.joined.drop(key)
        if slot is None:
            await self.consumers.drop(key)
        else:
            await self.consumers.drop(key, slot.consumer)
            # Last: who takes the slot next finds nobody's messages in it.
            await self.slots.release(slot, key)

    async def _slot(self, key: str) -> Slot | None:
        """Return the one that a subscription has, be there a definition of it or not."""
        try:
            head = await self.registry.head(key)
        except (NotFoundError, DecodeError):
            taken = await self.slots.taken()
            return next((slot for slot, holder in taken.items() if holder == key), None)
        if head.owner is None or head.slot is None:
            return None
        return Slot(head.owner.token, head.slot)

    async def traces(self) -> set[str]:
        """Return the subscriptions of which there is something beside the definition."""
        leased, joined = await self.registry.leased(), await self.joined.keys()
        taken = await self.slots.taken()
        return leased | joined | await self.consumers.keys() | set(taken.values())

    async def loose_consumers(self) -> set[str]:
        """Return the names of consumers in slots that nobody has."""
        found = await self.consumers.in_slots()
        return found - {slot.consumer for slot in await self.slots.taken()}
