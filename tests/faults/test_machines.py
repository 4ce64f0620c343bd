"""Daemons with settings of their own, as on several machines; one of each kind dies under load."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

import pbscast
from pbscast import Item
from pbscast.events import Event
from pbscast_deploy.config import Role
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.stage import DaemonProcess, Stage, open_stage
from pbscast_store.log import Log

SITES = ("sitea", "siteb")
RATE = 50.0


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with open_stage(*SITES) as stage:
        yield stage


def near(stage: Stage, *sites: str) -> DaemonProcess:
    """A daemon that is told of some sites alone, beside their PBS servers."""
    known = {name: stage.sites[name] for name in sites}
    config = replace(stage, sites=known).config(Role.INGEST, holder="-".join(sites))
    stage.daemons.append(DaemonProcess(config).start())
    return stage.daemons[-1]


async def test_what_one_machine_leaves_another_goes_on_with(stage: Stage) -> None:
    first = near(stage, "sitea")
    central = stage.start_daemon(Role.FANOUT, holder="central")
    async with Log.open(stage.log_dsn) as log:
        await held_by(log, {"sitea": "sitea"})
        near(stage, *SITES)
        await stage.wait_until_followed()
        await held_by(log, {"sitea": "sitea", "siteb": "sitea-siteb"})
        async with pbscast.connect(stage.nats.url) as client, client.watch() as watch:
            told: dict[str, list[int]] = defaultdict(list)
            reading = asyncio.create_task(read(watch, told))
            loads = [LoadGenerator(site.dsn, site.name) for site in stage.sites.values()]
            writing = [asyncio.create_task(load.run(rate=RATE)) for load in loads]
            await grown(log, 100)
            first.kill()
            await held_by(log, dict.fromkeys(SITES, "sitea-siteb"))
            await grown(log, 50)
            stage.start_daemon(Role.FANOUT, holder="elsewhere")
            central.kill()
            await grown(log, 100)
            for load in loads:
                load.stop()
            await asyncio.gather(*writing)
            await until_quiet(log)
            ends = {row.name: row.position for row in await log.sites()}
            async with asyncio.timeout(60):
                while {site: told[site][-1] for site in told} != ends:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            reading.cancel()
            for load in loads:
                load.close()
    for site, positions in told.items():
        assert positions == list(range(positions[0], ends[site] + 1))


async def read(watch: AsyncIterator[Item], told: dict[str, list[int]]) -> None:
    async for item in watch:
        assert isinstance(item, Event), item
        told[item.site].append(item.position)


async def held_by(log: Log, holders: dict[str, str]) -> None:
    """Wait until sites are held by these daemons."""
    async with asyncio.timeout(60):
        while True:
            found = {row.name: row.holder for row in await log.sites()}
            if holders.items() <= found.items():
                return
            await asyncio.sleep(0.05)


async def grown(log: Log, count: int) -> None:
    """Wait until every site has logged that many more."""
    before = {row.name: row.position for row in await log.sites()}
    async with asyncio.timeout(60):
        while any(  # noqa: ASYNC110 - in other processes
            row.position < before[row.name] + count for row in await log.sites()
        ):
            await asyncio.sleep(0.05)


async def until_quiet(log: Log) -> None:
    """Wait until nothing has been logged for a while."""
    before: list[int] = []
    while (now := [row.position for row in await log.sites()]) != before:
        before = now
        await asyncio.sleep(1.5)
