"""From a commit in the PBS datastore to a subscriber's callback, beside the bare floor, hop by hop.

All are measured from the datastore's clock when the row was saved, so all include the commit
itself. Every server is durable; each part is a process of its own, all on this machine. Floor and
product take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

import nats
import pytest
from harness import floor
from harness.fanning import client_of
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig

import pbscast
from pbscast.events import Change, Provenance
from pbscast_deploy.stage import DaemonProcess, Stage, open_stage
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_SITE = "sitea"
_ROUNDS = 2
_SECONDS = 10.0
"""Of each round, of the floor and of the product."""

_WARM_UP = 200
_RATES = (500, 1000, 1500, 2000, 3000, 4000)
_RATE_SECONDS = 8.0
_NEARLY = 0.98
_SETTLE_SECONDS = 1.0
"""A rate is sustained if what was committed has been delivered this long after the last commit."""


class Passage(NamedTuple):
    """When an event passed each hop, seconds since 1970."""

    saved: float
    logged: float
    """When the worker had read and translated it, and begun to log it."""
    stored: float
    """When JetStream had it."""
    heard: float


_HOPS = ("saved to logged", "logged to stream", "stream to callback")


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


async def _measure_pbscast(stage: Stage, rate: float, first_id: int) -> list[Passage]:
    heard: dict[int, float] = {}
    async with Log.open(stage.log_dsn) as log:
        before = await log.position(_SITE)
        async with pbscast.connect(stage.nats.url) as client, client.watch() as watch:
            listening = asyncio.create_task(_time(watch, heard))
            await _load(stage, rate, _SECONDS, first_id)
            await asyncio.sleep(_SETTLE_SECONDS)
            listening.cancel()
        stored = await _stored(stage.nats.url)
        passages: list[Passage] = []
        while page := await log.read(_SITE, before, 1000):
            before = page[-1].position
            passages += [
                Passage(
                    record.time.timestamp(),
                    record.logged.timestamp(),
                    stored[record.position],
                    heard[record.position],
                )
                for record in page
                if record.position in heard
            ]
    return passages


async def _time(watch: pbscast.Watch, heard: dict[int, float]) -> None:
    async for item in watch:
        if isinstance(item, Change) and item.provenance is Provenance.JOURNAL:
            heard[item.position] = time.time()


async def _stored(url: str) -> Mapping[int, float]:
    """When each position of the site was stored in the stream."""
    times: dict[int, float] = {}
    async with client_of(url) as client:
        config = ConsumerConfig(ack_policy=AckPolicy.NONE)
        consumer = await client.jetstream().pull_subscribe(
            f"pbs.v1.{_SITE}.*.>", stream="PBS", config=config
        )
        while (await consumer.consumer_info()).num_pending:
            try:
                messages = await consumer.fetch(1000, timeout=1)
            except NatsTimeout:
                continue
            for message in messages:
                if number := (message.headers or {}).get("Nats-Msg-Id"):
                    moment = message.metadata.timestamp.timestamp()
                    times[int(number.rpartition(":")[2])] = moment
    return times


def _processor_seconds(daemon: DaemonProcess) -> float:
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("rate", [200, 500])
async def test_latency_beside_the_floor(rate: int) -> None:
    bare: list[float] = []
    ours: list[Passage] = []
    async with open_stage(_SITE) as stage:
        daemon = stage.start_daemon()
        await stage.wait_until_followed()
        await _load(stage, 200, 3, 1_000_000)
        used = 0.0
        for number in range(1, _ROUNDS + 1):
            bare += (await _measure_floor(stage, rate))[_WARM_UP:]
            used -= _processor_seconds(daemon)
            ours += (await _measure_pbscast(stage, rate, number * 10_000_000))[_WARM_UP:]
            used += _processor_seconds(daemon)
    _show(rate, bare, ours, used / (len(ours) + _ROUNDS * _WARM_UP))


def _show(rate: int, bare: Sequence[float], ours: Sequence[Passage], used: float) -> None:
    appends = len({passage.logged for passage in ours})
    print(
        f"\ncommit to callback at {rate} changes/s, milliseconds"
        f" ({len(ours) / appends:.1f} events an append, pbscastd {1000 * used:.2f} ms an event):"
    )
    floors = _percentiles(bare)
    total = _percentiles([passage.heard - passage.saved for passage in ours])
    _show_line("floor", floors, floors)
    _show_line("pbscast", total, floors)
    for place, name in enumerate(_HOPS):
        hop = _percentiles([passage[place + 1] - passage[place] for passage in ours])
        _show_line(f"  {name}", hop, floors)


def _show_line(name: str, values: Sequence[float], floors: Sequence[float]) -> None:
    shown = "  ".join(
        f"{label} {1000 * value:6.1f} ({value / bare:4.1f} x)"
        for label, value, bare in zip(("p50", "p90", "p99"), values, floors, strict=True)
    )
    print(f"  {name:22} {shown}")


def _percentiles(delays: Sequence[float]) -> tuple[float, float, float]:
    cuts = quantiles(delays, n=100)
    return cuts[49], cuts[89], cuts[98]


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
