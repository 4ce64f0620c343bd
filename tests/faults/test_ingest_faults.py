"""Ingest against deaths, cuts and stalls of everything around it: each change once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from time import monotonic

import psycopg
import pytest
from harness.ingesting import assert_gapless, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer
from harness.proxy import cutting_proxy
from harness.servers import frozen

from pbscast.errors import UnavailableError
from pbscast.events import EventName, Kind
from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest.capture import install
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.faults import DatastoreUnavailableError
from pbscast_ingest.reader import Journal
from pbscast_ingest.status import WorkerState
from pbscast_ingest.worker import SiteWorker
from pbscast_store.log import Log
from pbscast_store.records import Record
from pbscast_store.writer import SiteWriter


@pytest.fixture
def own_datastore(own_postgres: PostgresServer) -> str:
    dsn = create_datastore(own_postgres.dsn(), "pbs_datastore")
    install(dsn, site="sitea")
    return dsn


def _events(records: list[Record], job: str) -> list[str]:
    return [record.event for record in records if record.id == job]


def _finalized(*jobs: str) -> Callable[[list[Record]], bool]:
    return lambda records: all("finalize" in _events(records, job) for job in jobs)


def _submitted(job: str) -> Callable[[list[Record]], bool]:
    return lambda records: "submit" in _events(records, job)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a status has no event to wait for
        await asyncio.sleep(0.02)


async def _reach(worker: SiteWorker, state: WorkerState) -> None:
    await _until(lambda: worker.status.state is state)


async def _complaint(worker: SiteWorker) -> str:
    await _until(lambda: worker.status.error is not None)
    assert worker.status.error is not None
    assert "\n" not in worker.status.error
    return worker.status.error


async def test_transaction_ids_given_out_again_after_a_crash(
    log: Log, own_postgres: PostgresServer, own_datastore: str
) -> None:
    """The id of a transaction that rolled back comes again when PostgreSQL is killed."""
    _flush_late(own_datastore)
    async with ingesting(log, own_datastore):
        await wait_for(log, is_resynced)
        with PbsServer(own_datastore) as pbs:
            pbs.submit("1.s")
        await wait_for(log, _submitted("1.s"))
        while not await _are_given_out_again(own_postgres, own_datastore):
            pass
        with PbsServer(own_datastore) as pbs:
            pbs.finish("1.s")
            pbs.submit("2.s")
            pbs.finish("2.s")
        records = await wait_for(log, _finalized("1.s", "2.s"))
    assert_gapless(records)
    assert _events(records, "1.s") == ["submit", "state", "finalize"]
    assert _events(records, "2.s") == ["submit", "state", "finalize"]


async def _are_given_out_again(server: PostgresServer, dsn: str) -> bool:
    """Whether PostgreSQL forgot ids in a crash: not if it has just flushed something later."""
    with psycopg.connect(dsn) as other:
        ids = [_next_id(other) for _ in range(20)]
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    with psycopg.connect(dsn) as other:
        return _next_id(other) <= ids[-1]


def _flush_late(dsn: str) -> None:
    """What no commit waits for is not flushed soon."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        connection.execute("SELECT pg_reload_conf()")


def _next_id(connection: psycopg.Connection) -> int:
    (number,) = connection.execute("SELECT txid_current()").fetchone() or (0,)
    connection.rollback()
    return int(number)


async def test_a_datastore_that_stops_and_starts(
    log: Log, own_postgres: PostgresServer, own_datastore: str
) -> None:
    async with ingesting(log, own_datastore) as worker:
        await wait_for(log, is_resynced)
        await asyncio.to_thread(own_postgres.stop)
        await wait_for(log, lambda records: "down" in _events(records, "sitea"))
        await _reach(worker, WorkerState.CONNECTING)
        assert await _complaint(worker)
        await asyncio.to_thread(own_postgres.start)
        with PbsServer(own_datastore) as pbs:
            pbs.submit("1.s")
            pbs.finish("1.s")
        records = await wait_for(log, _finalized("1.s"))
        await _reach(worker, WorkerState.FOLLOWING)
        assert worker.status.error is None
    assert _events(records, "sitea") == ["up", "resync", "down", "up"]
    assert EventName.GAP not in {record.event for record in records}


