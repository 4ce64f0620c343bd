"""A running `pbscastd`: it waits for what does not answer, says so, and ends when told."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from pbscast_deploy.config import Settings
from pbscast_deploy.daemon import Daemon
from pbscast_deploy.embedded import NatsServer, PostgresServer
from pbscast_deploy.stage import DaemonProcess, Stage, open_stage

PATIENCE = 60.0


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with open_stage("sitea", "siteb") as stage:
        yield stage


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def readiness(port: int) -> tuple[bool, dict[str, Any]]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            body, ready = answer.read(), True
    except HTTPError as error:
        with error:
            body, ready = error.read(), False
    except OSError:
        return False, {}
    return ready, {part["part"]: part for part in json.loads(body)["parts"]}


async def wait_for(port: int, *, ready: bool, part: str = "ingest sitea") -> dict[str, Any]:
    """Poll: the daemon is another process, and HTTP has no way to wait."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found, parts = await asyncio.to_thread(readiness, port)
            if found is ready and part in parts and (ready or parts[part]["error"]):
                return parts
            await asyncio.sleep(0.1)


async def test_a_log_without_tables_is_waited_for(
    own_postgres: PostgresServer, own_nats: NatsServer, tmp_path: Path
) -> None:
    config = tmp_path / "pbscast.toml"
    config.write_text(
        f'[log]\ndsn = "{own_postgres.dsn()}"\n[nats]\nservers = ["{own_nats.url}"]\n'
    )
    command = [sys.executable, "-m", "pbscast_deploy"]
    daemon = await asyncio.create_subprocess_exec(
        *command, "run", "--config", config, stderr=asyncio.subprocess.PIPE
    )
    assert daemon.stderr is not None
    async with asyncio.timeout(PATIENCE):
        assert b"no_sites" in await daemon.stderr.readline()
        assert b"run `pbscastd log migrate`" in await daemon.stderr.readline()
        for _ in range(2):
            migration = await asyncio.create_subprocess_exec(
                *command, "log", "migrate", "--config", config
            )
            assert await migration.wait() == 0
        while b"log_ready" not in await daemon.stderr.readline():
            pass
        daemon.send_signal(signal.SIGTERM)
        rest = await daemon.stderr.read()
        assert (await daemon.wait(), b"Traceback" in rest) == (0, False)


async def test_what_does_not_answer_is_shown_and_waited_for(stage: Stage) -> None:
    port = free_port()
    config = stage.config().replace("[daemon]", f'[daemon]\nlisten = "127.0.0.1:{port}"')
    daemon = DaemonProcess(config).start()
    stage.daemons.append(daemon)
    assert set(await wait_for(port, ready=True, part="publish siteb")) == {
        "ingest sitea",
        "ingest siteb",
        "publish sitea",
        "publish siteb",
        "deliver sitea",
        "deliver siteb",
    }
    server = stage.sites["sitea"].server
    await asyncio.to_thread(server.stop)
    parts = await wait_for(port, ready=False)
    assert "datastore" in parts["ingest sitea"]["error"]
    assert "\n" not in parts["ingest sitea"]["error"]
    assert parts["ingest siteb"]["ready"], "one site's trouble is not another's"
    await asyncio.to_thread(server.start)
    await wait_for(port, ready=True)

    await asyncio.to_thread(stage.log_server.kill)
    parts = await wait_for(port, ready=False)
    await asyncio.to_thread(stage.log_server.start)
    await wait_for(port, ready=True)

    await asyncio.to_thread(stage.nats.stop)
    parts = await wait_for(port, ready=False, part="publish sitea")
    assert "NATS" in parts["publish sitea"]["error"]
    await asyncio.to_thread(stage.nats.start)
    await wait_for(port, ready=True)

    assert "Traceback" not in daemon.log
    assert await asyncio.to_thread(daemon.stop) == 0


async def test_a_daemon_without_sites_is_ready_once_the_log_is(log_dsn: str) -> None:
    settings = Settings.model_validate({"log": {"dsn": log_dsn}, "daemon": {"roles": ["ingest"]}})
    daemon = Daemon(settings)
    (part,) = daemon.parts()
    assert (part.part, part.ready) == ("log", False)
    running = asyncio.create_task(daemon.run())
    async with asyncio.timeout(PATIENCE):
        while [*daemon.parts()]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
    daemon.stop()
    await running
