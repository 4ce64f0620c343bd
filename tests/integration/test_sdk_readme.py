"""The examples of the SDK's README, each run as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.standing_in import Deliverer, standing
from harness.stream import Publisher, SiteLog, serve_history

import pbscast

README = Path(__file__).parents[2] / "sdk" / "README.md"
WATCH, BLOCKING, SUBSCRIBE, PORTAL, SHARE = re.findall(
    r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


@asynccontextmanager
async def example(text: str, url: str, place: Path, *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", text, *arguments),
        stdout=PIPE,
        stderr=DEVNULL,
        cwd=place,
        env={**os.environ, "PBSCAST_SERVERS": url},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def lines(process: Process, count: int) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return [(await process.stdout.readline()).decode().rstrip() for _ in range(count)]


async def end(process: Process) -> list[str]:
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().splitlines()


async def test_watching(publisher: Publisher, nats_url: str, tmp_path: Path) -> None:
    log = SiteLog("sitea")
    life = list(log.life("19.sitea"))
    await publisher.publish(*life)
    await serve_history(publisher, life)
    async with (
        example(WATCH, nats_url, tmp_path) as watching,
        example(BLOCKING, nats_url, tmp_path) as blocking,
    ):
        # The finalize, then the whole history.
        assert len([line for line in await end(blocking) if "19.sitea" in line]) == 1 + len(life)
        while not await publisher.consumers():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.02)
        await publisher.publish(log.job("20.sitea"))
        [line] = await lines(watching, 1)
        assert line.endswith("20.sitea state R")


async def test_a_subscription(tier: Deliverer, nats_url: str, tmp_path: Path) -> None:
    async with example(SUBSCRIBE, nats_url, tmp_path) as process:
        await tier.seen(lambda: tier.known)
        [key] = tier.known
        await tier.begin(key, "sitea", 0, standing("19.sitea", attributes={"comment": "soon"}))
        await tier.event(key, SiteLog("sitea").job("19.sitea", "finalize"), "ended")
        await tier.complete(key)
        assert await end(process) == [
            "stands 19.sitea R {'comment': 'soon'}",
            "finalize 19.sitea F",
            "all have ended",
        ]


async def test_a_portal_that_comes_back(tier: Deliverer, nats_url: str, tmp_path: Path) -> None:
    log, saved = SiteLog("sitea"), tmp_path / "portal.json"
    async with example(PORTAL, nats_url, tmp_path) as process:
        await tier.seen(lambda: tier.known)
        [key] = tier.known
        await tier.events(key, log, 2)
        first = await lines(process, 2)
        while not (saved.exists() and "[2, 2]" in saved.read_text()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        process.kill()
    async with example(PORTAL, nats_url, tmp_path) as process:
        await tier.events(key, log, 1)
        then = await lines(process, 1)
    assert re.findall(r"position=\d,", "".join([*first, *then])) == [
        "position=1,",
        "position=2,",
        "position=3,",
    ]


async def test_sharing_one(tier: Deliverer, nats_url: str, tmp_path: Path) -> None:
    log = SiteLog("sitea")
    async with pbscast.connect(nats_url) as client:
        made = await client.subscribe(owners="alice", shared=True, keep=True)
    async with (
        example(SHARE, nats_url, tmp_path, made.id) as one,
        example(SHARE, nats_url, tmp_path, made.id) as other,
    ):
        await tier.events(made.id, log, 10)
        await tier.complete(made.id)
        told = [*await end(one), *await end(other)]
    assert sorted(re.findall(r"position=(\d+),", "".join(told)), key=int) == [
        str(number) for number in range(1, 11)
    ]
    assert told.count("Complete()") == 2
