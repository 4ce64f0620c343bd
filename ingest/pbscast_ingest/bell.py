"""The doorbell of a journal, heard always."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pbscast_ingest.datastore import Connection, answering, connect
from pbscast_ingest.faults import place, translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Bell:
    """Hears the doorbell on a connection of its own, whether anybody waits for it or not.

    What a session that listens is sent and nobody takes makes its backend stall: in a transaction
    whose snapshot holds back vacuum, and before a notification queue that fills until PBS's commits
    fail. So the connection is never in a transaction of ours either.
    """

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection = connection
        self._place = where
        self._rung = asyncio.Event()
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str) -> AsyncIterator[Bell]:
        """Listen from now on, until the end of the block. Raises DatastoreError."""
        async with connect(dsn) as connection:
            with answering(connection, place(dsn)):
                await connection.execute("LISTEN pbscast")
            bell = cls(connection, place(dsn))
            try:
                yield bell
            finally:
                await bell._end()

    async def wait(self, timeout: float) -> None:
        """Wait until it rings or rang since it was last waited for, at most timeout seconds.

        Raises DatastoreError once the connection is lost.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        self._rung.clear()
        if self._hearing.done():
            self._hearing.result()

    async def _hear(self) -> None:
        try:
            with translated(self._place):
                async with aclosing(self._connection.notifies()) as bells:
                    async for _ in bells:
                        self._rung.set()
        finally:
            self._rung.set()  # who waits is to hear that there is no more

    async def _end(self) -> None:
        self._hearing.cancel()
        await asyncio.gather(self._hearing, return_exceptions=True)
