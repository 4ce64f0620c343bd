"""Gaps are told and mended: what the datastore holds and the log does not is logged in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from harness.ingesting import (
    as_reader,
    assert_gapless,
    every_record,
    ingesting,
    is_resynced,
    wait_for,
)
from harness.pbs import PbsServer
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pbscast.events import Change, EventName, Finalize, Gap, Kind, Provenance, Reason, Resync
from pbscast_ingest import resync, session
from pbscast_ingest.capture import install, pause, resume, uninstall, upgrade
from pbscast_ingest.condition import CHANGED
from pbscast_ingest.worker import SiteWorker
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import ObjectState, Record
from pbscast_store.writer import AppendResult, SiteWriter


@pytest.fixture
def pbs(captured: str) -> Iterator[PbsServer]:
    with PbsServer(captured) as server:
        yield server


@pytest.fixture
async def worker(log: Log, captured: str) -> AsyncIterator[SiteWorker]:
    async with ingesting(log, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        yield worker


def _names(records: list[Record], job: str) -> list[str]:
    return [record.event for record in records if record.id == job]


def _resyncs(count: int) -> Callable[[list[Record]], bool]:
    return lambda records: sum(r.event == EventName.RESYNC for r in records) >= count


def _told(job: str, event: EventName) -> Callable[[list[Record]], bool]:
    return lambda records: event in _names(records, job)


def _gaps(records: list[Record]) -> list[Gap]:
    return [event for r in records if isinstance(event := r.decode(), Gap)]


def _last_end(records: list[Record], job: str) -> Finalize:
    event = next(r for r in reversed(records) if r.id == job and r.event == "finalize").decode()
    assert isinstance(event, Finalize)
    return event


async def test_first_contact_is_a_resync_without_a_gap(log: Log, datastore_dsn: str) -> None:
    with PbsServer(datastore_dsn) as pbs:
        pbs.submit("1.s", "R/42")
        pbs.submit("2.s", "F/93", Exit_status="7", history_timestamp="1")
        install(datastore_dsn, site="sitea")
        pbs.save("1.s", "E/50", Exit_status="0")
        pbs.submit("3.s")
    async with ingesting(log, as_reader(datastore_dsn)):
        records = await wait_for(log, is_resynced)
    assert_gapless(records)
    assert _names(records, "1.s") == ["submit", "state", "modify"]
    assert _names(records, "2.s") == ["submit", "finalize"]
    assert _last_end(records, "2.s").reason is Reason.FAILED
    assert _names(records, "3.s") == ["submit"]
    first = next(r for r in records if r.id == "1.s").decode()
    assert isinstance(first, Change)
    assert (first.provenance, first.state) == (Provenance.RESYNC, "R")
    state = await log.object("sitea", Kind.JOB, "1.s")
    assert state is not None
    assert state.attributes.items() >= {"Job_Name": "n", "job_state": "E"}.items()
    assert _gaps(records) == []


HOSTILE = (
    "hstore(pbs.job) RETURNS {0}.hstore",
    "hstore(anyelement) RETURNS {0}.hstore",
    "hstore_to_array(pbs.job) RETURNS text[]",
    "delete({0}.hstore, varchar[]) RETURNS {0}.hstore",
    "txid_current() RETURNS bigint",
    "statement_timestamp() RETURNS timestamptz",
    "octet_length(text) RETURNS integer",
    "pg_total_relation_size(text) RETURNS bigint",
)
"""Better matches than what is meant, or found before it where the schema is searched first."""


@pytest.mark.parametrize("schema", ["public", 'Odd "schema"'])
async def test_nobody_elses_functions_are_called(log: Log, datastore_dsn: str, schema: str) -> None:
    """As anybody may put them beside hstore's where a database was made before PostgreSQL 15."""
    name = sql.Identifier(schema)
    with psycopg.connect(datastore_dsn, autocommit=True) as db, PbsServer(datastore_dsn) as pbs:
        pbs.submit("1.s")
        install(datastore_dsn, site="sitea")
        if schema != "public":
            db.execute(sql.SQL("CREATE SCHEMA {}").format(name))
            db.execute(sql.SQL("ALTER EXTENSION hstore SET SCHEMA {}").format(name))
            install(datastore_dsn, site="sitea")
        for form in HOSTILE:
            head = sql.SQL("CREATE FUNCTION {0}." + form).format(name)
            body = sql.SQL(" LANGUAGE plpgsql AS 'BEGIN RAISE ''called''; END'")
            db.execute(head + body)
        database = sql.Identifier(db.info.dbname)
        searched = sql.SQL("ALTER DATABASE {} SET search_path = {}, pg_catalog")
        db.execute(searched.format(database, name))
    async with ingesting(log, as_reader(datastore_dsn)):
        records = await wait_for(log, is_resynced)
    assert _names(records, "1.s") == ["submit"]


