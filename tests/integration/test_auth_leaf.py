"""A site's nats-server as a leaf node of the hub, with the configurations that are shipped."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import nats.errors
import pytest
from harness.auth import Gate, reach, uncommented
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy

from pbscast.errors import UnavailableError
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.embedded.binaries import find_nats_server
from pbscast_fanout.askers import Role


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(directory: Path, config: str, changes: dict[str, str]) -> Iterator[None]:
    """A nats-server in a directory, its configuration as shipped but for some addresses."""
    for name in (config, "auth.conf"):
        text = (directory / name).read_text()
        for old, new in {**changes, "/var/lib/nats": str(directory / "store")}.items():
            text = text.replace(old, new)
        (directory / name).write_text(text)
    command = [str(find_nats_server()), "--config", config, "--log", "log"]
    process = subprocess.Popen(command, cwd=directory)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Gate, Gate]]:
    """The hub and a site, whose leaf node is started first."""
    realm = Realm.init(tmp_path / "realm", ["127.0.0.1"])
    hub, site = tmp_path / "hub", tmp_path / "site"
    for place in (hub, site):
        shutil.copytree(tmp_path / "realm" / "server", place)
    main = hub / "nats-server.conf"
    main.write_text(uncommented(main.read_text(), "leafnodes"))
    leaf = realm.issue(Principal("leaf", Role.SERVICE), timedelta(hours=1))
    (site / "leaf.creds").write_text(leaf.content)
    ports = [free_port() for _ in range(3)]
    here = [f"127.0.0.1:{port}" for port in ports]
    with (
        started(site, "leaf.conf", {"0.0.0.0:4222": here[0], "nats1:7422": here[2]}),
        started(hub, "nats-server.conf", {"0.0.0.0:4222": here[1], "0.0.0.0:7422": here[2]}),
    ):
        realm_at = tmp_path / "realm"
        yield Gate(realm_at, f"nats://{here[1]}"), Gate(realm_at, f"nats://{here[0]}")


async def until_up(gate: Gate) -> None:
    """Wait until a server takes accounts, and tell it all."""
    while True:
        with suppress(UnavailableError):
            await tell(gate.realm, [gate.url], list(gate.realm.accounts().values()))
            return
        await asyncio.sleep(0.05)


async def until_joined(client: Client) -> bytes:
    """Wait until the services at the hub can be asked, and return their answer."""
    while True:
        with suppress(nats.errors.NoRespondersError):
            return (await client.request("pbscast.v1.list", b"", timeout=30)).data
        await asyncio.sleep(0.05)


async def test_at_a_site_all_is_as_at_the_hub(places: tuple[Gate, Gate]) -> None:
    hub, site = places
    async with asyncio.timeout(60):
        await until_up(hub)
        creds = await hub.creds("alice")
        await until_up(site)
        heard: asyncio.Queue[Msg] = asyncio.Queue()
        async with hub.enter("pbscastd", Role.SERVICE) as service:
            jetstream = service.jetstream()
            await jetstream.add_stream(name="PBS", subjects=["pbs.v1.>"])
            await jetstream.add_stream(name="PBS_DELIVERIES", subjects=["pbscast.deliver.v1.>"])
            for name in ("alice", "bob"):
                await jetstream.add_consumer(
                    "PBS_DELIVERIES",
                    durable_name=f"user-{name}-8adf3844-1",
                    filter_subject=f"pbscast.deliver.v1.*.{name}",
                    ack_policy=AckPolicy.EXPLICIT,
                )
                await jetstream.publish(f"pbscast.deliver.v1.sitea.{name}", name.encode())

            async def serve(message: Msg) -> None:
                await message.respond(message.subject.encode())

            await service.subscribe("pbscast.v1.as.>", cb=serve)
            await reach(service)
            client = await site.connect(creds)
            assert await until_joined(client) == b"pbscast.v1.as.user.-.alice.list"

            await client.subscribe("_INBOX.alice.*", cb=heard.put)
            for name in ("bob", "alice"):
                pull = f"$JS.API.CONSUMER.MSG.NEXT.PBS_DELIVERIES.user-{name}-8adf3844-1"
                body = json.dumps({"batch": 1, "expires": 5_000_000_000}).encode()
                await client.publish(pull, body, reply=f"_INBOX.alice.{name}")
            refused, mine = await heard.get(), await heard.get()
            assert (refused.subject, (refused.headers or {})["Status"]) == (
                "_INBOX.alice.bob",
                "503",
            )
            assert mine.data == b"alice"
            await client.request(mine.reply, b"+ACK", timeout=30)
            info = await jetstream.consumer_info("PBS_DELIVERIES", "user-alice-8adf3844-1")
            assert info.num_ack_pending == 0

            await client.subscribe("pbs.v1.>", cb=heard.put)
            await reach(client)
            while heard.empty():
                # Until the hub knows that somebody listens.
                for name in ("bob", "alice"):
                    await service.publish(f"pbs.v1.sitea.job.{name}.1/sitea.-.state", b"")
                await reach(service)
                await asyncio.sleep(0.02)
            assert ".alice." in (await heard.get()).subject
            await client.close()
