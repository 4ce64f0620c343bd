"""Migrating, refusing what does not fit, least rights, and how the hot reads are planned."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from harness.jobs import batches, interleaved_lives
from harness.servers import Databases, as_role

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
)
from pbscast_deploy.embedded import find_postgres
from pbscast_store.log import Log
from pbscast_store.statements import Migration, migrations, query


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def fetch(dsn: str, statement: str) -> list[Any]:
    """The first column."""
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_an_empty_database_says_how_to_make_a_log(log_databases: Databases) -> None:
    with pytest.raises(UnsupportedError, match="no event log here: run `pbscastd log migrate`"):
        async with Log.open(log_databases.create()):
            pass


async def test_many_may_migrate_at_once_and_again(log_databases: Databases) -> None:
    dsn = log_databases.create()

    versions = await asyncio.gather(*(Log.migrate_at(dsn) for _ in range(4)))

    assert {migrated.version for migrated in versions} == {len(migrations())}
    assert 0 in {migrated.found for migrated in versions}
    assert await Log.migrate_at(dsn) == (len(migrations()), len(migrations()))


async def test_one_step_at_a_time_makes_the_same_schema(
    log_databases: Databases, log_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, steps = log_databases.create(), migrations()
    for step in steps:
        _know(monkeypatch, steps[: step.number])
        await Log.migrate_at(dsn)

    assert _dump(dsn) == _dump(log_dsn)


async def test_steps_are_numbered_without_gaps() -> None:
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))


async def test_an_older_schema_says_how_to_mend_it(
    log_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _know(monkeypatch, (*migrations(), Migration(len(migrations()) + 1, "next", "SELECT 1")))

    with pytest.raises(UnsupportedError, match=r"older than .*: run `pbscastd log migrate`"):
        async with Log.open(log_dsn):
            pass
    await Log.migrate_at(log_dsn)
    async with Log.open(log_dsn):
        pass


async def test_a_newer_schema_is_left_alone(log_dsn: str) -> None:
    await execute(log_dsn, "INSERT INTO pbscast_log.migration VALUES (9999, 'future')")

    with pytest.raises(UnsupportedError, match="9999 is newer"):
        async with Log.open(log_dsn):
            pass
    with pytest.raises(UnsupportedError, match="9999 is newer"):
        await Log.migrate_at(log_dsn)


@pytest.mark.parametrize(
    ("dsn", "error"),
    [
        ("host=here dbname=log", ConfigError),
        ("postgresql://127.0.0.1:notaport/log", ConfigError),
        ("postgresql://alice:hunter2@127.0.0.1:1/log", UnavailableError),
    ],
)
async def test_a_log_that_cannot_be_opened_is_one_line(dsn: str, error: type[PbscastError]) -> None:
    with pytest.raises(error) as raised:
        async with Log.open(dsn):
            pass
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


async def test_a_database_that_is_not_there(log_databases: Databases) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        async with Log.open(log_databases.uri("nowhere")):
            pass


async def test_a_database_that_is_not_unicode(log_databases: Databases) -> None:
    await execute(
        log_databases.admin_dsn,
        "DROP DATABASE IF EXISTS pbscast_test_ascii",
        "CREATE DATABASE pbscast_test_ascii TEMPLATE template0 ENCODING 'SQL_ASCII'"
        " LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    with pytest.raises(UnsupportedError, match="SQL_ASCII"):
        await Log.migrate_at(log_databases.uri("pbscast_test_ascii"))
    log_databases.drop("pbscast_test_ascii")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pbscast_log.event SET payload = '{}'",
        "DELETE FROM pbscast_log.event",
        "TRUNCATE pbscast_log.event",
    ],
)
async def test_not_even_the_owner_changes_an_event(log_dsn: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
        await execute(log_dsn, statement)


@pytest.fixture
async def roles(log_dsn: str) -> AsyncIterator[dict[str, str]]:
    """A DSN for each of two roles with the rights that a daemon needs."""
    names = {"reader": "pbscast_test_reader", "writer": "pbscast_test_writer"}
    for right, name in names.items():
        await execute(
            log_dsn,
            f"CREATE ROLE {name} LOGIN PASSWORD 'x'",
            f"SELECT pbscast_log.grant_{right}('{name}')",
        )
    yield {right: as_role(log_dsn, name) for right, name in names.items()}
    for name in names.values():
        await execute(log_dsn, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_a_writer_may_write_and_a_reader_read(roles: dict[str, str]) -> None:
    batch = next(batches(interleaved_lives(), 20))
    async with Log.open(roles["writer"]) as log:
        await log.register_site("sitea")
        writer = await log.acquire("sitea", "one", 60)
        assert writer is not None
        await writer.append(batch, {})
        await writer.append(batch, {})
        await writer.renew()
        await writer.release()
    async with Log.open(roles["reader"]) as log, log.watch() as bell:
        assert await bell.wait(10) == {"sitea"}
        assert len(await log.read("sitea", 0, 100)) == 40
        assert len(await log.history("job", "7.sitea")) == 2
        with pytest.raises(AccessDeniedError):
            await log.acquire("sitea", "two", 60)


async def test_hot_statements_use_an_index(log_dsn: str) -> None:
    async with Log.open(log_dsn) as log:
        for site in ("sitea", "siteb"):
            await log.register_site(site)
            writer = await log.acquire(site, "one", 60)
            assert writer is not None
            lives = batches(interleaved_lives(site=site), 2500)
            for months in range(2):
                writer._lease.clock.set(datetime.now(UTC) + months * timedelta(days=31))
                await writer.append(next(lives), {})
    filled = await fetch(log_dsn, "SELECT DISTINCT tableoid::regclass::text FROM pbscast_log.event")
    assert len(filled) == 2
    await execute(log_dsn, *(f"ANALYZE {table}" for table in [*filled, "pbscast_log.object"]))

    plans = {name: await _explain(log_dsn, name, arguments) for name, arguments in _HOT.items()}

    for name, index in _INDEXES.items():
        assert re.search(index, plans[name]), (name, plans[name])
        assert "Seq Scan on event" not in plans[name], (name, plans[name])
        assert "Seq Scan on object" not in plans[name], (name, plans[name])
        assert "Seq Scan on life" not in plans[name], (name, plans[name])
    # The server object's whole history must not be sorted before its first event is told.
    assert "Sort  " not in plans["events_of_lives"], plans["events_of_lives"]


_LIFE = "'{7.sitea}', '{1}', '{1}', '{90000}'"
_EVER = "'{-infinity}', '{infinity}'"
_PLACES = f"'job', 'sitea', {_LIFE}, 0, 90000, NULL, NULL, 100, {_EVER}"
_HOT = {
    "read_events": "'sitea', 100, 50, 1000000, '-infinity', 'infinity'",
    "events_at": "'{sitea,siteb}', '{5,6}', '{2026-11-22,2026-11-22}'",
    "life_places_oldest": _PLACES,
    "life_places_newest": _PLACES,
    "scanned_places_oldest": "'job', 'sitea', 0, 90000, NULL, NULL, 100, '-infinity', 'infinity'",
    "last_events": f"'sitea', 'job', {_LIFE}, now(), NULL, 4096, {_EVER}",
    "events_of_lives": f"'sitea', 'job', {_LIFE}, {_EVER}",
    "lives_of": "'{sitea,siteb}', 'job', '{7.sitea}', 'alice', '{siteb}'",
    "moved_lives": "'{sitea,siteb}', '{7.sitea}', 'alice', '{siteb}'",
    "latest_lives": r"'{sitea,siteb}', '{7.sitea}', '{7[}', ARRAY['7\'], '{].sitea}'",
    "array_members": r"'{sitea,siteb}', 'job', '7[', '7\\', '].sitea'",
    "append": "'sitea', 1, 0, 0, '', now(), '{}', '{}', '{}', '{}'",
    "heads": "'sitea', '{job,job}', '{7.sitea,8.sitea}'",
    "object": "'sitea', 'job', '7.sitea'",
    "objects_named": "'sitea', 'job', ARRAY['7.sitea', '8.sitea']",
    "present_ids": "'sitea', 'job', '7', 100",
}
_INDEXES = {
    "read_events": "event_p\\d+_pkey",
    "events_at": "event_p\\d+_pkey",
    "life_places_oldest": "event_p\\d+_history",
    "life_places_newest": "event_p\\d+_history",
    "scanned_places_oldest": "event_p\\d+_pkey",
    "last_events": "event_p\\d+_history",
    "events_of_lives": "event_p\\d+_history",
    "lives_of": "life_pkey",
    "moved_lives": "life_pkey",
    "latest_lives": "(?s)object_pkey.*object_pkey",
    "array_members": "object_pkey",
    "append": "object_pkey",
    "heads": "object_pkey",
    "object": "object_pkey",
    "objects_named": "object_pkey",
    "present_ids": "object_present",
}


async def _explain(dsn: str, name: str, arguments: str) -> str:
    """The generic plan: that of a prepared statement, whatever its arguments."""
    connection = await asyncpg.connect(
        dsn, server_settings={"plan_cache_mode": "force_generic_plan"}
    )
    await connection.execute(f"PREPARE hot AS {query(name)}")
    rows = await connection.fetch(f"EXPLAIN EXECUTE hot ({arguments})")
    await connection.close()
    return "\n".join(row[0] for row in rows)


def _know(monkeypatch: pytest.MonkeyPatch, steps: tuple[Migration, ...]) -> None:
    for module in ("migration", "connection"):
        monkeypatch.setattr(f"pbscast_store.{module}.migrations", lambda: steps)


def _dump(dsn: str) -> list[str]:
    """All of the schema as the server tells it."""
    servers = find_postgres()
    dump = subprocess.run(
        [servers[max(servers)] / "pg_dump", "--schema-only", "--schema=pbscast_log", dsn],
        check=True,
        capture_output=True,
        text=True,
    )
    return [line for line in dump.stdout.splitlines() if "restrict " not in line]
