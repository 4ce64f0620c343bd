"""The registered subscriptions, and how long each lives."""

from __future__ import annotations

import asyncio
from bisect import bisect
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

import structlog

from pbscast.errors import (
    ConflictError,
    DecodeError,
    NotFoundError,
    PbscastError,
    UnavailableError,
)
from pbscast_fanout.fences import HEADROOM
from pbscast_fanout.subscriptions.buckets import Bucket, Entry, Gone
from pbscast_fanout.subscriptions.definitions import (
    Definition,
    Draft,
    Head,
    check_id,
    define,
    defined,
    draft,
    draft_new,
    is_id,
    modified,
    new_id,
    unknown,
    used,
)
from pbscast_fanout.subscriptions.following import Anew, UpToDate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping

    from pbscast.subscriptions import ModifyRequest, SubscribeRequest
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.owners import Owner

SUBSCRIPTIONS: Final = "PBS_SUBSCRIPTIONS"
LEASES: Final = "PBS_LEASES"

MOST_SUBSCRIPTIONS: Final = 100_000
MOST_BYTES: Final = 256 << 20
"""Of all definitions as they are stored: some 50 million ids. Every worker holds them in memory."""

_ATTEMPTS: Final = 20
_RETRY_SECONDS: Final = 0.5
_ABREAST: Final = 16

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Removed:
    """A subscription that is no more."""

    id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a subscription lives without being renewed."""

    seconds: int
    expires: datetime
    """By the clock of the worker where it was written, else by the server's."""

    @classmethod
    def from_now(cls, seconds: int) -> Self:
        """Return one that begins now."""
        return cls(seconds, datetime.now(UTC) + timedelta(seconds=seconds))


