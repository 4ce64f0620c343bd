"""An older log that is full: migrated while others read and write, and what it tells afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice

import asyncpg
import pytest
from harness.chain import leaf_of
from harness.jobs import batches, interleaved_lives
from harness.older_log import OlderLog
from harness.servers import Databases, as_role

from pbscast.errors import AccessDeniedError, FencedError, UnavailableError, UnsupportedError
from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    Payload,
    Provenance,
    Reason,
)
from pbscast_store import chain, migration
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.statements import Migration, migrations

START = datetime(2026, 11, 22, tzinfo=UTC)
SITES = ("sitea", "siteb")


@pytest.fixture
def older_dsn(log_databases: Databases) -> str:
    return log_databases.create()


@pytest.fixture
async def older(older_dsn: str) -> AsyncIterator[OlderLog]:
    """Two sites, with lives of all sorts."""
    connection = await asyncpg.connect(older_dsn)
    older = OlderLog(connection)
    await older.make()
    for site in SITES:
        await older.acquire(site)
        for batch in _told(site):
            await older.append(site, batch)
    yield older
    await connection.close()


def _told(site: str) -> Iterable[list[Draft]]:
    yield from islice(batches(interleaved_lives(abreast=50, site=site), 40), 15)
    yield list(_odd_lives())


def _odd_lives() -> Iterable[Draft]:
    """Ends that are late, missing, repeated or nobody's; what is no job; a clock that goes back."""
    yield _draft("over.s", 1, ChangePayload(state="Q"), EventName.SUBMIT, begins=True)
    yield _draft("over.s", 2, ChangePayload(state="R", owner="alice"))
    yield _draft("over.s", 3, FinalizePayload(state="F", reason=Reason.FAILED, exit_status=1))
    yield _draft("over.s", 4, ChangePayload(state="F"), EventName.PURGE, ends=True)
    yield _draft("over.s", 5, ChangePayload(state="Q"), EventName.SUBMIT, begins=True)
    yield _draft("lost.s", 9, ChangePayload(state="Q", queue="one"), EventName.SUBMIT, begins=True)
    yield _draft("lost.s", 7, ChangePayload(state="T", queue="two"), EventName.SUBMIT, begins=True)
    yield _draft("back.s", 9, ChangePayload(state="Q"), EventName.SUBMIT, begins=True)
    yield _draft("back.s", 6, FinalizePayload(reason=Reason.DELETED), ends=True)
    yield _draft("kept.s", 1, ChangePayload(state="Q"), EventName.SUBMIT, begins=True)
    yield _draft("kept.s", 2, FinalizePayload(state="F", reason=Reason.FINISHED, exit_status=0))
    yield _draft("kept.s", 3, ChangePayload(state="F"), EventName.MODIFY)
    for at, state in enumerate(("free", "offline", "free")):
        yield _draft("n1", at, ChangePayload(state=state), EventName.MODIFY, Kind.NODE)
    yield _draft("q1", 1, ChangePayload(), EventName.CREATE, Kind.QUEUE)
    yield _draft("q1", 2, ChangePayload(), EventName.DELETE, Kind.QUEUE, ends=True)
    yield _draft("s", 3, GapPayload(cause="paused"), EventName.GAP, Kind.SITE)


def _draft(
    object_id: str,
    at: int,
    payload: Payload,
    event: EventName = EventName.STATE,
    kind: Kind = Kind.JOB,
    *,
    begins: bool = False,
    ends: bool = False,
) -> Draft:
    if isinstance(payload, FinalizePayload):
        event = EventName.FINALIZE
    time = START + timedelta(seconds=at)
    return Draft(kind, object_id, event, time, Provenance.JOURNAL, payload, begins, None, ends)


async def test_a_full_log_is_migrated_while_it_is_read(older: OlderLog, older_dsn: str) -> None:
    before = {site: await older.read(site, 0) for site in SITES}
    file = await older.connection.fetchval("SELECT pg_relation_filenode('pbscast_log.event')")
    reading = asyncio.create_task(_read_on(older_dsn, [len(rows) for rows in before.values()]))

    migrated = await Log.migrate_at(older_dsn)

    assert not reading.done()
    reading.cancel()
    assert migrated == (1, len(migrations()))
    assert {site: await older.read(site, 0) for site in SITES} == before
    files = "SELECT pg_relation_filenode(inhrelid) FROM pg_inherits WHERE inhparent = $1::regclass"
    partitions = await older.connection.fetch(files, "pbscast_log.event")
    assert file in [row[0] for row in partitions], "the table was rewritten"
    assert len(partitions) >= 4


async def _read_on(dsn: str, sizes: list[int]) -> None:
    """As a fan-out of the older release goes on doing."""
    connection = await asyncpg.connect(dsn)
    reader = OlderLog(connection)
    try:
        while True:
            assert [len(await reader.read(site, 0)) for site in SITES] == sizes
    finally:
        await connection.close()


