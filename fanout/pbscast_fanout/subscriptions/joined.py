"""Which subscriptions have been told how everything stands at a site, and need it no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection

JOINED: Final = "PBS_JOINED"


@dataclass(frozen=True, slots=True)
class Joined:
    """A subscription's boundary at a site."""

    position: int
    revision: int
    """Of the definition that it was joined with."""


class JoinedSites:
    """What every worker needs that takes a site over. Everything raises UnavailableError."""

    def __init__(self, connection: Connection, *, replicas: int = 1) -> None:
        self._connection = connection
        self._replicas = replicas

    async def ensure(self) -> None:
        """Make the bucket, or give it our settings. Raises ConflictError."""
        raise NotImplementedError

    async def load(self, site: str) -> dict[str, Joined]:
        """Return all of a site, by subscription."""
        raise NotImplementedError

    async def put(self, site: str, key: str, joined: Joined) -> None:
        """Note that a boundary is stored."""
        raise NotImplementedError

    async def drop(self, key: str) -> None:
        """Forget a subscription."""
        raise NotImplementedError

    async def keys(self) -> set[str]:
        """Return the subscriptions of which something is known."""
        raise NotImplementedError