async def test_a_heartbeat_that_was_answered_survives_a_crash(
    own_postgres: PostgresServer, own_datastore: str
) -> None:
    _flush_late(own_datastore)
    async with Journal.open(own_datastore) as journal:
        await journal.heartbeat()
        page = await journal.page(Cursor())
        await asyncio.to_thread(own_postgres.kill)
    await asyncio.to_thread(own_postgres.start)
    async with Journal.open(own_datastore) as journal:
        again = await journal.page(Cursor())
    assert [row.seq for row in page.rows] == [row.seq for row in again.rows] != []


async def test_a_datastore_that_hangs(
    log: Log, own_postgres: PostgresServer, own_datastore: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbscast_ingest.datastore.ANSWER_SECONDS", 1.0)
    async with ingesting(log, own_datastore) as worker:
        await wait_for(log, is_resynced)
        with frozen(own_postgres):
            assert "no answer" in await _complaint(worker)
            await wait_for(log, lambda records: "down" in _events(records, "sitea"))
        with PbsServer(own_datastore) as pbs:
            pbs.submit("1.s")
        records = await wait_for(log, _submitted("1.s"))
    assert_gapless(records)


async def test_a_datastore_that_hangs_while_its_tables_are_read(
    own_postgres: PostgresServer, own_datastore: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving a table early asks the server once more, and that hangs as well."""
    monkeypatch.setattr("pbscast_ingest.datastore.ANSWER_SECONDS", 0.5)
    with PbsServer(own_datastore) as pbs:
        for number in range(60):
            pbs.submit(f"{number}.s")
    async with Journal.open(own_datastore) as journal:
        await journal.identify()
        async with asyncio.timeout(30):
            with pytest.raises(DatastoreUnavailableError, match="no answer"):
                await _hang_in_a_table(journal, own_postgres)


async def _hang_in_a_table(journal: Journal, server: PostgresServer) -> None:
    async with AsyncExitStack() as stack:
        snapshot = await stack.enter_async_context(journal.snapshot())
        rows = await stack.enter_async_context(aclosing(snapshot.rows(Kind.JOB)))
        await anext(rows)
        stack.enter_context(frozen(server))
        await rows.aclose()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_connections_cut_at_any_byte(
    log: Log, own_postgres: PostgresServer, own_datastore: str, direction: str
) -> None:
    jobs = [f"{number}.s" for number in range(40)]
    target = ("127.0.0.1", own_postgres.port)
    async with cutting_proxy(target) as proxy:
        direct = own_postgres.dsn("pbs_datastore", tcp=True)
        dsn = direct.replace(f":{own_postgres.port}/", f":{proxy.port}/")
        async with ingesting(log, dsn):
            await wait_for(log, is_resynced)
            with PbsServer(own_datastore) as pbs:
                for number, job in enumerate(jobs):
                    proxy.cut_after(37 * number, direction)  # type: ignore[arg-type]
                    pbs.submit(job)
                    pbs.save(job, "R/42")
                    pbs.finish(job)
                    await asyncio.sleep(0.02)
            records = await wait_for(log, _finalized(*jobs))
    assert_gapless(records)
    for job in jobs:
        assert _events(records, job) == ["submit", "state", "state", "finalize"]


async def test_a_second_worker_takes_over_from_a_dead_one(log: Log, datastore_dsn: str) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="sitea")
    first = SiteWorker(log, "sitea", datastore_dsn, "first", ttl=1.0)
    working = asyncio.create_task(first.run())
    await wait_for(log, is_resynced)
    async with ingesting(log, datastore_dsn, holder="second", ttl=1.0) as second:
        await _reach(second, WorkerState.STANDBY)
        with PbsServer(datastore_dsn) as pbs:
            for number in range(50):
                pbs.submit(f"{number}.s")
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            for number in range(50):
                pbs.finish(f"{number}.s")
        await _reach(second, WorkerState.FOLLOWING)
        records = await wait_for(log, _finalized(*(f"{number}.s" for number in range(50))))
    assert_gapless(records)
    for number in range(50):
        assert _events(records, f"{number}.s") == ["submit", "state", "finalize"]


async def test_two_workers_of_one_name_do_not_take_turns_in_haste(
    log: Log, datastore_dsn: str
) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="sitea")
    async with ingesting(log, datastore_dsn, ttl=1.5), ingesting(log, datastore_dsn, ttl=1.5):
        await wait_for(log, is_resynced)
        (before,) = await log.sites()
        await asyncio.sleep(2)
        (after,) = await log.sites()
    assert after.epoch - before.epoch <= 8


async def test_one_renewal_that_fails_costs_nothing(
    log: Log, datastore_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="sitea")
    renew, failed, renewed = SiteWriter.renew, asyncio.Event(), asyncio.Event()

    async def fail_once(self: SiteWriter) -> None:
        if not failed.is_set():
            failed.set()
            raise UnavailableError("log: gone for a moment")
        await renew(self)
        renewed.set()

    monkeypatch.setattr(SiteWriter, "renew", fail_once)
    async with ingesting(log, datastore_dsn, ttl=6.0) as worker:
        await wait_for(log, is_resynced)
        (before,) = await log.sites()
        await renewed.wait()
        (after,) = await log.sites()
        assert worker.status.error is None
    assert after.epoch == before.epoch


async def test_a_log_that_is_restarted(own_postgres: PostgresServer, datastore_dsn: str) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="sitea")
    with psycopg.connect(own_postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE log TEMPLATE template0 ENCODING 'UTF8'")
    await Log.migrate_at(own_postgres.dsn("log"))
    async with Log.open(own_postgres.dsn("log")) as log, ingesting(log, datastore_dsn, ttl=1.0):
        await wait_for(log, is_resynced)
        with PbsServer(datastore_dsn) as pbs:
            pbs.submit("1.s")
            await asyncio.to_thread(own_postgres.kill)
            pbs.save("1.s", "R/42")
            await asyncio.to_thread(own_postgres.start)
            pbs.finish("1.s")
    async with Log.open(own_postgres.dsn("log")) as log, ingesting(log, datastore_dsn, ttl=1.0):
        records = await wait_for(log, _finalized("1.s"))
    assert_gapless(records)
    assert _events(records, "1.s") == ["submit", "state", "state", "finalize"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DROP EXTENSION hstore CASCADE", "hstore"),
        ("DROP SCHEMA pbscast CASCADE", "source install"),
        ("UPDATE pbs.info SET pbs_schema_version = '9.0.0'", "9.0.0"),
        ("UPDATE pbs.info SET pbs_schema_version = '1.6.0'", "1.6.0"),
        ("UPDATE pbscast.installation SET version = 99", "version 99"),
    ],
)
async def test_what_is_wrong_is_shown_in_one_line(
    log: Log, datastore_dsn: str, change: str, words: str
) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="sitea")
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        connection.execute(change)
    async with ingesting(log, datastore_dsn) as worker:
        assert words in await _complaint(worker)


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("postgresql://nobody@127.0.0.1:1/x", "127.0.0.1"),
        ("postgresql://postgres@/no_such_database?host={host}", "no_such_database"),
        ("postgresql://no_such_role@/postgres?host={host}", "no_such_role"),
        ("host=", "datastore"),
        ("nonsense", "malformed"),
    ],
)
async def test_a_datastore_that_cannot_be_reached(
    log: Log, own_postgres: PostgresServer, dsn: str, words: str
) -> None:
    host = own_postgres.dsn().partition("host=")[2]
    async with ingesting(log, dsn.format(host=host)) as worker:
        assert words in await _complaint(worker)
        assert worker.status.state is WorkerState.CONNECTING


async def test_the_host_that_answers_is_found(
    log: Log, own_postgres: PostgresServer, own_datastore: str
) -> None:
    direct = own_postgres.dsn("pbs_datastore", tcp=True)
    address = f"127.0.0.1:{own_postgres.port}"
    both = direct.replace(address, f"127.0.0.1:1,{address}")
    async with ingesting(log, both):
        await wait_for(log, is_resynced)


async def test_without_a_doorbell_events_come_soon(log: Log, datastore_dsn: str) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="sitea", notify=False)
    async with ingesting(log, datastore_dsn):
        await wait_for(log, is_resynced)
        with PbsServer(datastore_dsn) as pbs:
            took: list[float] = []
            for number in range(20):
                begun = monotonic()
                pbs.submit(f"{number}.s")
                await wait_for(log, _submitted(f"{number}.s"))
                took.append(monotonic() - begun)
    # Each is submitted as soon as the one before is read: a longer interval would show in all.
    assert sorted(took)[len(took) // 2] < 0.9
