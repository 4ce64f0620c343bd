"""Readers and writers share few connections, and wait for each other only so long."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import asyncpg
import pytest
from harness.fanning import drafts, write

from pbscast.errors import UnavailableError
from pbscast.selection import Selection
from pbscast_store import connection
from pbscast_store import log as log_module
from pbscast_store.log import Log


async def test_no_reader_needs_two_connections_at_once(
    log: Log, log_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(log, "sitea", drafts(50))
    monkeypatch.setattr(log_module, "open_pool", lambda dsn, _=0: connection.open_pool(dsn, 1))
    async with asyncio.timeout(connection.ACQUIRE_TIMEOUT - 1), Log.open(log_dsn) as small:
        now = datetime.now(UTC)
        selection = Selection(ids=("1.sitea",))
        [(_, standing)] = (await small.at(selection, now, attributes=True)).rows
        assert standing.attributes == {"comment": "x" * 10}
        await small.difference(selection, {"sitea": 1}, {"sitea": 50})
        await small.events(selection)
        await small.snapshot(selection, attributes=True)
        await small.lives(selection)
        assert len(await small.read("sitea", 0, 100)) == 50


async def test_readers_that_keep_all_connections_keep_no_writer_from_its_lease(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.register_site("sitea")
    writer = await log.acquire("sitea", "one", 60)
    assert writer is not None
    monkeypatch.setattr(connection, "ACQUIRE_TIMEOUT", 0.2)
    async with AsyncExitStack() as readers:
        for _ in range(log._pool.get_max_size()):
            await readers.enter_async_context(log._pool.acquire())
        with pytest.raises(UnavailableError, match="no answer in time"):
            await log.read("sitea", 0, 1)
        await writer.renew()
        await writer.append(drafts(1), {})
    assert len(await log.read("sitea", 0, 10)) == 1


async def test_no_setting_of_the_database_changes_how_times_are_written(
    log: Log, log_dsn: str
) -> None:
    """Bounds of partitions are parsed; not every zone's name in them means the same when read."""
    admin = await asyncpg.connect(log_dsn)
    name = await admin.fetchval("SELECT quote_ident(current_database())")
    await admin.execute(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
    await admin.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'")
    await admin.close()
    async with Log.open(log_dsn) as odd:
        assert await odd._pool.fetchval("SHOW timezone") == "UTC"
        assert str(await odd._pool.fetchval("SHOW datestyle")).startswith("ISO")
