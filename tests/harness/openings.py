"""The service that opens readers of the stream, alone: no log, no publisher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from harness.fanning import client_of
from nats.errors import NoRespondersError

from pbscast.openings import CLOSE, OPEN, STREAM
from pbscast_fanout.connection import Connection
from pbscast_fanout.offers import of_readers
from pbscast_fanout.openings import Openings
from pbscast_fanout.services import Services
from pbscast_fanout.settings import NatsSettings


@asynccontextmanager
async def serving_openings(
    url: str, connecting: type[Connection] = Connection, opening: type[Openings] = Openings
) -> AsyncIterator[None]:
    """Have `open`, `close` and `stream` answered, as a worker does, through losses of NATS."""
    connection = connecting(NatsSettings(servers=(url,), timeout=2), name="openings")
    services = Services(connection, of_readers(opening(connection)))
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in (connection.keep(), services.run())]
        try:
            await _served(url)
            yield
        finally:
            for task in reversed(running):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _served(url: str) -> None:
    """Wait until each of them has answered, if only that it refuses."""
    async with client_of(url) as client:
        for subject in (OPEN, CLOSE, STREAM):
            while True:
                with suppress(NoRespondersError):
                    await client.request(subject, b"", timeout=10)
                    break
                await client.flush()
