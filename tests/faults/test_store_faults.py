"""The log database dies, connections are cut, holders stall: nothing returned is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import asyncpg
import pytest
from harness.jobs import batches, interleaved_lives
from harness.proxy import cutting_proxy

from pbscast.errors import FencedError, PbscastError, UnavailableError
from pbscast_deploy.embedded import PostgresServer
from pbscast_store import connection as pool_settings
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.writer import SiteWriter


@pytest.fixture
def lives() -> Iterator[list[Draft]]:
    return batches(interleaved_lives(abreast=20), 50)


async def acquire(log: Log, holder: str = "one", ttl: float = 60) -> SiteWriter:
    """Until the server is there and the term of whoever had the site has ended."""
    while True:
        try:
            writer = await log.acquire("sitea", holder, ttl)
        except UnavailableError:
            writer = None
        if writer is not None:
            return writer
        await asyncio.sleep(0.05)


async def test_a_killed_server_keeps_what_was_appended(
    own_postgres: PostgresServer, lives: Iterator[list[Draft]]
) -> None:
    await Log.migrate_at(own_postgres.dsn())
    async with Log.open(own_postgres.dsn()) as log:
        await log.register_site("sitea")
        for _ in range(3):
            writer = await acquire(log)
            appended = asyncio.Event()
            appending = asyncio.create_task(_append_until_it_fails(writer, lives, appended))
            await appended.wait()
            await asyncio.to_thread(own_postgres.kill)
            returned = await appending
            await asyncio.to_thread(own_postgres.start)

            again = await acquire(log)
            assert returned <= again.position <= returned + 50
            assert again.cursor == {"position": again.position}
            records = await log.read("sitea", 0, 1_000_000, max_bytes=2**30)
            assert [r.position for r in records] == list(range(1, again.position + 1))
            lives = _resumed(again.position)


async def _append_until_it_fails(
    writer: SiteWriter, lives: Iterator[list[Draft]], appended: asyncio.Event
) -> int:
    """The last position that an append returned."""
    returned = writer.position
    with suppress(UnavailableError):
        for batch in lives:
            result = await writer.append(batch, {"position": writer.position + len(batch)})
            returned = result.last
            appended.set()
    return returned


def _resumed(position: int) -> Iterator[list[Draft]]:
    lives = interleaved_lives(abreast=20)
    for _ in range(position):
        next(lives)
    return batches(lives, 50)


async def test_the_doorbell_works_again_after_the_server_was_killed(
    own_postgres: PostgresServer, lives: Iterator[list[Draft]]
) -> None:
    await Log.migrate_at(own_postgres.dsn())
    async with Log.open(own_postgres.dsn()) as log, AsyncExitStack() as stack:
        await log.register_site("sitea")
        bell = await stack.enter_async_context(log.watch())
        assert await bell.wait(10) == {"sitea"}
        await asyncio.to_thread(own_postgres.kill)
        assert await bell.wait(0.1) == set()
        await asyncio.to_thread(own_postgres.start)

        assert await bell.wait(20) == {"sitea"}, "what was missed is unknown, so every site"
        await (await acquire(log)).append(next(lives), {})
        assert await bell.wait(20) == {"sitea"}


async def test_a_doorbell_opened_while_the_server_is_down_waits_for_it(
    own_postgres: PostgresServer,
) -> None:
    await Log.migrate_at(own_postgres.dsn())
    async with Log.open(own_postgres.dsn()) as log:
        await log.register_site("sitea")
        await asyncio.to_thread(own_postgres.kill)
        async with log.watch() as bell:
            assert await bell.wait(0.1) == set()
            await asyncio.to_thread(own_postgres.start)
            assert await bell.wait(20) == {"sitea"}


async def test_a_site_is_taken_over_when_its_term_ends(
    log: Log, lives: Iterator[list[Draft]]
) -> None:
    await log.register_site("sitea")
    stalled = await acquire(log, ttl=0.5)
    await stalled.append(next(lives), {"read": 1})

    async with asyncio.timeout(30):
        standby = await acquire(log, "two")

    assert standby.position == stalled.position
    assert standby.cursor == {"read": 1}
    with pytest.raises(FencedError):
        await stalled.append(next(lives), {"read": 2})
    with pytest.raises(UnavailableError):
        await stalled.append(next(lives), {"read": 2})
    await standby.append(next(lives), {"read": 2})
    assert await log.position("sitea") == 100


async def test_a_holder_that_renews_is_not_taken_over(log: Log) -> None:
    await log.register_site("sitea")
    holder = await acquire(log, ttl=60)
    await holder.renew()
    assert await log.acquire("sitea", "two", 60) is None
    (row,) = await log.sites()
    assert (row.name, row.holder, row.epoch) == ("sitea", "one", holder.epoch)


async def test_an_append_cut_off_before_it_arrived_cannot_land_after_a_take_over(
    own_postgres: PostgresServer, lives: Iterator[list[Draft]]
) -> None:
    """The network delays a statement until the same worker has given up and acquired again."""
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    socket = f"{own_postgres.directory}/.s.PGSQL.{own_postgres.port}"
    async with cutting_proxy(socket) as proxy:
        slow_dsn = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        async with Log.open(slow_dsn) as slow, Log.open(dsn) as log:
            await log.register_site("sitea")
            slow_writer = await acquire(slow)
            await slow_writer.append(next(lives), {"read": 1})
            proxy.flowing.clear()
            late = asyncio.create_task(slow_writer.append(next(lives), {"read": 2}))
            await asyncio.sleep(0)

            writer = await acquire(log)
            proxy.flowing.set()

            assert (writer.position, writer.cursor) == (50, {"read": 1})
            with pytest.raises(FencedError):
                await late
            await writer.append(next(lives), {"read": 3})
            assert await log.position("sitea") == 100


async def test_after_a_failure_no_append_that_waits_gets_through(
    log: Log, lives: Iterator[list[Draft]]
) -> None:
    await log.register_site("sitea")
    writer = await acquire(log)
    await acquire(log)

    waiting = [asyncio.create_task(writer.append(next(lives), {"n": n})) for n in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert all(isinstance(result, PbscastError) for result in results)
    assert await log.position("sitea") == 0


async def test_overlapping_appends_keep_the_order_of_the_calls(
    log: Log, lives: Iterator[list[Draft]]
) -> None:
    await log.register_site("sitea")
    writer = await acquire(log)

    tasks = [asyncio.create_task(writer.append(next(lives), {"n": n})) for n in range(10)]
    results = await asyncio.gather(*tasks)

    assert [(r.first, r.last) for r in results] == [(n * 50 + 1, n * 50 + 50) for n in range(10)]
    assert writer.cursor == {"n": 9}
    revisions = [record.revision for record in await log.history("job", "7.sitea")]
    assert revisions == list(range(1, len(revisions) + 1))


async def test_a_database_that_does_not_wait_for_the_disk_is_overruled(
    log: Log, log_dsn: str
) -> None:
    """An append that returned may be published: a crash must not take its positions back."""
    connection = await asyncpg.connect(log_dsn)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await log.register_site("sitea")
    writer = await acquire(log)

    assert await writer._connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.close()


async def test_a_silent_network_blinds_no_reader_for_long(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_settings, "QUERY_TIMEOUT", 0.5)
    await Log.migrate_at(own_postgres.dsn())
    socket = f"{own_postgres.directory}/.s.PGSQL.{own_postgres.port}"
    async with (
        cutting_proxy(socket) as proxy,
        Log.open(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres") as log,
    ):
        proxy.delay = 3_600
        async with asyncio.timeout(30):
            with pytest.raises(UnavailableError, match="no answer in time"):
                await log.sites()
            proxy.delay = 0
            assert await log.sites() == []
