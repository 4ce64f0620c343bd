"""Ingest far from the log: every answer takes 150 ms, and for a while there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from harness.ingesting import as_reader, assert_gapless, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer
from harness.proxy import CuttingProxy, cutting_proxy

from pbscast_ingest.status import WorkerState
from pbscast_store.log import Log
from pbscast_store.records import Record

FAR = 0.075
"""Seconds each way."""


@pytest.fixture
def pbs(captured: str) -> Iterator[PbsServer]:
    with PbsServer(captured) as server:
        yield server


@pytest.fixture
async def way(log_dsn: str) -> AsyncIterator[CuttingProxy]:
    """To the log's server."""
    query = parse_qs(urlsplit(log_dsn).query)
    socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
    async with cutting_proxy(socket) as proxy:
        proxy.latency = FAR
        yield proxy


def over(way: CuttingProxy, dsn: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{way.port}{urlsplit(dsn).path}"


def events(records: list[Record], job: str) -> list[str]:
    return [record.event for record in records if record.id == job]


async def test_what_was_saved_without_a_link_is_logged_afterwards(
    log: Log, log_dsn: str, captured: str, pbs: PbsServer, way: CuttingProxy
) -> None:
    async with Log.open(over(way, log_dsn)) as far, ingesting(far, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        way.refusing = True
        way.cut()
        for number in range(200):
            pbs.submit(f"{number}.s")
            pbs.finish(f"{number}.s")
        while worker.status.state is not WorkerState.WAITING:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.02)
        assert waiting(captured) >= 400
        way.refusing = False
        records = await wait_for(log, lambda records: "finalize" in events(records, "199.s"))
    assert_gapless(records)
    assert "gap" not in {record.event for record in records}
    for number in range(200):
        assert events(records, f"{number}.s") == ["submit", "state", "finalize"]


def waiting(dsn: str) -> int:
    """Rows in the journal."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM pbscast.journal").fetchone()
    assert row is not None
    return int(row[0])


async def test_a_backlog_is_not_worked_off_answer_by_answer(
    log: Log, log_dsn: str, captured: str, pbs: PbsServer, way: CuttingProxy
) -> None:
    """Requeued subjobs too: of each the log has to know how it stood."""
    jobs = [f"6[{number}].s" for number in range(200)]
    for job in jobs:
        pbs.submit(job)
        pbs.save(job, "R/42")
        pbs.delete(job)
        pbs.submit(job, "R/42", comment="again")
        pbs.finish(job)
    async with Log.open(over(way, log_dsn)) as far:
        begun = monotonic()
        async with ingesting(far, as_reader(captured)):
            records = await wait_for(
                log,
                lambda records: "finalize" in events(records, jobs[-1]) and is_resynced(records),
            )
        taken = monotonic() - begun
    assert_gapless(records)
    for job in jobs:
        assert events(records, job) == ["submit", "state", "modify", "state", "finalize"], job
    # It was two answers for each subjob, and as many appends.
    assert taken < len(jobs) * 2 * FAR
