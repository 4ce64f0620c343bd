"""From a commit in the PBS datastore to a subscriber's callback, beside the bare floor.

Both are measured from the datastore's clock when the row was saved, so both include the commit
itself. Every server is durable; each part is a process of its own, all on this machine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles

import nats
import pytest
from harness import floor
from nats.aio.msg import Msg

import pbscast
from pbscast.events import Change, Provenance
from pbscast_deploy.stage import Stage, open_stage
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_SITE = "sitea"
_SECONDS = 20.0
_WARM_UP = 200
_RATES = (500, 1000, 1500, 2000, 3000, 4000)
_RATE_SECONDS = 8.0
_NEARLY = 0.98
_SETTLE_SECONDS = 1.0
"""A rate is sustained if what was committed has been delivered this long after the last commit."""


async def _run(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def _load(stage: Stage, rate: float, seconds: float, first_id: int) -> float:
    """In a process of its own, so that its work is not ours; returns the rate achieved."""
    arguments = ["-m", "pbscast_deploy", "simulate", "load", "--site", _SITE]
    arguments += ["--dsn", stage.sites[_SITE].dsn, "--rate", str(rate), "--seconds", str(seconds)]
    said = await _run(*arguments, "--first-id", str(first_id))
    return float(said.split()[3])


@asynccontextmanager
async def _relay(dsn: str, url: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, floor.__file__, "relay", dsn, url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    yield
    process.kill()
    await process.wait()


async def _measure_floor(stage: Stage, rate: float) -> list[float]:
    delays: list[float] = []

    async def hear(message: Msg) -> None:
        delays.append(time.time() - float(message.data))

    dsn = stage.sites[_SITE].server.dsn()
    client = await nats.connect(stage.nats.url)
    await client.subscribe(floor.SUBJECT, cb=hear)
    await client.flush()
    async with _relay(dsn, stage.nats.url):
        await _run(str(Path(floor.__file__)), "write", dsn, str(rate), str(_SECONDS))
    await client.close()
    return delays


async def _measure_pbscast(stage: Stage, rate: float) -> list[float]:
    delays: list[float] = []
    async with pbscast.connect(stage.nats.url) as client, client.watch() as watch:
        loading = asyncio.create_task(_load(stage, rate, _SECONDS, 10_000_000))

        listening = asyncio.create_task(_time(watch, delays))
        await loading
        await asyncio.sleep(_SETTLE_SECONDS)
        listening.cancel()
    return delays


async def _time(watch: pbscast.Watch, delays: list[float]) -> None:
    async for item in watch:
        if isinstance(item, Change) and item.provenance is Provenance.JOURNAL:
            delays.append(time.time() - item.time.timestamp())  # noqa: PERF401 - it never ends


@pytest.mark.parametrize("rate", [200, 500])
async def test_latency_beside_the_floor(rate: int) -> None:
    async with open_stage(_SITE) as stage:
        stage.start_daemon()
        await stage.wait_until_followed()
        await _load(stage, 200, 3, 1_000_000)
        bare = _percentiles(await _measure_floor(stage, rate))
        ours = _percentiles(await _measure_pbscast(stage, rate))
    print(f"\ncommit to callback at {rate} changes/s, milliseconds:")
    for name, (p50, p99), (floor50, floor99) in (("pbscast", ours, bare), ("floor", bare, bare)):
        ratios = f"{p50 / floor50:.1f} and {p99 / floor99:.1f} times the floor"
        print(f"  {name:8} p50 {1000 * p50:6.1f}  p99 {1000 * p99:6.1f}  {ratios}")


def _percentiles(delays: Sequence[float]) -> tuple[float, float]:
    cuts = quantiles(delays[_WARM_UP:], n=100)
    return cuts[49], cuts[98]


async def test_highest_steady_rate() -> None:
    async with open_stage(_SITE) as stage:
        stage.start_daemon()
        await stage.wait_until_followed()
        print("\nsteady rate, one site, one subscriber to everything:")
        for number, rate in enumerate(_RATES, 1):
            if not await _sustains(stage, rate, first_id=number * 10_000_000):
                break


async def _sustains(stage: Stage, rate: int, *, first_id: int) -> bool:
    async with Log.open(stage.log_dsn) as log, pbscast.connect(stage.nats.url) as client:
        before = await log.position(_SITE)
        async with client.watch() as watch:
            listening = asyncio.create_task(_drain(watch))
            achieved = await _load(stage, rate, _RATE_SECONDS, first_id)
            await asyncio.sleep(_SETTLE_SECONDS)
            delivered = watch.positions.get(_SITE, before)
            listening.cancel()
        logged = await _settled_position(log)
    behind = logged - delivered
    print(
        f"  {rate:5} changes/s asked, {achieved:5.0f}/s committed, {logged - before} events:"
        f" {behind} not delivered {_SETTLE_SECONDS:.0f} s after the last commit"
    )
    return behind == 0 and achieved > _NEARLY * rate


async def _drain(watch: pbscast.Watch) -> None:
    async for _ in watch:
        pass


async def _settled_position(log: Log) -> int:
    """The site's position once it has stopped growing."""
    last = -1
    while (position := await log.position(_SITE)) != last:
        last = position
        await asyncio.sleep(_SETTLE_SECONDS)
    return position
