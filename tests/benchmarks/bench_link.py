"""Far from the log and from NATS: 150 ms for each round trip beside none.

CHANGES sets how many changes wait for ingest (20,000 unless given).
"""

from __future__ import annotations

import asyncio
import os
from time import perf_counter

import psycopg
import pytest
from harness.fanning import drafts, fanning, published_to, write
from harness.proxy import cutting_proxy

import pbscast
from pbscast_deploy.config import Role
from pbscast_deploy.embedded import NatsServer
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.stage import DaemonProcess, open_stage
from pbscast_ingest.cursor import Cursor
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_FAR = 0.075
"""Seconds each way."""
_SITE = "sitea"
_CHANGES = int(os.environ.get("CHANGES", "20000"))
_EVENTS = 30_000


async def _ingest(latency: float) -> float:
    """Changes a second of a backlog: arrays, requeued subjobs, all that jobs do."""
    async with open_stage(_SITE) as stage:
        site = stage.sites[_SITE]
        with psycopg.connect(site.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # its making is not measured
            connection.execute("SELECT pg_reload_conf()")
            async with LoadGenerator(site.dsn, site.name) as load:
                await load.run(changes=_CHANGES)
            row = connection.execute("SELECT max(seq) FROM pbscast.journal").fetchone()
            assert row is not None
        socket = f"{stage.log_server.directory}/.s.PGSQL.{stage.log_server.port}"
        async with cutting_proxy(socket) as proxy, Log.open(stage.log_dsn) as log:
            proxy.latency = latency
            await log.register_site(_SITE)
            far = f"postgresql://postgres@127.0.0.1:{proxy.port}/pbscast"
            config = stage.config(Role.INGEST).replace(stage.log_dsn, far)
            stage.daemons.append(DaemonProcess(config).start())
            while await log.position(_SITE) < 1:  # noqa: ASYNC110 - another process's progress
                await asyncio.sleep(0.01)
            began = perf_counter()
            while await _read_up_to(log) < row[0]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
            return _CHANGES / (perf_counter() - began)


async def _read_up_to(log: Log) -> int:
    return Cursor.load((await log.sites())[0].cursor).top


async def test_ingest_far_from_the_log() -> None:
    near, far = await _ingest(0), await _ingest(_FAR)
    print(f"\ningest: {near:,.0f} changes/s, far {far:,.0f}; ratio {far / near:.2f}")


async def _publish_and_read(log: Log, latency: float) -> tuple[float, float]:
    """Events a second onto the stream, and from there to a callback."""
    with NatsServer() as server:
        async with cutting_proxy(("127.0.0.1", server.port)) as proxy:
            proxy.latency = latency
            url = f"nats://127.0.0.1:{proxy.port}"
            async with fanning(log, url) as worker:
                await published_to(worker, _SITE, 1)
                began = perf_counter()
                await published_to(worker, _SITE, _EVENTS, 120)
                published = perf_counter() - began
                async with (
                    pbscast.connect(url) as client,
                    client.watch(start=pbscast.beginning()) as watch,
                ):
                    await anext(watch)
                    began = perf_counter()
                    for _ in range(_EVENTS - 1):
                        await anext(watch)
                    return _EVENTS / published, _EVENTS / (perf_counter() - began)


async def test_publishing_and_reading_far_from_nats(log: Log) -> None:
    for _ in range(_EVENTS // 1000):
        await write(log, _SITE, drafts(1000, 200))
    near, far = await _publish_and_read(log, 0), await _publish_and_read(log, _FAR)
    for what, here, there in zip(("publishing", "reading"), near, far, strict=True):
        print(f"\n{what}: {here:,.0f} events/s, far {there:,.0f}; ratio {there / here:.2f}")
