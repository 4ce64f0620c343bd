"""The doorbell of a journal: heard always, and missed as soon as it is gone."""

from __future__ import annotations

import asyncio
import time

import pytest
from harness.capturing import Connection, connected
from harness.ingesting import as_reader

from pbscast_ingest.faults import DatastoreUnavailableError
from pbscast_ingest.reader import Journal

_LISTENER = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


async def test_what_nobody_waits_for_does_not_stall_the_server(captured: str) -> None:
    """Its backend would stand in the middle of a transaction, and vacuum with it."""
    with connected(captured) as db:
        async with asyncio.timeout(30), Journal.open(as_reader(captured)) as journal:
            db.execute("SELECT pg_notify('pbscast', n::text) FROM generate_series(1, 30000) AS n")
            await asyncio.to_thread(_see_the_queue_empty, db)
            stalls = f"SELECT wait_event = 'ClientWrite' {_LISTENER}"
            assert db.execute(stalls.encode()).fetchall() == [(False,)]
            await journal.wait(30)


def _see_the_queue_empty(db: Connection) -> None:
    while db.execute("SELECT pg_notification_queue_usage() > 0").fetchone() == (True,):
        time.sleep(0.02)


async def test_one_ring_ends_one_wait(captured: str) -> None:
    loop = asyncio.get_running_loop()
    with connected(captured) as db:
        async with asyncio.timeout(30), Journal.open(as_reader(captured)) as journal:
            db.execute("NOTIFY pbscast")
            await journal.wait(30)
            begun = loop.time()
            await journal.wait(0.2)
            assert loop.time() - begun > 0.15


async def test_a_bell_that_is_gone_is_told(captured: str) -> None:
    with connected(captured) as db:
        async with asyncio.timeout(30), Journal.open(as_reader(captured)) as journal:
            waiting = asyncio.create_task(journal.wait(30))
            db.execute(f"SELECT pg_terminate_backend(pid) {_LISTENER}".encode())
            with pytest.raises(DatastoreUnavailableError):
                await waiting
