"""How large the journals in the datastores become."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import psycopg

_INTERVAL: Final = 1.0
_QUERY: Final = "SELECT pg_total_relation_size('pbscast.journal')"


@dataclass
class JournalSize:
    """Of one site, with what belongs to the table, in bytes."""

    dsn: str
    peak: int = 0
    last: int = 0

    async def keep(self) -> None:
        """Look at it until cancelled, over every crash of its server."""
        while True:
            try:
                await self._follow()
            except psycopg.Error:
                await asyncio.sleep(_INTERVAL)

    async def _follow(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            while True:
                answer = await connection.execute(_QUERY)
                (self.last,) = await answer.fetchone() or (0,)
                self.peak = max(self.peak, self.last)
                await asyncio.sleep(_INTERVAL)