async def test_triggers_that_were_gone(
    log: Log, captured: str, pbs: PbsServer, worker: SiteWorker
) -> None:
    for job in ("1.s", "2.s", "3.s"):
        pbs.submit(job)
    pbs.finish("3.s")
    await wait_for(log, _told("3.s", EventName.FINALIZE))
    pbs.connection.execute("DROP TRIGGER pbscast_row ON pbs.job")
    pbs.save("1.s", "R/42")
    pbs.delete("2.s")
    pbs.delete("3.s")
    pbs.submit("4.s")
    await asyncio.to_thread(install, captured, site="sitea")
    pbs.save("1.s", "E/50")
    records = await wait_for(log, _resyncs(2))
    assert_gapless(records)
    (gap,) = _gaps(records)
    assert (gap.cause, gap.begin is not None, gap.end is not None) == ("triggers", True, True)
    assert _last_end(records, "2.s").reason is Reason.VANISHED
    assert _names(records, "3.s")[-1] == "purge"
    assert _names(records, "4.s") == ["submit"]
    resync = next(r for r in reversed(records) if r.event == "resync").decode()
    assert isinstance(resync, Resync)
    assert (resync.appeared, resync.vanished) == (1, 2)
    state = await log.object("sitea", Kind.JOB, "1.s")
    assert state is not None
    assert (state.state, state.incarnation) == ("E", 1)


_AS_AN_OLDER_RELEASE = """
    DO $$ BEGIN
        EXECUTE replace(pg_get_functiondef('pbscast.ring()'::regprocedure), 'BEGIN', 'BEGIN ');
        REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pbscast FROM PUBLIC;
        GRANT ALL ON SCHEMA pbscast TO pbscast_owner;
        UPDATE pbscast.installation SET functions = pbscast.functions(), script = 'older';
    END $$
"""


@pytest.mark.parametrize("before", ["SELECT", _AS_AN_OLDER_RELEASE], ids=["same", "older"])
async def test_an_upgrade_that_loses_nothing_is_no_gap(
    log: Log, captured: str, pbs: PbsServer, before: str
) -> None:
    pbs.connection.execute(before.encode())
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s")
        await asyncio.to_thread(upgrade, captured, site="sitea")
        pbs.save("1.s", "R/42")
        await wait_for(log, _told("1.s", EventName.STATE))
    async with ingesting(log, as_reader(captured)):  # which looks at once
        pbs.finish("1.s")
        await wait_for(log, _told("1.s", EventName.FINALIZE))
    records = await every_record(log)
    assert _names(records, "1.s") == ["submit", "state", "state", "finalize"]
    assert _names(records, "sitea") == ["up", "resync"]


