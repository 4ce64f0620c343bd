"""Which of a person's slots are taken by which subscription.

A person's account reaches consumers of certain names alone, so that two subscriptions may not have
the same one at a time. Who has written into a slot has it; the consumer itself says little, as it
is deleted and made anew while it is somebody's, and has another name after his rights have changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pbscast.errors import ConflictError
from pbscast_fanout.subscriptions.buckets import Bucket

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.buckets import Entry

SLOTS: Final = "PBS_SLOTS"

_FREE: Final = b""


class Slot(NamedTuple):
    """One of a person's."""

    owner: str
    """``Owner.token``."""
    number: int


class Slots:
    """Everything raises UnavailableError: then try again."""

    def __init__(self, connection: Connection, *, replicas: int = 1) -> None:
        self._bucket = Bucket(connection, SLOTS, replicas=replicas)

    async def ensure(self) -> None:
        """Make the bucket, or give it our settings. Raises ConflictError."""
        await self._bucket.ensure()

    async def claim(self, owner: str, numbers: range, key: str) -> tuple[int, bool] | None:
        """Return a slot for a subscription, and whether it had none before; None: all are taken.

        One that was free for longest: who still has it in mind that it was his has gone, or has
        seen that it is not.
        """
        entries = {_slot(entry).number: entry for entry in await self._bucket.load(f"{owner}.*")}
        for number in numbers:
            if number in entries and entries[number].value == key.encode():
                return number, False
        found = ((number, entries.get(number)) for number in numbers)
        free = [(number, entry) for number, entry in found if not entry or entry.value == _FREE]
        for number, entry in sorted(free, key=lambda item: item[1].revision if item[1] else 0):
            last = 0 if entry is None else entry.revision
            if (is_new := await self._take(Slot(owner, number), key, last)) is not None:
                return number, is_new
        return None

    async def _take(self, slot: Slot, key: str, last: int) -> bool | None:
        """Return whether it is new; None: it is another's."""
        try:
            await self._bucket.put(_key(slot), key.encode(), last=last)
        except ConflictError:
            return False if await self.holder(slot) == key else None
        return True

    async def holder(self, slot: Slot) -> str | None:
        """Return the subscription that has it."""
        entry = await self._bucket.get(_key(slot))
        return None if entry is None else entry.value.decode() or None

    async def release(self, slot: Slot, key: str) -> None:
        """Let it be taken by another, if it is that subscription's."""
        entry = await self._bucket.get(_key(slot))
        if entry is not None and entry.value == key.encode():
            try:
                await self._bucket.put(_key(slot), _FREE, last=entry.revision)
            except ConflictError:
                return  # somebody else did

    async def of(self, owner: str) -> set[str]:
        """Return the subscriptions of a person, and some that ended of late."""
        return set((await self.taken(owner)).values())

    async def taken(self, owner: str = "*") -> dict[Slot, str]:
        """Return all that are taken, of one person or of all, and by which subscription."""
        return await self._load(f"{owner}.*")

    async def _load(self, keys: str) -> dict[Slot, str]:
        entries = await self._bucket.load(keys)
        return {_slot(entry): entry.value.decode() for entry in entries if entry.value != _FREE}


def _key(slot: Slot) -> str:
    return f"{slot.owner}.{slot.number}"


def _slot(entry: Entry) -> Slot:
    owner, _, number = entry.key.rpartition(".")
    return Slot(owner, int(number))