class Registry:
    """Definitions and leases. Everything raises UnavailableError: then try again."""

    def __init__(self, connection: Connection, *, replicas: int = 1) -> None:
        self._connection = connection
        self._definitions = Bucket(connection, SUBSCRIPTIONS, replicas=replicas)
        self._leases = Bucket(connection, LEASES, replicas=replicas)

    async def ensure(self) -> None:
        """Make the buckets, or give them our settings. Raises ConflictError."""
        await self._definitions.ensure()
        await self._leases.ensure()

    async def register(
        self, request: SubscribeRequest, owner: Owner | None = None, slot: int | None = None
    ) -> Definition:
        """Register a subscription that has been checked; the same request once more renews it.

        Raises UsageError if it is too large, ConflictError if its id is another's or has been used
        before, or if there are too many subscriptions.
        """
        drafted = await asyncio.to_thread(draft_new, request, self._room, owner, slot)
        key = request.id or new_id()
        existing = await self._registered(key, drafted)
        if existing is not None:
            return existing
        await self._check_room()
        # First the lease: a definition without one has ended.
        await self._write_lease(key, request.lease, None)
        revision = await self._write(key, drafted, 0)
        if revision is not None:
            return _definition(key, revision, drafted)
        existing = await self._registered(key, drafted)
        if existing is None:
            await self._leases.forget(key)
            raise used(key)
        return existing

    async def _registered(self, key: str, drafted: Draft) -> Definition | None:
        """Return the subscription of that id, if there is one and it came from this request."""
        entry = await self._definitions.get(key)
        if entry is None:
            return None
        head = Head.decode(entry.value)
        if not head.is_of(drafted.head.owner):
            raise used(key)  # as if it had ended: who asks may not know that it is there
        if head.origin != drafted.head.origin:
            msg = f"id: there is another subscription {key!r}: take another id, or modify that one"
            raise ConflictError(msg)
        await self._write_lease(key, drafted.request.lease, None)
        return await self.get(key)

    async def renew(self, key: str, lease: int | None = None) -> Lease:
        """Let it live for another lease, of `lease` seconds from now on if given.

        Raises NotFoundError.
        """
        for _ in range(_ATTEMPTS):
            entry = await self._leases.get(check_id(key))
            if entry is None:
                raise unknown(key)
            # Only if it is still there: one that has run out must not come to life again.
            with suppress(ConflictError):
                return await self._write_lease(key, lease or _seconds(entry), entry.revision)
        raise _busy(key)

    async def _write_lease(self, key: str, seconds: int, last: int | None) -> Lease:
        await self._leases.put(key, b"%d" % seconds, ttl=seconds, last=last)
        return Lease.from_now(seconds)

    async def _check_room(self) -> None:
        """Raise ConflictError if no more can be registered.

        Looked at, not left to NATS: what is there can be renewed, changed and ended all the same.
        Those that come at once may go beyond the limit by a few.
        """
        if (await self._leases.extent()).keys >= MOST_SUBSCRIPTIONS:
            raise ConflictError(f"there are {MOST_SUBSCRIPTIONS} subscriptions, which is the limit")
        await self._check_room_for_ids()

    async def _check_room_for_ids(self) -> None:
        if (await self._definitions.extent()).bytes >= MOST_BYTES:
            msg = f"all subscriptions together have reached the limit of {MOST_BYTES} bytes"
            raise ConflictError(msg)

    async def lease(self, key: str) -> Lease:
        """Raise NotFoundError; DecodeError if somebody else wrote it."""
        entry = await self._leases.get(check_id(key))
        if entry is None:
            raise unknown(key)
        seconds = _seconds(entry)
        return Lease(seconds, entry.written + timedelta(seconds=seconds))

    async def modify(self, key: str, change: ModifyRequest) -> Definition:
        """Change it; of two that do so at once both hold.

        Raises NotFoundError, UsageError, and ConflictError if it has ended or if ids are added and
        there are too many of all subscriptions.
        """
        if change.add_ids:
            await self._check_room_for_ids()
        for _ in range(_ATTEMPTS):
            entry, head = await self._read(key)
            parts = await self._parts(key, head)
            if parts is None:
                continue
            drafted = await asyncio.to_thread(self._change, entry, head, parts, change)
            revision = await self._write(key, drafted, entry.revision)
            if revision is not None:
                await self._forget_parts(key, set(head.parts) - set(drafted.head.parts))
                return _definition(key, revision, drafted)
        raise _busy(key)

    def _change(
        self, entry: Entry, head: Head, parts: Mapping[str, bytes], change: ModifyRequest
    ) -> Draft:
        before = define(entry.key, entry.revision, head, parts.values())
        return draft(head, modified(before, change), self._room, parts)

    async def hand_over(self, key: str, owner: Owner) -> None:
        """Note what its owner may see by now: enough. Raises NotFoundError."""
        await self._amend(key, owner=owner, lost=False)

    async def lose(self, key: str) -> None:
        """Note that its owner may no longer see all of it. Raises NotFoundError."""
        await self._amend(key, lost=True)

    async def _amend(self, key: str, **update: object) -> None:
        for _ in range(_ATTEMPTS):
            entry, head = await self._read(key)
            amended = head.model_copy(update=update)
            if amended == head:
                return
            body = amended.encode()
            with suppress(ConflictError):
                await self._definitions.put(key, body, last=entry.revision)
                return
        raise _busy(key)

    async def end(self, key: str, revision: int) -> bool:
        """Note that every id has ended; return False if that was noted before.

        Raises NotFoundError, and ConflictError if it has another revision by now.
        """
        entry, head = await self._read(key)
        if head.ended:
            return False
        body = head.model_copy(update={"ended": True}).encode()
        if entry.revision == revision:
            await self._definitions.put(key, body, last=revision)
            return True
        raise ConflictError(f"subscription {key!r} has been modified")

    async def remove(self, key: str) -> None:
        """Forget definition and lease; whoever follows is told. No error if it is not there."""
        if await self._definitions.get(key) is not None:
            await self._definitions.delete(key)
        await self._definitions.forget(f"{key}.*")
        await self._leases.forget(key)

    async def head(self, key: str) -> Head:
        """Return all but the ids where they are many. Raises NotFoundError."""
        return (await self._read(key))[1]

    async def has(self, key: str) -> bool:
        """Whether there is such a subscription, be it one of a newer release."""
        return is_id(key) and await self._definitions.get(key) is not None

    async def get(self, key: str) -> Definition:
        """Raise NotFoundError."""
        for _ in range(_ATTEMPTS):
            entry, head = await self._read(key)
            definition = await self._define(entry, head)
            if definition is not None:
                return definition
        raise _busy(key)

    async def page(self, after: str | None, limit: int) -> list[str]:
        """Return the ids of some subscriptions, in order; of late they may have ended."""
        keys = sorted(await self.keys())
        begin = 0 if after is None else bisect(keys, after)
        return keys[begin : begin + limit]

    async def changes(self) -> AsyncGenerator[Definition | Removed | Anew | UpToDate, None]:
        """Tell every definition, UpToDate, then each that is new, changed or Removed; for ever.

        Lives through anything: after a cut comes Anew, then every definition again, then UpToDate:
        what was not told in between is no more. Of several changes in a row the last one is told
        for certain. Close it (``aclosing``).
        """
        async with aclosing(self._definitions.follow("*")) as changes:
            async for change in changes:
                if isinstance(change, Gone):
                    yield Removed(change.key)
                elif not isinstance(change, Entry):
                    yield change
                elif (definition := await self._follow_up(change)) is not None:
                    yield definition

    async def _follow_up(self, entry: Entry) -> Definition | None:
        """Return what a head and its parts say; None if another head is on its way."""
        while True:
            try:
                return await self._define(entry, Head.decode(entry.value))
            except DecodeError as error:
                _log.warning("subscription_unreadable", subscription=entry.key, error=str(error))
                return None
            except PbscastError as error:
                _log.warning("subscription_not_read", subscription=entry.key, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def keys(self) -> set[str]:
        """Return the subscriptions that there are, and some that ended of late."""
        return set(await self._definitions.keys("*"))

    async def leased(self) -> set[str]:
        """Return the subscriptions that have a lease, and some that had one of late."""
        return set(await self._leases.keys("*"))

    async def expiries(self) -> AsyncGenerator[str, None]:
        """Tell whose lease runs out, for ever, and whose did of late. Close it."""
        async with aclosing(self._leases.follow("*")) as changes:
            async for change in changes:
                if isinstance(change, Gone) and change.expired:
                    yield change.key

    async def loose_parts(self) -> set[str]:
        """Return keys of parts that no head names: of late, or left by who was interrupted."""
        loose = set(await self._definitions.keys("*.*"))
        for key in set(map(owner_of, loose)):
            try:
                head = await self.head(key)
            except NotFoundError:
                continue
            except DecodeError:  # of a newer release: who knows what it names
                loose -= {part for part in loose if owner_of(part) == key}
            else:
                loose.difference_update(f"{key}.{name}" for name in head.parts)
        return loose

    async def forget_part(self, part: str) -> None:
        """Take away a part that no head names."""
        await self._definitions.forget(part)

    async def _write(self, key: str, drafted: Draft, last: int) -> int | None:
        """Write parts, then the head; return its revision, None if another came first."""
        try:
            await asyncio.gather(
                *(
                    self._definitions.put(f"{key}.{name}", part)
                    for name, part in drafted.parts.items()
                )
            )
            return await self._definitions.put(key, drafted.body, last=last)
        except ConflictError:
            await self._forget_parts(key, drafted.parts)
            return None

    async def _forget_parts(self, key: str, names: Iterable[str]) -> None:
        for name in names:
            await self._definitions.forget(f"{key}.{name}")

    async def _read(self, key: str) -> tuple[Entry, Head]:
        entry = await self._definitions.get(check_id(key))
        if entry is None:
            raise unknown(key)
        return entry, Head.decode(entry.value)

    async def _define(self, entry: Entry, head: Head) -> Definition | None:
        """Return what a head and its parts say; None if there is another head by now."""
        parts = await self._parts(entry.key, head)
        if parts:
            return await asyncio.to_thread(define, entry.key, entry.revision, head, parts.values())
        return None if parts is None else define(entry.key, entry.revision, head, ())

    async def _parts(self, key: str, head: Head) -> dict[str, bytes] | None:
        """Return the head's parts; None if some are gone, and so there is another head by now."""
        entries = await asyncio.gather(
            *(self._definitions.get(f"{key}.{name}") for name in head.parts)
        )
        found = [entry.value for entry in entries if entry is not None]
        return dict(zip(head.parts, found, strict=True)) if len(found) == len(entries) else None

    @property
    def _room(self) -> int:
        return self._connection.client.max_payload - HEADROOM


def owner_of(part: str) -> str:
    """Return the subscription of a part's key."""
    return part.partition(".")[0]


def _definition(key: str, revision: int, drafted: Draft) -> Definition:
    return defined(key, revision, drafted.head, drafted.request)


def _seconds(entry: Entry) -> int:
    if not entry.value.isdigit():
        raise DecodeError(f"{entry.key} in {LEASES} is no lease of pbscast: somebody else wrote it")
    return int(entry.value)


def _busy(key: str) -> UnavailableError:
    return UnavailableError(f"subscription {key!r} is being changed all the time: try again")
