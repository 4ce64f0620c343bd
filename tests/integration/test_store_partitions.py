"""Partitions are there when they are needed, whoever made them and whatever the clock says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from harness.jobs import batches, interleaved_lives

from pbscast.errors import UnavailableError
from pbscast_store import partitions
from pbscast_store.log import Log
from pbscast_store.statements import migrations
from pbscast_store.writer import SiteWriter

FAR = datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
async def connection(log_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(log_dsn)
    yield connection
    await connection.close()


async def acquire(log: Log, site: str = "sitea") -> SiteWriter:
    await log.register_site(site)
    writer = await log.acquire(site, "one", 60)
    assert writer is not None
    return writer


async def names(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = 'pbscast_log.event'::regclass ORDER BY 1"
    )
    return [row[0] for row in rows]


async def test_months_are_made_ahead(log: Log, connection: asyncpg.Connection) -> None:
    await acquire(log)
    now = datetime.now(UTC)
    ahead = now.year * 12 + now.month - 1 + 3
    assert f"event_p{ahead // 12}{ahead % 12 + 1:02}" in await names(connection)


async def test_a_writer_that_stays_makes_them_too(
    log: Log, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await acquire(log)
    made = await names(connection)
    await connection.execute(f"DROP TABLE pbscast_log.{made[-1]}")
    await writer.renew()
    assert made[-1] not in await names(connection)

    monkeypatch.setattr(partitions, "_LOOK_EVERY", 0)
    await writer.renew()

    assert await names(connection) == made


async def test_an_append_that_finds_none_is_mended_by_the_next_acquire(
    log: Log, connection: asyncpg.Connection
) -> None:
    writer = await acquire(log)
    for name in (await names(connection))[1:]:
        await connection.execute(f"DROP TABLE pbscast_log.{name}")
    lives = batches(interleaved_lives(), 10)
    writer._lease.clock.set(datetime.now(UTC) + timedelta(days=40))
    with pytest.raises(UnavailableError, match="no partition"):
        await writer.append(next(lives), {"read": 1})
    assert await log.position("sitea") == 0

    again = await acquire(log)
    again._lease.clock.set(datetime.now(UTC) + timedelta(days=40))
    await again.append(next(lives), {"read": 1})

    assert await log.position("sitea") == 10


async def test_a_clock_that_goes_back_is_not_followed(
    log: Log, connection: asyncpg.Connection
) -> None:
    lives = batches(interleaved_lives(), 10)
    await (await acquire(log)).append(next(lives), {})
    await connection.execute("UPDATE pbscast_log.site SET logged = $1", FAR)

    writer = await acquire(log)
    await writer.append(next(lives), {})
    await writer.append(next(lives), {})

    records = await log.read("sitea", 0, 100)
    assert records[9].logged < datetime.now(UTC)
    assert {record.logged for record in records[10:]} == {FAR}
    assert "event_p209912" in await names(connection)
    assert len(await names(connection)) < 20, "nothing in between"


async def test_events_of_one_append_are_logged_at_one_time(log: Log) -> None:
    writer = await acquire(log)
    lives = batches(interleaved_lives(), 10)
    begun = datetime.now(UTC)
    appending = [asyncio.create_task(writer.append(next(lives), {})) for _ in range(5)]
    await asyncio.gather(*appending)

    records = await log.read("sitea", 0, 100)
    logged = [record.logged for record in records]
    assert logged == sorted(logged)
    assert len(set(logged)) == len(set(logged[::10])) <= 5
    # Set by a reply that took its time, so a little late; both clocks are this machine's here.
    assert begun - timedelta(seconds=5) < logged[0] < datetime.now(UTC)


async def test_any_number_may_make_them_at_once(log: Log, connection: asyncpg.Connection) -> None:
    for name in (await names(connection))[1:]:
        await connection.execute(f"DROP TABLE pbscast_log.{name}")

    await asyncio.gather(*(acquire(log, f"site{number}") for number in range(8)))

    assert len(await names(connection)) >= 4


async def test_a_partition_is_as_the_log_is(log: Log, connection: asyncpg.Connection) -> None:
    """Never changed, not even by its own name; keyed and indexed."""
    writer = await acquire(log)
    writer._lease.clock.set(datetime.now(UTC) + timedelta(days=40))
    await writer.append(next(batches(interleaved_lives(), 10)), {})
    for name in await names(connection):
        for change in ("UPDATE {} SET payload = ''", "DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
                await connection.execute(change.format(f"pbscast_log.{name}"))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
            await connection.execute("TRUNCATE pbscast_log.event")
        indexes = await connection.fetch(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = $1::regclass"
            " ORDER BY 1",
            f"pbscast_log.{name}",
        )
        assert [row[0] for row in indexes] == [
            f"pbscast_log.{name}_history",
            f"pbscast_log.{name}_pkey",
        ]
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(
            "INSERT INTO pbscast_log.event SELECT * FROM pbscast_log.event LIMIT 1"
        )


async def test_nobody_makes_more_than_a_year_of_them(connection: asyncpg.Connection) -> None:
    before = await names(connection)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="a year ahead at most"):
        await connection.execute("SELECT pbscast_log.make_partitions('13 months')")
    assert await names(connection) == before


async def test_locks_that_any_role_can_take_keep_nobody_waiting(
    log: Log, log_dsn: str, connection: asyncpg.Connection
) -> None:
    keys = range(31640405171069810, 31640405171069830)
    await connection.execute("SELECT pg_advisory_lock(key) FROM unnest($1::bigint[]) AS key", keys)
    async with asyncio.timeout(30):
        assert (await Log.migrate_at(log_dsn)).found == len(migrations())
        await acquire(log)
