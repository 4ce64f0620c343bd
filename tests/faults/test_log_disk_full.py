"""A log whose disk is really full: a file system of its own, filled to the last byte."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from harness.ingesting import as_reader, assert_gapless, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer

from pbscast.events import Kind
from pbscast_deploy.embedded import PostgresServer
from pbscast_ingest import retry
from pbscast_ingest.status import WorkerState
from pbscast_store.log import Log

MEBIBYTES = 192


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary directories are made for the time of the test; it takes root to have it."""
    disk = Path(tempfile.mkdtemp(prefix="full-"))  # short: sockets lie there
    size = f"size={MEBIBYTES}m,mode=1777"
    mounting = ["mount", "-t", "tmpfs", "-o", size, "pbscast-test", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mounting, check=False).returncode:
        disk.rmdir()
        pytest.skip("no file system can be mounted here")
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            return filler


def _is_alive(server: PostgresServer) -> bool:
    return server.pid is not None and Path(f"/proc/{server.pid}/exe").exists()


async def test_every_change_is_logged_once_when_there_is_room_again(
    small_disk: Path, captured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LAST_SECONDS", 0.5)
    settings = {"max_wal_size": "32MB", "min_wal_size": "32MB"}
    noise = Random(0)
    saves = 0
    with PostgresServer(settings=settings) as server, PbsServer(captured) as pbs:
        assert server.directory.is_relative_to(small_disk)
        await Log.migrate_at(server.dsn())
        async with Log.open(server.dsn()) as log, ingesting(log, as_reader(captured)) as worker:
            await wait_for(log, is_resynced)
            pbs.submit("1.s")
            filler = _fill(small_disk)
            async with asyncio.timeout(60):
                while worker.status.state is not WorkerState.WAITING:
                    pbs.save("1.s", Variable_List=noise.randbytes(50_000).hex())
                    saves += 1
                    await asyncio.sleep(0.01)
            pbs.save("1.s", "R/42")
            filler.unlink()
            if not _is_alive(server):
                server.start()
            pbs.finish("1.s")
            async with asyncio.timeout(60):
                records = await wait_for(
                    log, lambda records: any(r.event == "finalize" for r in records)
                )
    assert_gapless(records)
    told = [r.event for r in records if r.id == "1.s"]
    assert told == ["submit", *["modify"] * saves, "state", "state", "finalize"]
    assert [r.event for r in records if r.kind == Kind.SITE] == ["up", "resync"]
