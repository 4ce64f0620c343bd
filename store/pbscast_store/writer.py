"""Writing the log of one site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from pbscast.errors import FencedError, UnavailableError, UsageError
from pbscast_store import queries
from pbscast_store.connection import close
from pbscast_store.drafts import Draft
from pbscast_store.errors import translated
from pbscast_store.heads import Head, HeadCache, ObjectKey
from pbscast_store.leases import Lease
from pbscast_store.planning import key_of, plan


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append wrote. Without events `last` is one less than `first`."""

    first: int
    last: int
    dropped: int
    """Finalizes of incarnations that were finalized before: they were not logged."""


class SiteWriter:
    """The holder of a site's lease, and the only way to append; one append at a time.

    Made by `Log.acquire`. After any error but UsageError it writes no more: acquire the site again,
    which tells what was written.
    """

    def __init__(self, lease: Lease, connection: asyncpg.Connection) -> None:
        self.position = lease.position
        self.cursor = lease.cursor
        self._lease = lease
        self._connection = connection
        self._heads = HeadCache()
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
        worker has taken the site; UnavailableError if the log cannot be reached, and then nobody
        knows whether it was written; UsageError for text that PostgreSQL cannot hold (NUL, lone
        surrogates), and then nothing was written and the writer can go on.
        """
        if self._broken:
            raise UnavailableError(f"{self._place}: an append has failed: acquire the site again")
        try:
            return await self._append(drafts, cursor)
        except UsageError:
            raise
        except BaseException:
            self._broken = True
            self._connection.terminate()
            raise

    async def renew(self) -> None:
        """Keeps the lease for another term. Raises FencedError if another worker has the site."""
        await self._lease.renew()

    async def release(self) -> None:
        """Gives the site free for others at once; whoever has it by now keeps it."""
        self._broken = True
        await close(self._connection)
        await self._lease.release()

    async def _append(self, drafts: Sequence[Draft], cursor: Mapping[str, object]) -> AppendResult:
        with translated(self._place):
            planned = plan(drafts, await self._heads_of(drafts), self.position)
            written = await queries.append(
                self._connection, self.site, self.epoch, self.position, cursor, planned
            )
        if not written:
            raise FencedError(f"{self._place}: another worker has taken the site")
        first = self.position + 1
        self.position += len(planned.events)
        self.cursor = dict(cursor)
        self._heads.update(planned.heads)
        return AppendResult(first, self.position, planned.dropped)

    async def _heads_of(self, drafts: Sequence[Draft]) -> dict[ObjectKey, Head]:
        """Read outside the append's transaction: its fence holds only if nobody wrote since."""
        keys = {key_of(draft) for draft in drafts}
        known = {key: head for key in keys if (head := self._heads.get(key))}
        missing = keys - known.keys()
        if missing:
            known |= await queries.heads(self._connection, self.site, missing)
        return known

    @property
    def _place(self) -> str:
        return f"log of {self.site}"
