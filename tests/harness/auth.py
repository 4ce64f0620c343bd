"""A realm with a nats-server of its own, and who connects to it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import nats.errors
from nats.aio.client import Client, RawCredentials

from pbscast_deploy.auth.configuration import STORE
from pbscast_deploy.auth.layout import DOMAIN, Principal
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.askers import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def secured(directory: Path, *, durable: bool = False) -> NatsServer:
    """The nats-server of a realm, with its authority and TLS; not started."""
    server = directory / "server"
    store = directory.parent / f"{directory.name}.store"
    tls = server / "tls"
    config = (
        (server / "auth.conf").read_text().replace(str(STORE), str(store)),
        f"tls {{ cert_file: '{tls}/server.pem', key_file: '{tls}/server.key' }}",
    )
    return NatsServer(durable=durable, config="\n".join(config), jetstream=f"domain: {DOMAIN}")


def uncommented(configuration: str, section: str) -> str:
    """The configuration with a section put in force that is commented out."""
    before, found, after = configuration.partition(f"#{section} {{\n")
    body, end, rest = after.partition("#}\n")
    assert found
    assert end
    return f"{before}{section} {{\n{body.replace('#', '')}}}\n{rest}"


async def reach(client: Client) -> None:
    """Wait until the server has all that was sent.

    nats-py's ``flush`` may send its PING before what is waiting to be sent; not a second time.
    """
    await client.flush()
    await client.flush()


async def cut(client: Client) -> None:
    """Wait until the server has closed a connection."""
    async with asyncio.timeout(30):
        while client.is_connected:
            with suppress(nats.errors.Error, OSError):
                await client.flush(1)
            await asyncio.sleep(0.01)
    await client.close()


class Gate:
    """Lets principals in."""

    def __init__(self, directory: Path, url: str) -> None:
        self.realm = Realm(directory)
        self.url = url

    async def creds(
        self,
        name: str,
        role: Role = Role.USER,
        sites: tuple[str, ...] = (),
        ttl: timedelta = timedelta(hours=1),
    ) -> str:
        """Issue a credentials file's content and tell the server."""
        issued = self.realm.issue(Principal(name, role, sites), ttl)
        await tell(self.realm, [self.url], [issued.account])
        return issued.content

    async def connect(self, creds: str, refusals: list[str] | None = None) -> Client:
        """A connection that does not come back; what the server refuses is noted."""

        async def note(error: Exception) -> None:
            if refusals is not None:
                refusals.append(str(error) or type(error).__name__)

        client = Client()
        try:
            await client.connect(
                self.url,
                user_credentials=RawCredentials(creds),
                tls=ssl.create_default_context(cafile=self.realm.authority),
                allow_reconnect=False,
                error_cb=note,
            )
        except (nats.errors.Error, OSError):
            await client.close()
            raise
        return client

    @asynccontextmanager
    async def enter(
        self, name: str, role: Role = Role.USER, sites: tuple[str, ...] = ()
    ) -> AsyncIterator[Client]:
        """A connection of a principal, closed at the end."""
        client = await self.connect(await self.creds(name, role, sites))
        try:
            yield client
        finally:
            await client.close()
