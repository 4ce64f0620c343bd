"""The log's partitions: there before they are needed, whoever writes."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from math import inf
from time import monotonic
from typing import Final

import asyncpg

from pbscast.errors import PbscastError
from pbscast_store import queries
from pbscast_store.errors import translated

AHEAD: Final = timedelta(days=100)
"""At least three months."""

_LOOK_EVERY: Final = 3600.0


class Partitions:
    """What a writer does about them, as nobody else has to."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._looked = -inf

    async def make(self) -> None:
        """Makes what is missing of this month and the months `AHEAD`."""
        self._looked = monotonic()
        with translated("partitions of the log"):
            await queries.make_partitions(self._pool, AHEAD)

    async def look(self) -> None:
        """The same, once in an hour; a failure waits for the next time, of which there are many."""
        if monotonic() - self._looked >= _LOOK_EVERY:
            with suppress(PbscastError):
                await self.make()
