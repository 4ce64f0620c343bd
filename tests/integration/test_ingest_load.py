"""A busy PBS server, and workers that die in the midst of it: the log says what was committed."""

from __future__ import annotations

import asyncio

import pytest
from harness.ingesting import (
    assert_gapless,
    every_record,
    expected_lives,
    ingesting,
    is_resynced,
    lives_of,
)

from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.simulator.record import Record
from pbscast_ingest.capture import install
from pbscast_ingest.worker import SiteWorker
from pbscast_store.log import Log

CHANGES = 4000


@pytest.mark.parametrize("history", [True, False])
async def test_a_busy_server(log: Log, datastore_dsn: str, history: bool) -> None:  # noqa: FBT001
    record = Record()
    async with await asyncio.to_thread(
        LoadGenerator, datastore_dsn, "sitea", history=history, on_commit=record
    ) as load:
        await load.seed()
        await asyncio.to_thread(install, datastore_dsn, site="sitea")
        writing = asyncio.create_task(load.run(changes=CHANGES))
        while not writing.done():
            await _work_and_die(log, datastore_dsn)
        await writing
    expected = expected_lives(record.oracle)
    ingest = ingesting(log, datastore_dsn, holder="one", ttl=1.0)
    async with asyncio.timeout(60), ingest, log.watch() as bell:
        # Killed at every turn, no worker may have come to the end of its first resync before.
        while lives_of(records := await every_record(log)) != expected or not is_resynced(records):
            await bell.wait(1.0)
    assert_gapless(records)
    assert not any(record.event == "gap" for record in records)


async def _work_and_die(log: Log, dsn: str) -> None:
    worker = SiteWorker(log, "sitea", dsn, "one", ttl=1.0)
    task = asyncio.create_task(worker.run())
    await asyncio.wait([task], timeout=0.7)
    task.cancel()
    await asyncio.wait([task])