async def test_an_installation_after_a_gap_that_was_told_is_no_other(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
    touch = "REVOKE ALL ON {0} FROM pbscast_owner; GRANT ALL ON {0} TO pbscast_owner"
    pbs.connection.execute(touch.format("SCHEMA pbscast").encode())
    pbs.connection.execute(touch.format("ALL FUNCTIONS IN SCHEMA pbscast").encode())
    for turn in range(2):
        async with ingesting(log, as_reader(captured)):
            await wait_for(log, _resyncs(2))
        for _ in range(turn + 1):
            await asyncio.to_thread(install, captured, site="sitea", notify=False)
    # What is touched before an installation is not hidden by it.
    pbs.connection.execute(touch.format("ALL FUNCTIONS IN SCHEMA pbscast").encode())
    await asyncio.to_thread(install, captured, site="sitea")
    async with ingesting(log, as_reader(captured)):
        records = await wait_for(log, _resyncs(3))
    assert [gap.cause for gap in _gaps(records)] == [CHANGED, CHANGED]


async def test_a_function_that_was_another_for_a_while(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
    query = "SELECT pg_get_functiondef('pbscast.capture_job()'::regprocedure)"
    (ours,) = pbs.connection.execute(query).fetchone() or (b"",)
    pbs.connection.execute(
        "CREATE OR REPLACE FUNCTION pbscast.capture_job() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'"
    )
    pbs.submit("1.s")
    pbs.connection.execute(ours)
    async with ingesting(log, as_reader(captured)):
        records = await wait_for(log, _resyncs(2))
    assert [gap.cause for gap in _gaps(records)] == [CHANGED]
    assert _names(records, "1.s") == ["submit"]


async def test_a_truncate_ends_what_was_there(log: Log, pbs: PbsServer, worker: SiteWorker) -> None:
    pbs.submit("1.s", "R/42")
    await wait_for(log, _told("1.s", EventName.SUBMIT))
    pbs.connection.execute("TRUNCATE pbs.job, pbs.queue, pbs.node")
    records = await wait_for(log, _resyncs(2))
    assert _last_end(records, "1.s").reason is Reason.VANISHED
    assert [gap.cause for gap in _gaps(records)] == ["tables of PBS were truncated"]


async def test_an_object_that_was_renamed(log: Log, pbs: PbsServer, worker: SiteWorker) -> None:
    pbs.submit("1.s", "R/42")
    await wait_for(log, _told("1.s", EventName.SUBMIT))
    pbs.connection.execute("UPDATE pbs.job SET ji_jobid = '2.s'")
    records = await wait_for(log, _resyncs(2))
    assert [gap.cause for gap in _gaps(records)] == ["job 1.s was renamed 2.s"]
    assert _last_end(records, "1.s").reason is Reason.VANISHED
    state = await log.object("sitea", Kind.JOB, "2.s")
    assert state is not None
    assert (state.state, state.gone) == ("R", False)


async def test_a_pause(log: Log, captured: str, pbs: PbsServer, worker: SiteWorker) -> None:
    pbs.submit("1.s")
    await asyncio.to_thread(pause, captured, "maintenance")
    paused = datetime.now(UTC)
    pbs.save("1.s", "R/42")
    await wait_for(log, _told("sitea", EventName.DOWN))
    resuming = datetime.now(UTC)
    await asyncio.to_thread(resume, captured)
    records = await wait_for(log, _resyncs(2))
    (gap,) = _gaps(records)
    assert gap.begin is not None
    assert gap.end is not None
    assert gap.begin <= paused < resuming <= gap.end
    assert _names(records, "1.s") == ["submit", "state"]
    assert _names(records, "sitea")[-3:] == ["gap", "up", "resync"]


async def test_a_pause_that_ends_while_nobody_reads_is_one_gap(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        await asyncio.to_thread(pause, captured, "maintenance")
        await wait_for(log, _told("sitea", EventName.DOWN))
    pbs.submit("1.s")
    await asyncio.to_thread(resume, captured)
    for number in range(2, 1500):
        pbs.submit(f"{number}.s")
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, _told("1499.s", EventName.SUBMIT))
        await wait_for(log, _resyncs(2))
    names = _names(await every_record(log), "sitea")
    assert names == ["up", "resync", "down", "gap", "up", "resync"]


async def test_a_save_under_way_while_capture_resumes(
    log: Log, captured: str, pbs: PbsServer, worker: SiteWorker
) -> None:
    pbs.submit("1.s")
    await asyncio.to_thread(pause, captured, "maintenance")
    with pbs.connection.transaction():
        pbs.save("1.s", "R/42")
        await asyncio.to_thread(resume, captured)
        await wait_for(log, _told("sitea", EventName.GAP))
        await asyncio.sleep(0.5)
    records = await wait_for(log, _resyncs(2))
    assert _names(records, "1.s") == ["submit", "state"]


async def test_a_gap_and_the_move_past_its_marker_are_one_append(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies after any append leaves nothing to be told twice."""
    tops: list[tuple[int, bool]] = []
    append = SiteWriter.append

    async def watched(
        self: SiteWriter, drafts: Sequence[Draft], cursor: dict[str, Any]
    ) -> AppendResult:
        tops.append((cursor["top"], any(draft.event is EventName.GAP for draft in drafts)))
        return await append(self, drafts, cursor)

    monkeypatch.setattr(SiteWriter, "append", watched)
    # The marker is looked for in the journal afterwards.
    monkeypatch.setattr(session, "TRIM_SECONDS", 600)
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        await asyncio.to_thread(pause, captured, "maintenance")
        await wait_for(log, _told("sitea", EventName.DOWN))
        await asyncio.to_thread(resume, captured)
        await wait_for(log, _resyncs(2))
    (told,) = [index for index, (_, is_gap) in enumerate(tops) if is_gap]
    with psycopg.connect(captured) as connection:
        marker = connection.execute("SELECT max(seq) FROM pbscast.journal WHERE op = 'G'")
        (seq,) = marker.fetchone() or (0,)
    assert tops[told][0] >= seq > tops[told - 1][0]


async def test_changes_that_could_not_be_journaled(
    log: Log, captured: str, pbs: PbsServer, worker: SiteWorker
) -> None:
    pbs.submit("1.s")
    await wait_for(log, _told("1.s", EventName.SUBMIT))
    with psycopg.connect(captured) as other:
        other.execute("LOCK TABLE pbscast.journal IN EXCLUSIVE MODE")
        pbs.save("1.s", "R/42")
    records = await wait_for(log, _resyncs(2))
    assert _names(records, "1.s") == ["submit", "state"]
    assert len(_gaps(records)) == 1


async def test_capture_installed_anew(
    log: Log, captured: str, pbs: PbsServer, worker: SiteWorker
) -> None:
    pbs.submit("1.s")
    pbs.submit("2.s")
    await wait_for(log, _told("2.s", EventName.SUBMIT))
    await asyncio.to_thread(uninstall, captured)
    pbs.delete("1.s")
    pbs.submit("1.s")
    await asyncio.to_thread(install, captured, site="sitea")
    pbs.finish("1.s")
    pbs.finish("2.s")
    records = await wait_for(log, _resyncs(2))
    assert_gapless(records)
    (gap,) = _gaps(records)
    assert "new one" in gap.cause
    lives = [(r.incarnation, r.event) for r in records if r.id == "1.s"]
    assert [event for life, event in lives if life == 1] == ["submit", "finalize"]
    assert next(event for life, event in lives if life == 2) == "submit"
    assert _last_end(records, "1.s").reason is Reason.FINISHED
    assert _last_end(records, "2.s").reason is Reason.FINISHED


async def test_a_datastore_that_went_back_in_time(log: Log, captured: str, pbs: PbsServer) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s")
        pbs.submit("2.s")
        await wait_for(log, _told("2.s", EventName.SUBMIT))
    # As a backup from before the second job would have it.
    pbs.delete("2.s")
    pbs.connection.execute("TRUNCATE pbscast.journal")
    pbs.connection.execute("SELECT setval('pbscast.journal_seq', 1)")
    pbs.save("1.s", "R/42")
    async with ingesting(log, as_reader(captured)):
        records = await wait_for(log, _resyncs(2))
    assert "back in time" in _gaps(records)[0].cause
    assert _last_end(records, "2.s").reason is Reason.VANISHED
    assert _names(records, "1.s") == ["submit", "state"]


async def test_a_subjob_that_runs_again_lives_on(
    log: Log, pbs: PbsServer, worker: SiteWorker
) -> None:
    pbs.submit("1[2].s", "R/42", exec_host="n1", session_id="5")
    pbs.save("1[2].s", "Q/10")
    pbs.delete("1[2].s")
    pbs.submit("1[2].s", exec_host="n2")
    pbs.save("1[2].s", "R/41")
    pbs.delete("1[2].s")
    records = await wait_for(log, _told("1[2].s", EventName.FINALIZE))
    assert {r.incarnation for r in records if r.id == "1[2].s"} == {1}
    names = _names(records, "1[2].s")
    assert names == ["submit", "state", "modify", "state", "finalize"]
    again = [r for r in records if r.id == "1[2].s"][2].decode()
    assert isinstance(again, Change)
    assert (again.changed, again.removed) == ({"exec_host": "n2"}, ("session_id",))
    assert _last_end(records, "1[2].s").reason is Reason.DELETED


async def test_lives_that_ended_without_a_sign(
    log: Log, pbs: PbsServer, worker: SiteWorker
) -> None:
    """Told before the gap is, with the first row of the next life."""
    for job in ("1[2].s", "1[3].s"):
        pbs.submit(job, "R/42")
    await wait_for(log, _told("1[3].s", EventName.SUBMIT))
    pbs.connection.execute("ALTER TABLE pbs.job DISABLE TRIGGER pbscast_row")
    pbs.delete("1[2].s")
    pbs.delete("1[3].s")
    pbs.submit("1[3].s")
    pbs.connection.execute("ALTER TABLE pbs.job ENABLE ALWAYS TRIGGER pbscast_row")
    pbs.submit("1[2].s")
    pbs.save("1[3].s", "R/41")
    records = await wait_for(log, _told("1[3].s", EventName.STATE))
    for job, after in (("1[2].s", ["submit"]), ("1[3].s", ["submit", "state"])):
        lives = [(r.incarnation, r.event) for r in records if r.id == job]
        assert lives == [(1, "submit"), (1, "finalize"), *((2, event) for event in after)]
        end = _last_end(records, job)
        assert (end.reason, end.provenance) == (Reason.VANISHED, Provenance.RESYNC)


async def test_a_subjob_that_goes_on_as_it_was(
    log: Log, pbs: PbsServer, worker: SiteWorker
) -> None:
    """Nothing tells the rows apart but when they were made."""
    pbs.submit("1[2].s", "R/42")
    pbs.delete("1[2].s")
    pbs.submit("1[2].s", "R/42")
    pbs.save("1[2].s", "E/50")
    records = await wait_for(log, _told("1[2].s", EventName.STATE))
    assert {r.incarnation for r in records if r.id == "1[2].s"} == {1}
    assert _names(records, "1[2].s") == ["submit", "modify", "state"]


async def test_a_resync_keeps_no_snapshot_while_the_log_is_slow(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it forget what the journal tells meanwhile."""
    monkeypatch.setattr(resync, "TABLE_PAGE", 3)
    monkeypatch.setattr(resync, "NAMES", 3)
    for number in range(8):
        pbs.submit(f"{number}.s")
    named = Log.objects_named

    async def slowly(self: Log, site: str, kind: str, ids: Sequence[str]) -> dict[str, ObjectState]:
        found = await named(self, site, kind, ids)
        if kind == Kind.JOB:
            pbs.save("1.s", "R/42", note=str(len(slow)))
            slow.append(await asyncio.to_thread(_snapshots, captured))
            await asyncio.sleep(0.3)
        return found

    slow: list[int] = []
    impatient = make_conninfo(
        as_reader(captured), options="-c idle_in_transaction_session_timeout=200"
    )
    async with ingesting(log, impatient):
        await wait_for(log, is_resynced)
        monkeypatch.setattr(Log, "objects_named", slowly)
        await asyncio.to_thread(pause, captured, "maintenance")
        pbs.delete("2.s")
        pbs.save("5.s", "H/20")
        await asyncio.to_thread(resume, captured)
        records = await wait_for(log, _resyncs(2))
    assert slow
    assert not any(slow)
    assert _names(records, "1.s")[:2] == ["submit", "state"]
    assert _names(records, "2.s") == ["submit", "finalize"]
    assert _names(records, "5.s") == ["submit", "state"]
    assert _names(records, "sitea").count("resync") == 2


def _snapshots(dsn: str) -> int:
    """Transactions of the reader that are open."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
            " AND usename = 'pbscast_reader' AND query LIKE '%ROLLBACK%' IS FALSE"
            " AND state = 'idle in transaction'"
        ).fetchone()
    return int(row[0]) if row else 0


async def test_odd_ids_are_found_again_by_a_resync(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were escaped, that look as if they were, and that were shortened."""
    monkeypatch.setattr(resync, "TABLE_PAGE", 3)
    odd = [b"1\\xe9.s", b"2\xe9.s", b"3\\.s", "4é.s".encode(), b"5" * 600, b"6\xe9" * 100, b"7.s"]
    for raw in odd:
        pbs.connection.execute(_INSERT_RAW, [raw])
    gone = [b"8\xe9.s", b"9" * 700]
    for raw in gone:
        pbs.connection.execute(_INSERT_RAW, [raw])
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        await asyncio.to_thread(pause, captured, "maintenance")
        pbs.connection.execute("DELETE FROM pbs.job WHERE left(ji_jobid, 1) IN ('8', '9')")
        await asyncio.to_thread(resume, captured)
        records = await wait_for(log, _resyncs(2))
    told = {(r.id[0], r.event) for r in records if r.kind == Kind.JOB}
    assert told == {(str(n), "submit") for n in range(1, 10)} | {
        ("8", "finalize"),
        ("9", "finalize"),
    }


_INSERT_RAW = """
INSERT INTO pbs.job (ji_jobid, ji_state, ji_substate, ji_svrflags, ji_stime, ji_queue, ji_destin,
    ji_un_type, ji_exitstat, ji_quetime, ji_rteretry, ji_fromsock, ji_fromaddr, ji_jid, ji_credtype,
    ji_qrank, ji_savetm, ji_creattm, attributes)
VALUES (convert_from(%s, 'SQL_ASCII'), 1, 10, 33, 0, 'workq', '', 1, 0, 0, 0, 0, 0, '', 0, 0,
    localtimestamp, localtimestamp, 'job_state=>11.Q,substate=>11.10')
"""


async def test_a_subjob_goes_on_although_the_commit_of_its_delete_was_slow(
    log: Log, pbs: PbsServer, worker: SiteWorker
) -> None:
    pbs.submit("1[2].s", "R/42")
    with pbs.connection.transaction():
        pbs.delete("1[2].s")
        await asyncio.sleep(0.3)
    pbs.connection.execute("SELECT pbscast.heartbeat()")
    pbs.submit("1[2].s", "R/41")
    pbs.delete("1[2].s")
    await asyncio.sleep(0.2)
    pbs.submit("2.s")
    records = await wait_for(log, _told("2.s", EventName.SUBMIT))
    assert _names(records, "1[2].s") == ["submit", "state", "finalize"]


async def test_a_resync_that_was_cut_short_is_made_again(
    log: Log, captured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbscast_ingest.resync.BATCH", 1)
    with PbsServer(captured) as pbs:
        pbs.connection.execute("DROP TRIGGER pbscast_row ON pbs.job")
        for number in range(20):
            pbs.submit(f"{number}.s")
    worker = SiteWorker(log, "sitea", captured, "first")
    task = asyncio.create_task(worker.run())
    await wait_for(log, lambda records: len(records) >= 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with ingesting(log, as_reader(captured), holder="first"):
        await wait_for(log, is_resynced)
    records = await every_record(log)
    assert_gapless(records)
    for number in range(20):
        assert _names(records, f"{number}.s") == ["submit"]
