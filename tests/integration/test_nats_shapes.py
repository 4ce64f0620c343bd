"""The nats-server configurations in deploy/nats, as they are but for addresses and directories."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from harness.auth import Gate
from harness.clusters import free_ports, until_linked
from harness.fanning import draft, write
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError

from pbscast.errors import PbscastError, UnavailableError
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.embedded.binaries import find_nats_server
from pbscast_fanout.askers import Role
from pbscast_fanout.settings import FanoutSettings, NatsSettings, StreamSettings
from pbscast_fanout.worker import Fanout, check
from pbscast_store.log import Log

SHIPPED = Path(__file__).parents[2] / "deploy" / "nats"


class Place:
    """A machine with what an operator copied to it."""

    def __init__(self, directory: Path, realm: Path | None) -> None:
        self._directory = directory
        if realm is None:
            directory.mkdir()
        else:
            shutil.copytree(realm / "server", directory)
        for path in SHIPPED.iterdir():
            if realm is None or path.name != "nats-server.conf":
                shutil.copy(path, directory)

    def change(self, config: str, changes: dict[str, str]) -> None:
        """As an operator with an editor; what is to be changed has to be there."""
        path = self._directory / config
        text = path.read_text()
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text)

    def test(self, config: str) -> None:
        """`nats-server -t`: it takes the configuration."""
        result = subprocess.run(
            [find_nats_server(), "--config", config, "-t"],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr

    def put(self, name: str, content: str) -> None:
        (self._directory / name).write_text(content)

    @contextmanager
    def started(self, config: str) -> Iterator[None]:
        """A nats-server that runs here; its store is here too."""
        store = str(self._directory / "store")
        for path in self._directory.glob("*.conf"):
            path.write_text(path.read_text().replace("/var/lib/nats", store))
        self.test(config)
        command = [str(find_nats_server()), "--config", config, "--log", "log"]
        process = subprocess.Popen(command, cwd=self._directory)
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def realm(tmp_path: Path) -> Path:
    Realm.init(tmp_path / "realm", ["127.0.0.1"])
    return tmp_path / "realm"


def settings(realm: Path, servers: list[str], replicas: int = 1) -> FanoutSettings:
    """As a daemon has them, with a credential of its own."""
    issued = Realm(realm).issue(Principal("pbscastd", Role.SERVICE), timedelta(hours=1))
    creds = realm / "pbscastd.creds"
    creds.write_text(issued.content)
    nats = NatsSettings(
        servers=tuple(f"nats://{server}" for server in servers),
        credentials=creds,
        tls_ca=realm / "server" / "tls" / "ca.pem",
    )
    return FanoutSettings(nats=nats, stream=StreamSettings(replicas=replicas))


async def told(realm: Path, server: str) -> None:
    """Accounts are told to a server once it is up."""
    known = Realm(realm)
    while True:
        with suppress(UnavailableError):
            await tell(known, [f"nats://{server}"], list(known.accounts().values()))
            return
        await asyncio.sleep(0.05)


async def works(settings: FanoutSettings) -> None:
    """A daemon finds nothing to complain of, once servers have agreed on leaders."""
    while True:
        try:
            return await check(settings)
        except PbscastError as error:
            if not error.transient:
                raise
            await asyncio.sleep(0.1)


async def test_one_that_is_open_on_loopback(tmp_path: Path) -> None:
    [port] = free_ports(1)
    place = Place(tmp_path / "server", None)
    assert 'listen: "127.0.0.1:4222"' in (SHIPPED / "nats-server.conf").read_text()
    place.change("nats-server.conf", {"127.0.0.1:4222": f"127.0.0.1:{port}"})
    with place.started("nats-server.conf"):
        async with asyncio.timeout(30):
            await works(FanoutSettings(nats=NatsSettings(servers=(f"nats://127.0.0.1:{port}",))))


async def test_three_of_a_cluster_keep_three_copies_of_everything(
    log: Log, realm: Path, tmp_path: Path
) -> None:
    ports = free_ports(6)
    clients = [f"127.0.0.1:{port}" for port in ports[:3]]
    routes = [f"127.0.0.1:{port}" for port in ports[3:]]
    await write(log, "sitea", [draft()])
    with ExitStack() as stack:
        for number in range(3):
            place = Place(tmp_path / f"nats{number + 1}", realm)
            place.change(
                "cluster.conf",
                {
                    "server_name: nats1": f"server_name: nats{number + 1}",
                    "0.0.0.0:4222": clients[number],
                    "0.0.0.0:6222": routes[number],
                    **{f"nats{n}:6222": route for n, route in enumerate(routes, 1)},
                },
            )
            stack.enter_context(place.started("cluster.conf"))
        async with asyncio.timeout(60):
            daemon = settings(realm, clients, replicas=3)
            await works(daemon)
            working = asyncio.create_task(Fanout(log, daemon).run())
            await told(realm, clients[0])
            async with Gate(realm, f"nats://{clients[2]}").enter("look", Role.SERVICE) as client:
                assert await copies(client) == {3}
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def copies(client: Client) -> set[int | None]:
    """How many copies there are of each stream, once there are all that a worker makes."""
    while True:
        with suppress(JetStreamError, TimeoutError):
            streams = await client.jsm().streams_info()
            if {"PBS", "PBS_DELIVERIES", "KV_PBS_SUBSCRIPTIONS", "KV_PBS_LEASES"} <= {
                stream.config.name for stream in streams
            }:
                return {stream.config.num_replicas for stream in streams}
        await asyncio.sleep(0.1)


async def test_the_hub_copies_the_stream_of_a_site_of_its_own(realm: Path, tmp_path: Path) -> None:
    hub_at, leaves_at, site_at = (f"127.0.0.1:{port}" for port in free_ports(3))
    hub, site = Place(tmp_path / "hub", realm), Place(tmp_path / "site", realm)
    # As `pbscastd auth init` made it, with the line that leafnodes.conf asks for.
    hub.change(
        "nats-server.conf",
        {
            "0.0.0.0:4222": hub_at,
            "include ./auth.conf": "include ./auth.conf\ninclude ./leafnodes.conf",
        },
    )
    hub.change("leafnodes.conf", {"0.0.0.0:7422": leaves_at})
    leaf = Realm(realm).issue(Principal("leaf", Role.SERVICE), timedelta(hours=1))
    site.put("leaf.creds", leaf.content)
    account = (
        Realm(realm).issue(Principal("x", Role.SERVICE), timedelta(hours=1)).credential.account
    )
    site.change(
        "site.conf",
        {
            "0.0.0.0:4222": site_at,
            "nats1:7422": leaves_at,
            "account: ACCOUNT": f"account: {account}",
        },
    )
    daemon = settings(realm, [site_at])
    with hub.started("nats-server.conf"), site.started("site.conf"):
        async with asyncio.timeout(60):
            await works(daemon)
            await told(realm, hub_at)
            async with (
                Gate(realm, f"nats://{site_at}").enter("one", Role.SERVICE) as here,
                Gate(realm, f"nats://{hub_at}").enter("two", Role.SERVICE) as there,
            ):
                await until_linked(there, "sitea")
                config = (SHIPPED / "hub-stream.json").read_bytes()
                answer = await there.request("$JS.API.STREAM.CREATE.PBS", config)
                assert "error" not in json.loads(answer.data), answer.data
                await here.jetstream().publish("pbs.v1.sitea.mark", b"1")
                await there.publish("pbs.v1.siteb.mark", b"stays there")
                stream = there.jetstream()
                while not (state := (await stream.stream_info("PBS")).state).messages:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                assert state.messages == 1
                assert (await stream.get_last_msg("PBS", "pbs.v1.sitea.mark")).data == b"1"
                assert (await here.jetstream().stream_info("PBS")).state.messages == 1
