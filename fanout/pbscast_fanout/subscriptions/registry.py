"""The registered subscriptions, and how long each lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbscast_fanout.subscriptions.buckets import Anew, UpToDate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from pbscast.subscriptions import ModifyRequest, SubscribeRequest
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.definitions import Definition

SUBSCRIPTIONS: Final = "PBS_SUBSCRIPTIONS"
LEASES: Final = "PBS_LEASES"


@dataclass(frozen=True, slots=True)
class Removed:
    """A subscription that is no more."""

    id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a subscription lives without being renewed."""

    seconds: int
    expires: datetime
    """By the server's clock."""


class Registry:
    """Definitions and leases. Everything raises UnavailableError: then try again."""

    def __init__(self, connection: Connection, *, replicas: int = 1) -> None:
        self._connection = connection
        self._replicas = replicas

    async def ensure(self) -> None:
        """Make the buckets, or give them our settings. Raises ConflictError."""
        raise NotImplementedError

    async def register(self, request: SubscribeRequest) -> Definition:
        """Register a subscription that has been checked.

        Raises UsageError if it is too large, ConflictError if there are too many already.
        """
        raise NotImplementedError

    async def renew(self, key: str, lease: int | None = None) -> Lease:
        """Let it live for another lease, of `lease` seconds from now on if given.

        Raises NotFoundError.
        """
        raise NotImplementedError

    async def modify(self, key: str, change: ModifyRequest) -> Definition:
        """Change it; of two that do so at once both hold.

        Raises NotFoundError, UsageError, and ConflictError if it has ended.
        """
        raise NotImplementedError

    async def end(self, key: str, revision: int) -> Definition:
        """Note that every id has ended.

        Raises NotFoundError, and ConflictError if it has another revision by now.
        """
        raise NotImplementedError

    async def remove(self, key: str) -> None:
        """Forget definition and lease; whoever follows is told. No error if it is not there."""
        raise NotImplementedError

    async def get(self, key: str) -> Definition:
        """Raise NotFoundError."""
        raise NotImplementedError

    async def lease(self, key: str) -> Lease:
        """Raise NotFoundError."""
        raise NotImplementedError

    async def page(self, after: str | None, limit: int) -> tuple[Sequence[Definition], str | None]:
        """Return some by id, and from where to go on, None at the end."""
        raise NotImplementedError

    def changes(self) -> AsyncIterator[Definition | Removed | Anew | UpToDate]:
        """Tell every definition, UpToDate, then each that is new, changed or Removed.

        Lives through anything: after a cut comes Anew, then every definition again, then UpToDate:
        what was not told in between is no more. Of several changes in a row the last one is told
        for certain. Close it (``aclosing``).
        """
        raise NotImplementedError
