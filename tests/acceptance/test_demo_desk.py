"""Beside a running demo an operator's commands work as they stand in its panel."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pbscast_deploy.demo.desk import open_desk

CONFIG = ".cache/demo/pbscast.toml"
SITES = ("sitea", "siteb")
ACCOUNTING = ".cache/demo/accounting"


async def start(place: Path, *arguments: str) -> Process:
    command = (sys.executable, "-m", "pbscast_deploy", *arguments)
    return await asyncio.create_subprocess_exec(*command, cwd=place, stdout=PIPE, stderr=PIPE)


async def run(place: Path, *arguments: str) -> tuple[int | None, str]:
    process = await start(place, *arguments)
    out, err = await process.communicate()
    return process.returncode, (out + err).decode()


@asynccontextmanager
async def demo(place: Path) -> AsyncIterator[str]:
    """A demo that has replayed everything; gives what it said until then."""
    playing = await start(place, "demo")
    assert playing.stdout is not None
    said = b""
    try:
        while b"Ctrl-C" not in said:
            line = await playing.stdout.readline()
            assert line, (said + (await playing.communicate())[1]).decode()
            said += line
        yield said.decode()
    finally:
        if playing.returncode is None:
            playing.send_signal(signal.SIGINT)
        await playing.communicate()


def assert_open_on_loopback_alone(said: str) -> None:
    address = re.search(r"to\s+nobody\s+else:\s+nats://127\.0\.0\.1:(\d+)", said)
    assert address, said
    port = int(address[1])
    socket.create_connection(("127.0.0.1", port)).close()
    # What listens on all addresses answers at this one as well.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port)).close()


@pytest.mark.timeout(300)
async def test_an_operators_commands_beside_the_demo(tmp_path: Path) -> None:
    async with demo(tmp_path) as said:
        assert_open_on_loopback_alone(said)
        named = [line.strip(" │") for line in said.splitlines() if "pbscastd audit" in line]
        assert all(CONFIG in command for command in named), said
        verify, reconcile = map(shlex.split, named)
        days = {site: sorted(map(str, (tmp_path / ACCOUNTING / site).iterdir())) for site in SITES}
        of_siteb = ("audit", "reconcile", "--config", CONFIG, "--site", "siteb")
        commands = (
            verify[1:],
            [*reconcile[1:-1], *days["sitea"]],
            [*of_siteb, *days["siteb"]],
            ["audit", "checkpoint", "--config", CONFIG],
        )
        done = await asyncio.gather(*(run(tmp_path, *command) for command in commands))
        assert [status for status, _ in done] == [0, 0, 0, 0], done
        last = [told.splitlines()[-1] for _, told in done]
        assert last[1] == "all agrees"
        assert last[2].startswith("32 agree, 1 could not be compared")
        assert (tmp_path / CONFIG).parent.stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / CONFIG).parent.exists()


async def test_two_demos_and_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    left = tmp_path / ".cache/demo/accounting/sitea/20200101"
    left.parent.mkdir(parents=True)
    left.touch()
    with open_desk() as first, open_desk() as second:
        assert str(first.config) == CONFIG
        assert not left.exists()
        assert second.directory != first.directory
        assert second.directory.parent == first.directory.parent
    assert list((tmp_path / ".cache").iterdir()) == []
