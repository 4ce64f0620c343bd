"""The durable consumers from which subscribers pull, and what is stored for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection


class Consumers:
    """One for each subscription with delivery at least once, named like it.

    On stream PBS_DELIVERIES, which has to be there. Everything raises UnavailableError.
    """

    def __init__(self, connection: Connection, *, replicas: int = 1) -> None:
        self._connection = connection
        self._replicas = replicas

    async def create(self, key: str) -> None:
        """Make a subscription's consumer; one that is there stays as it is."""
        raise NotImplementedError

    async def drop(self, key: str) -> None:
        """Delete the consumer, and what is stored for the subscription."""
        raise NotImplementedError

    async def keys(self) -> set[str]:
        """Return the subscriptions that have a consumer, or something stored."""
        raise NotImplementedError
