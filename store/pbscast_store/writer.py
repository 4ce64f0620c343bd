"""Writing the log of one site."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from pbscast.errors import FencedError, UnavailableError
from pbscast_store import queries
from pbscast_store.binary import Parcel, RowTypes, pack
from pbscast_store.connection import close
from pbscast_store.drafts import Draft
from pbscast_store.errors import translated
from pbscast_store.heads import Head, HeadCache, ObjectKey
from pbscast_store.leases import Lease
from pbscast_store.partitions import Partitions
from pbscast_store.planning import Planning

_SLICE: Final = 25
"""Drafts that are planned at once. In between the event loop sends what the socket had no room for
of the append before, without which the server cannot begin."""


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append wrote. Without events `last` is one less than `first`."""

    first: int
    last: int
    dropped: int
    """Finalizes of incarnations that were finalized before: they were not logged."""


class SiteWriter:
    """The holder of a site's lease, and the only way to append. Made by `Log.acquire`.

    Appends may overlap: they are logged in the order of the calls, and while the database works on
    one the next is prepared. After any error it writes no more: acquire the site again, which tells
    what was written.
    """

    def __init__(
        self,
        lease: Lease,
        connection: asyncpg.Connection,
        types: RowTypes,
        partitions: Partitions,
    ) -> None:
        self.position = lease.tail.position
        self.cursor = lease.cursor
        self._lease = lease
        self._connection = connection
        self._types = types
        self._partitions = partitions
        self._heads = HeadCache()
        self._absent: set[ObjectKey] = set()
        """Objects that were looked up since the last plan and that the log does not know."""
        self._tail = lease.tail
        self._logged = lease.logged
        self._planning = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._broken = False

    @property
    def site(self) -> str:
        return self._lease.site

    @property
    def epoch(self) -> int:
        """The fencing number of this lease: greater than that of any before."""
        return self._lease.epoch

    async def append(self, drafts: Sequence[Draft], cursor: Mapping[str, object]) -> AppendResult:
        """Logs drafts in their order, folds them into the projection and moves the cursor.

        All of it or nothing, durably; no drafts: the cursor alone. Raises FencedError if another
        worker has taken the site; UsageError for text that PostgreSQL cannot hold (NUL, lone
        surrogates); ConflictError if the log holds what it should not (a row of such a position);
        UnavailableError if the log cannot be reached: then nobody knows whether it was written.
        """
        try:
            with translated(self._place):
                async with self._planning:
                    parcel = await self._plan(drafts)
                async with self._writing:
                    return await self._write(parcel, cursor)
        except BaseException:
            self._broken = True
            self._connection.terminate()
            raise

    async def heads(self, keys: AbstractSet[ObjectKey]) -> dict[ObjectKey, Head]:
        """Where objects stand after all appends so far, also those that are not written yet.

        Those that the log never saw are left out. Raises UnavailableError.
        """
        with translated(self._place):
            async with self._planning:
                return await self._heads_of(keys)

    async def renew(self) -> None:
        """Keeps the lease for another term. Raises FencedError if another worker has the site."""
        await self._lease.renew()
        await self._partitions.look()

    async def release(self) -> None:
        """Gives the site free for others at once; whoever has it by now keeps it."""
        self._broken = True
        await close(self._connection)
        await self._lease.release()

    async def _plan(self, drafts: Sequence[Draft]) -> Parcel:
        """After all that was planned before, whether or not it has been written by now."""
        heads = await self._heads_of({ObjectKey(draft.kind, draft.id) for draft in drafts})
        planning = Planning(heads, self._tail, max(self._logged, self._lease.clock.now()))
        for begin in range(0, len(drafts), _SLICE):
            if begin:
                await asyncio.sleep(0)
            planning.add(drafts[begin : begin + _SLICE])
        planned = planning.finish()
        if planned.events:
            self._logged = planned.logged
        else:  # the site's row says when its last event was logged
            planned = replace(planned, logged=self._logged)
        self._tail = planned.tail
        self._heads.update(planned.heads, planned.tail.position)
        self._absent.clear()
        return pack(planned, self._types)

    async def _heads_of(self, keys: AbstractSet[ObjectKey]) -> dict[ObjectKey, Head]:
        """Read before the append's transaction: its fence finds out if somebody wrote since."""
        known = {key: head for key in keys if (head := self._heads.get(key))}
        missing = keys - known.keys() - self._absent
        if missing:
            found = await queries.heads(self._lease.pool, self.site, missing)
            self._heads.update(found, 0)
            self._absent |= missing - found.keys()
            known |= found
        return known

    async def _write(self, parcel: Parcel, cursor: Mapping[str, object]) -> AppendResult:
        if self._broken:
            raise UnavailableError(f"{self._place}: an append has failed: acquire the site again")
        if not await queries.append(
            self._connection, self.site, self.epoch, self.position, cursor, parcel
        ):
            raise FencedError(f"{self._place}: another worker has taken the site")
        first = self.position + 1
        self.position += parcel.number
        self.cursor = dict(cursor)
        self._heads.trim(self.position)
        return AppendResult(first, self.position, parcel.dropped)

    @property
    def _place(self) -> str:
        return f"log of {self.site}"
