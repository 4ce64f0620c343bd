"""Leases: who may write a site's log, for how long, under which fencing epoch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from pbscast.errors import FencedError, NotFoundError
from pbscast_store import queries
from pbscast_store.clock import Clock
from pbscast_store.errors import translated
from pbscast_store.planning import Tail


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a site, until its term ends by the clock of the log database.

    The term only tells others when they may take over. What keeps two from writing is the epoch:
    a holder whose term has ended can still write until somebody else acquires the site.
    """

    pool: asyncpg.Pool
    site: str
    ttl: float
    """Seconds of a term."""
    epoch: int
    tail: Tail
    """Where the log ended when the lease was granted."""
    logged: datetime
    """When its last event was logged."""
    cursor: dict[str, object] | None
    clock: Clock
    """As the log database's, set whenever it tells the time."""

    @classmethod
    async def acquire(cls, pool: asyncpg.Pool, site: str, holder: str, ttl: float) -> Lease | None:
        """The lease, under a new epoch; None while another holder's term lasts."""
        with translated(f"lease of {site}"):
            grant = await queries.acquire_lease(pool, site, holder, ttl)
            if grant is not None:
                tail, clock = Tail(site, grant.position, grant.digest), Clock(grant.now)
                return cls(pool, site, ttl, grant.epoch, tail, grant.logged, grant.cursor, clock)
            if await queries.site_position(pool, site) is None:
                raise NotFoundError(f"lease of {site}: the log has no such site")
            return None

    async def renew(self) -> None:
        """Begins a new term now. Raises FencedError if somebody else has acquired the site."""
        with translated(f"lease of {self.site}"):
            now = await queries.renew_lease(self.pool, self.site, self.epoch, self.ttl)
        if now is None:
            raise FencedError(f"lease of {self.site}: another worker has taken the site")
        self.clock.set(now)

    async def release(self) -> None:
        """Ends the term, if the lease is still ours."""
        with translated(f"lease of {self.site}"):
            await queries.release_lease(self.pool, self.site, self.epoch)
