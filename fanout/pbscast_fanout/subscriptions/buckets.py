"""Key-value buckets of JetStream: values by key, and to follow what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime, timedelta

    from pbscast_fanout.connection import Connection


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value."""

    key: str
    value: bytes
    revision: int
    """The bucket's sequence: each later write of any key has a higher one."""
    written: datetime
    """By the server's clock."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A key that has no value any more."""

    key: str
    revision: int
    expired: bool
    """By its time to live, not by somebody's hand."""


@dataclass(frozen=True, slots=True)
class Anew:
    """What was told may have missed something: everything is told again, up to UpToDate."""


@dataclass(frozen=True, slots=True)
class UpToDate:
    """Everything that was there has been told; what follows happens."""


class Bucket:
    """A bucket; keys are subject tokens joined by dots, filters may hold ``*`` and a last ``>``.

    Everything raises UnavailableError; after it the outcome of a write is unknown. Writes go to
    the stream's leader, and so do reads.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        replicas: int = 1,
        in_memory: bool = False,
        max_keys: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._connection = connection
        self.name = name
        self._options = (replicas, in_memory, max_keys, max_bytes)

    async def ensure(self) -> None:
        """Make it, or give it our settings. Raises ConflictError if it is somebody else's."""
        raise NotImplementedError

    async def get(self, key: str) -> Entry | None:
        """Return a key's value, None if it has none."""
        raise NotImplementedError

    async def put(
        self, key: str, value: bytes, *, ttl: timedelta | None = None, last: int | None = None
    ) -> int:
        """Write a value and return its revision.

        `last` is the key's revision that must not have changed meanwhile, 0: it must be new.
        Raises ConflictError if it has.
        """
        raise NotImplementedError

    async def delete(self, key: str, *, last: int | None = None) -> None:
        """Take a key's value away; who follows is told. `last` as with `put`."""
        raise NotImplementedError

    async def forget(self, keys: str) -> None:
        """Take the values of all keys that fit the filter away; nobody is told."""
        raise NotImplementedError

    async def keys(self, keys: str = ">") -> list[str]:
        """Return the keys that fit; some may have lost their value of late."""
        raise NotImplementedError

    async def load(self, keys: str = ">") -> list[Entry]:
        """Return all values that there are now, of keys that fit."""
        raise NotImplementedError

    def follow(self, keys: str = ">") -> AsyncIterator[Entry | Gone | Anew | UpToDate]:
        """Tell every value that there is, UpToDate, then what happens, until closed.

        Of a key's values the last one is told for certain. Lives through anything: after a cut or
        a restart comes Anew, then every value again, then UpToDate.
        """
        raise NotImplementedError
