"""All that NATS holds of subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pbscast_fanout.subscriptions.consumers import Consumers
from pbscast_fanout.subscriptions.joined import JoinedSites
from pbscast_fanout.subscriptions.registry import Registry

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a subscription leaves in several places. Everything raises UnavailableError."""

    registry: Registry
    joined: JoinedSites
    consumers: Consumers

    @classmethod
    def of(cls, connection: Connection, *, replicas: int = 1) -> Self:
        """Return those that the connection leads to."""
        return cls(
            Registry(connection, replicas=replicas),
            JoinedSites(connection, replicas=replicas),
            Consumers(connection),
        )

    async def ensure(self) -> None:
        """Make the buckets, or give them our settings. Raises ConflictError."""
        await self.registry.ensure()
        await self.joined.ensure()

    async def remove(self, key: str) -> None:
        """Take everything away that there is of a subscription; again, if it was interrupted."""
        # First what the deliverers see, so that they stop to write for it.
        await self.registry.remove(key)
        await self.joined.drop(key)
        await self.consumers.drop(key)

    async def traces(self) -> set[str]:
        """Return the subscriptions of which there is something beside the definition."""
        leased, joined = await self.registry.leased(), await self.joined.keys()
        return leased | joined | await self.consumers.keys()
