"""Which subscriptions have been told how everything stands at a site, and need it no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pbscast.errors import DecodeError
from pbscast.selection import first_fault
from pbscast.subjects import encode_token
from pbscast_fanout.subscriptions.buckets import Bucket

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.buckets import Entry

JOINED: Final = "PBS_JOINED"


class Joined(BaseModel):
    """A subscription's boundary at a site."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    position: int
    revision: int
    """Of the definition that it was joined with."""
    session: str = ""
    """Of the deliverer that noted it."""
    noted: int = Field(default=0, exclude=True)
    """Which note of the bucket this is, each later one has a higher number; 0: none yet."""


class JoinedSites:
    """What every worker needs that takes a site over. Everything raises UnavailableError."""

    def __init__(self, connection: Connection, *, replicas: int = 1) -> None:
        self._bucket = Bucket(connection, JOINED, replicas=replicas)

    async def ensure(self) -> None:
        """Make the bucket, or give it our settings. Raises ConflictError."""
        await self._bucket.ensure()

    async def load(self, site: str) -> dict[str, Joined]:
        """Return all of a site, by subscription."""
        entries = await self._bucket.load(f"*.{encode_token(site)}")
        return {_subscription(entry.key): _decode(entry) for entry in entries}

    async def get(self, site: str, key: str) -> Joined | None:
        """Return one, None if it has not been told yet."""
        entry = await self._bucket.get(f"{key}.{encode_token(site)}")
        return None if entry is None else _decode(entry)

    async def put(self, site: str, key: str, joined: Joined, *, last: int | None = None) -> int:
        """Note what has been told, and return the note's number.

        `last` is that of the note that must still be there, 0: there must be none. Raises
        ConflictError if there is another. After UnavailableError it may be there, or come late.
        """
        body = joined.model_dump_json().encode()
        return await self._bucket.put(f"{key}.{encode_token(site)}", body, last=last)

    async def drop(self, key: str) -> None:
        """Forget a subscription."""
        await self._bucket.forget(f"{key}.*")

    async def keys(self) -> set[str]:
        """Return the subscriptions of which something is known."""
        return set(map(_subscription, await self._bucket.keys()))


def _subscription(key: str) -> str:
    return key.partition(".")[0]


def _decode(entry: Entry) -> Joined:
    try:
        joined = Joined.model_validate_json(entry.value)
    except ValidationError as error:
        raise DecodeError(f"{entry.key} in {JOINED}: {first_fault(error)}") from error
    return joined.model_copy(update={"noted": entry.revision})