async def test_the_chain_begins_where_the_older_log_ends(older: OlderLog, older_dsn: str) -> None:
    await Log.migrate_at(older_dsn)

    end = older.tails["sitea"].position
    after = await older.connection.fetchval("SELECT chained_after FROM pbscast_log.site LIMIT 1")
    assert after == end
    async with Log.open(older_dsn) as log:
        assert {record.digest for record in await log.read("sitea", 0, end)} == {None}
        writer = await log.acquire("sitea", "older", 60)
        assert writer is not None
        assert (writer.position, writer.cursor) == (end, {"position": end})
        await writer.append(list(_odd_lives()), {})
        first, second, *_ = await log.read("sitea", end, 10)
        assert first.digest == chain.link(chain.GENESIS, leaf_of(first))
        assert second.digest == chain.link(first.digest, leaf_of(second))


async def test_lives_are_told_as_if_they_had_been_logged_today(
    older: OlderLog, older_dsn: str, log_dsn: str
) -> None:
    async with Log.open(log_dsn) as log:
        for site in SITES:
            await log.register_site(site)
            writer = await log.acquire(site, "one", 60)
            assert writer is not None
            for batch in _told(site):
                await writer.append(batch, {})

    await Log.migrate_at(older_dsn)

    for table in ("life", "lives", "object"):
        migrated, today = [await _rows(dsn, table) for dsn in (older_dsn, log_dsn)]
        assert len(today) > 10
        assert migrated == today


async def _rows(dsn: str, table: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        f"SELECT to_jsonb(t)::text FROM pbscast_log.{table} AS t ORDER BY 1"
    )
    await connection.close()
    return [row[0] for row in rows]


async def test_a_writer_of_the_older_release_writes_no_more(
    older: OlderLog, older_dsn: str
) -> None:
    lives = batches(interleaved_lives(site="sitea"), 20)
    writing = asyncio.create_task(_append_until_refused(older, lives))

    await Log.migrate_at(older_dsn)

    async with asyncio.timeout(30):
        await writing
    end = older.tails["sitea"].position
    await older.acquire("sitea")
    with pytest.raises(asyncpg.PostgresError):
        await older.append("sitea", next(lives))
    async with Log.open(older_dsn) as log:
        assert await log.position("sitea") == end
        records = await log.read("sitea", 0, 100_000, max_bytes=2**30)
        assert [record.position for record in records] == list(range(1, end + 1))


async def _append_until_refused(older: OlderLog, lives: Iterator[list[Draft]]) -> None:
    with suppress(asyncpg.PostgresError):  # or its types are gone before it gets to the fence
        while await older.append("sitea", next(lives)):
            pass


async def test_a_writer_of_an_older_schema_is_told_so(
    log_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Log.open(log_dsn) as log:
        await log.register_site("sitea")
        writer = await log.acquire("sitea", "one", 60)
        assert writer is not None
        next_step = Migration(len(migrations()) + 1, "next", "SELECT 1")
        with monkeypatch.context() as later:
            later.setattr("pbscast_store.migration.migrations", lambda: (*migrations(), next_step))
            later.setattr("pbscast_store.connection.migrations", lambda: (*migrations(), next_step))
            await Log.migrate_at(log_dsn)

        with pytest.raises(FencedError):
            await writer.append(list(_odd_lives()), {})
        with pytest.raises(UnsupportedError, match="newer than this release"):
            await log.acquire("sitea", "one", 60)
        (site,) = await log.sites()
        assert site.holder is None


async def test_a_long_reading_delays_a_migration_and_nobody_else(
    older: OlderLog, older_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await asyncpg.connect(older_dsn)
    async with reader.transaction():
        await reader.execute("SELECT count(*) FROM pbscast_log.event")
        monkeypatch.setattr(migration, "PATIENCE", 0)
        with pytest.raises(UnavailableError, match=r"in use.*migrate again"):
            await Log.migrate_at(older_dsn)
        assert await older.append("sitea", _odd_lives()), "nothing was changed"

        monkeypatch.setattr(migration, "PATIENCE", 60)
        migrating = asyncio.create_task(Log.migrate_at(older_dsn))
        async with asyncio.timeout(30):
            await older.read("sitea", 0)
        assert not migrating.done()
    await reader.close()
    assert await migrating == (1, len(migrations()))


async def test_rights_outlive_a_migration(older: OlderLog, older_dsn: str) -> None:
    roles = {"reader": "pbscast_test_old_reader", "writer": "pbscast_test_old_writer"}
    for right, name in roles.items():
        await older.connection.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD 'x'; SELECT pbscast_log.grant_{right}('{name}')"
        )
    await Log.migrate_at(older_dsn)

    async with Log.open(as_role(older_dsn, roles["writer"])) as log:
        writer = await log.acquire("sitea", "older", 60)
        assert writer is not None
        await writer.append(list(_odd_lives()), {})
    async with Log.open(as_role(older_dsn, roles["reader"])) as log:
        assert await log.read("sitea", 0, 1)
        with pytest.raises(AccessDeniedError):
            await log.acquire("sitea", "older", 60)
    for name in roles.values():
        await older.connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
