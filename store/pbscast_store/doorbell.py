"""Being told at once that a site has news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg

from pbscast.errors import PbscastError
from pbscast_store import queries
from pbscast_store.connection import close, connect
from pbscast_store.errors import translated

_CHANNEL: Final = "pbscast_log"
_RETRY: Final = 1.0
_PING_EVERY: Final = 15.0
_PING_TIMEOUT: Final = 5.0


class Doorbell:
    """Collects which sites have news. It may be silent (a cut, a full queue): look now and then."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._sites: set[str] = set()

    async def wait(self, timeout: float) -> set[str]:
        """The sites with news since the last call; empty after `timeout` seconds without any.

        Whenever the connection has been (re)made that is every site, since nobody knows what was
        missed. Never raises for a connection that is cut.
        """
        # Not wait_for: before Python 3.12 it swallows a cancellation that meets the ring.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        self._rung.clear()
        sites, self._sites = self._sites, set()
        return sites

    def ring(self, *sites: str) -> None:
        """Tells the one who waits."""
        if sites:
            self._sites.update(sites)
            self._rung.set()


@asynccontextmanager
async def listening(dsn: str) -> AsyncIterator[Doorbell]:
    """A doorbell that is kept connected in the background."""
    bell = Doorbell()
    keeper = asyncio.create_task(_keep_listening(dsn, bell), name="log doorbell")
    try:
        yield bell
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})


async def _keep_listening(dsn: str, bell: Doorbell) -> None:
    while True:
        with suppress(PbscastError):
            await _listen(dsn, bell)
        await asyncio.sleep(_RETRY)


async def _listen(dsn: str, bell: Doorbell) -> None:
    """Returns or raises once the connection is gone."""
    connection = await connect(dsn)
    try:
        with translated("log doorbell"):
            await _ring_until_cut(connection, bell)
    finally:
        await close(connection)


async def _ring_until_cut(connection: asyncpg.Connection, bell: Doorbell) -> None:
    cut = asyncio.Event()
    connection.add_termination_listener(lambda *_: cut.set())
    # Listening first, then asking who is there: between the two nothing can be missed.
    await connection.add_listener(_CHANNEL, lambda *call: bell.ring(str(call[-1])))
    bell.ring(*(site.name for site in await queries.sites(connection)))
    while not cut.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_PING_EVERY):
                await cut.wait()
        if not cut.is_set():
            await queries.ping(connection, _PING_TIMEOUT)
