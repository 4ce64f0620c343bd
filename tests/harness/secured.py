"""A secured NATS with a worker, and users who come in by the SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness.auth import Gate, secured

import pbscast
from pbscast_deploy.auth.realm import Realm
from pbscast_fanout.askers import Role
from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.worker import Fanout
from pbscast_store.log import Log

HOUR = timedelta(hours=1)


class Town:
    """A realm, its nats-server and a worker."""

    def __init__(self, directory: Path, url: str) -> None:
        self.gate = Gate(directory, url)
        self.realm = self.gate.realm
        self.url = url.replace("nats://", "tls://")
        self.ca = self.realm.authority
        self._place = directory.parent

    async def creds(
        self,
        name: str,
        ttl: timedelta = HOUR,
        role: Role = Role.USER,
        sites: tuple[str, ...] = (),
    ) -> Path:
        """A credentials file; one that was there is replaced."""
        content = await self.gate.creds(name, role, sites, ttl)
        fresh, path = self._place / f"{name}.new", self._place / f"{name}.creds"
        fresh.write_text(content)
        return fresh.replace(path)

    @asynccontextmanager
    async def enter(
        self, name: str, url: str | None = None, **options: Any
    ) -> AsyncIterator[pbscast.Client]:
        """A client of a user, by a credentials file unless it is told otherwise."""
        if "creds" not in options:
            options["creds"] = await self.creds(name)
        async with pbscast.connect(url or self.url, ca=self.ca, **options) as client:
            yield client


@asynccontextmanager
async def handing_out(path: Path, answer: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """A broker's socket, behind which `answer` is called for what is sent as JSON."""

    handing = set[asyncio.Task[Any] | None]()

    async def hand(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handing.add(asyncio.current_task())
        try:
            writer.write(json.dumps(await answer()).encode())
        finally:
            writer.close()

    async with await asyncio.start_unix_server(hand, path):
        yield
    tasks = [task for task in handing if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def town(directory: Path, log: Log) -> AsyncIterator[Town]:
    """One that runs."""
    Realm.init(directory, ["127.0.0.1"])
    await log.register_site("sitea")
    with secured(directory) as server:
        place = Town(directory, server.url)
        nats = NatsSettings(
            servers=(server.url,),
            credentials=await place.creds("daemon", role=Role.SERVICE),
            tls_ca=place.ca,
            timeout=2,
        )
        worker = asyncio.create_task(Fanout(log, FanoutSettings(nats=nats)).run())
        try:
            async with place.enter("nobody") as client:
                await served(client)
            yield place
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


async def served(client: pbscast.Client) -> None:
    """Return as soon as a worker serves readers and subscribers."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with client.watch(kinds="node"), client.subscribe(kinds="node"):
                    return
            except (pbscast.UnavailableError, pbscast.NotFoundError):
                await asyncio.sleep(0.05)
