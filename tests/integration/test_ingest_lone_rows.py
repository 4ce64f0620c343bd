"""Rows that the datastore hands out slowly, in part or not at all: none stops a site."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from random import Random

import psycopg
import pytest
from harness.ingesting import as_reader, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer
from prometheus_client import REGISTRY

from pbscast.events import Change, Gap, Kind
from pbscast_ingest import appetite as appetites
from pbscast_ingest import datastore, lone, retry
from pbscast_ingest.appetite import ALONE, Appetite
from pbscast_ingest.comparison import TableRow
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.datastore import connect
from pbscast_ingest.faults import DatastoreUnavailableError
from pbscast_ingest.lone import Hardships, LoneReader
from pbscast_ingest.reader import Journal
from pbscast_ingest.rows import NOTE, UNREAD, JournalRow
from pbscast_ingest.statements import statement
from pbscast_store.log import Log
from pbscast_store.records import Record

# Nothing that a database packs, and of each byte that PBS may store.
ODD = Random(0).randbytes(60_000).replace(b"\0", b"\\")

_KINDS = """
    INSERT INTO pbs.queue
    SELECT 'q' || n, 1, now(), now(), hstore(ARRAY['a', '11.' || n]) FROM generate_series(1, 3) n;
    INSERT INTO pbs.server SELECT 7, now(), now(), hstore(ARRAY['a', '11.1', 'nul', NULL]);
    INSERT INTO pbs.scheduler SELECT 's', now(), now(), hstore(ARRAY['dot.', '11.1']);
    INSERT INTO pbs.node SELECT 'n', 0, 'h', 0, 0, '', 0, now(), now(), hstore(ARRAY['a', '11.1']);
    INSERT INTO pbs.resv
    SELECT 'R1', '', 2, 2, 0, 0, 0, 0, 0, now(), now(), hstore(ARRAY['a', '11.1'])
"""


@pytest.fixture(autouse=True)
def _brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retry, "LAST_SECONDS", 0.1)


@pytest.fixture
def pbs(captured: str) -> Iterator[PbsServer]:
    with PbsServer(captured) as server:
        server.connection.execute("SET client_encoding = SQL_ASCII")
        yield server


def _save_odd(pbs: PbsServer, job: str) -> None:
    pbs.connection.execute(
        "UPDATE pbs.job SET attributes = attributes"
        " || hstore('odd', '11.' || convert_from(%s, 'SQL_ASCII')) WHERE ji_jobid = %s",
        [ODD, job],
    )


def _unread() -> float:
    return REGISTRY.get_sample_value("pbscast_ingest_unread_rows_total", {"site": "sitea"}) or 0


def _events(records: list[Record], job: str) -> list[str]:
    return [record.event for record in records if record.id == job]


def _submitted(job: str) -> Callable[[list[Record]], bool]:
    return lambda records: "submit" in _events(records, job)


async def _read(dsn: str, appetite: Appetite) -> list[JournalRow]:
    cursor, rows = Cursor(), list[JournalRow]()
    async with Journal.open(dsn, appetite) as journal:
        while True:
            page = await journal.page(cursor)
            rows += page.rows
            cursor = cursor.advance((row.seq for row in page.rows), page.bound)
            if not page.more:
                return rows


async def _table(dsn: str, kind: Kind) -> list[TableRow]:
    async with Journal.open(dsn) as journal:
        await journal.identify()
        async with journal.snapshot() as snapshot, aclosing(snapshot.rows(kind)) as rows:
            return [row async for row in rows]


async def test_a_row_that_no_json_can_hold(captured: str) -> None:
    """Escaped it would be more than 1 GB, the most that PostgreSQL makes of a text."""
    with psycopg.connect(captured, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, changed)"
            " SELECT nextval('pbscast.journal_seq'), txid_current(), now(), 'I', 'job', n || '.s',"
            r" ARRAY['Job_Name', '11.n', 'V', '11.' || repeat(E'\x01', n * 180000000)]"
            " FROM generate_series(0, 1) AS n"
        )
        connection.execute("SELECT pbscast.heartbeat()")
    small, giant, beat = await _read(captured, Appetite())
    assert (small.changed, beat.op) == ({"Job_Name": "n", "V": ""}, "H")
    assert giant.changed["Job_Name"] == "n"
    assert giant.changed["V"].startswith("\x01\x01")
    assert len(giant.changed["V"]) < 5000
    assert giant.changed[NOTE]


async def test_rows_that_are_read_alone_say_the_same(
    captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pbs.submit("1.s", comment="ключ", **{"dotted.": "x"})
    _save_odd(pbs, "1.s")
    pbs.connection.execute(
        "UPDATE pbs.job SET ji_svrflags = 9, attributes = delete(attributes, 'project')"
    )
    pbs.connection.execute(_KINDS)
    pbs.delete("1.s")
    rows = await _read(captured, Appetite())
    monkeypatch.setattr(appetites, "LONE_BYTES", -1)
    assert await _read(captured, Appetite()) == rows


async def test_what_a_deleted_job_had_used_is_weighed_too(captured: str, pbs: PbsServer) -> None:
    for number in range(3):
        pbs.submit(f"{number}.s")
    pbs.connection.execute(
        "UPDATE pbs.job SET attributes = attributes"
        " || hstore('resources_used.odd', '11.' || convert_from(%s, 'SQL_ASCII'))",
        [ODD],
    )
    pbs.connection.execute("TRUNCATE pbscast.journal")
    for number in range(3):
        pbs.delete(f"{number}.s")
    async with Journal.open(captured) as journal:
        page = await journal.page(Cursor())
    assert ([row.op for row in page.rows], page.more) == (["D"], True)
    assert len(page.rows[0].context["resources_used.odd"]) > len(ODD) / 2


async def test_table_rows_that_are_read_alone_say_the_same(
    captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pbs.submit("1.s", comment="ключ", cookie="secret")
    pbs.submit("2.s")
    pbs.connection.execute(_KINDS)
    kinds = [kind for kind in Kind if kind is not Kind.SITE]
    tables = [await _table(captured, kind) for kind in kinds]
    assert sorted(map(len, tables)) == [1, 1, 1, 1, 2, 3]
    monkeypatch.setattr(appetites, "LONE_BYTES", -1)
    assert [await _table(captured, kind) for kind in kinds] == tables


async def test_a_row_that_is_too_large_is_told_cut(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the journal and in a table the same: no resync finds a difference."""
    monkeypatch.setattr(lone, "ROW_BYTES", 50_000)
    before = _unread()
    pbs.submit("1.s", "R/42")
    _save_odd(pbs, "1.s")
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("2.s", "R/42")
        _save_odd(pbs, "2.s")
        pbs.submit("last.s")
        records = await wait_for(log, _submitted("last.s"))
    assert _events(records, "1.s") == _events(records, "2.s") == ["submit", "modify"]
    told = [await log.object("sitea", Kind.JOB, job) for job in ("1.s", "2.s")]
    for state in told:
        assert state is not None
        assert (state.state, state.substate, state.owner) == ("R", 42, "alice")
        assert 4000 < len(state.attributes["odd"]) < len(ODD) // 2
        assert state.attributes[NOTE]
    assert _unread() >= before + 3


async def test_what_cannot_be_read_at_all_is_a_gap(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends each attempt; the table's row is no better, and its job stays as it was."""
    monkeypatch.setattr(lone, "ROW_SECONDS", 0.05)
    monkeypatch.setattr(lone, "statement", lambda *_: b"SELECT pg_sleep(100)")
    pbs.submit("1.s", "R/42")
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        _save_odd(pbs, "1.s")
        pbs.submit("2.s")
        records = await wait_for(log, lambda rs: _submitted("2.s")(rs) and is_resynced(rs))
        assert worker.status.error is None
    causes = [event.cause for r in records if isinstance(event := r.decode(), Gap)]
    assert len(causes) == 1
    assert "1.s" in causes[0]
    assert "statement timeout" in causes[0]
    state = await log.object("sitea", Kind.JOB, "1.s")
    assert state is not None
    assert (state.gone, state.finalized, state.state, state.substate) == (False, False, "R", 42)
    assert state.attributes["Job_Name"] == "n"
    (last,) = [e for r in records[-20:] if r.id == "1.s" and isinstance(e := r.decode(), Change)][
        -1:
    ]
    assert last.changed.keys() == {NOTE}


async def test_a_row_over_which_the_connection_is_lost_each_time(
    captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = b"SELECT pg_terminate_backend(pg_backend_pid())"
    monkeypatch.setattr(lone, "statement", lambda *_: ends)
    pbs.submit("1.s")
    _save_odd(pbs, "1.s")
    appetite, failures = Appetite(), 0
    while failures < 20:
        try:
            rows = await _read(captured, appetite)
        except DatastoreUnavailableError:
            failures += 1
        else:
            break
    assert failures == 2 * lone.TRIES
    assert [(row.op, row.key) for row in rows] == [("I", "1.s"), (UNREAD, "1.s")]


async def test_reading_that_fails_goes_on_row_by_row(captured: str, pbs: PbsServer) -> None:
    pbs.submit("1.s")
    appetite = Appetite()
    for times in range(lone.TRIES):
        assert appetite.lone > 0, times
        appetite.fail(DatastoreUnavailableError("no answer"))
    assert appetite.lone < 0
    for number in range(ALONE):
        pbs.save("1.s", comment=str(number))
    assert len(await _read(captured, appetite)) == ALONE + 1
    assert appetite.lone > 0


async def test_patience_lasts_while_the_datastore_answers_elsewhere(
    captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pbs.submit("1.s")
    (seq,) = pbs.connection.execute("SELECT max(seq) FROM pbscast.journal").fetchone() or (0,)
    asked, gone = asyncio.Event(), asyncio.Event()

    async def probe() -> None:
        asked.set()
        if gone.is_set():
            raise DatastoreUnavailableError("gone")

    async with connect(captured) as connection:
        reader = LoneReader(connection, "here", Hardships(), probe)
        record = (seq, 1, None, b'["I","job","1.s",""]')
        monkeypatch.setattr(datastore, "ANSWER_SECONDS", 0.1)
        slow = statement("row").replace(b"OFFSET 0", b"AND pg_sleep(0.25) IS NOT NULL OFFSET 0")
        monkeypatch.setattr(lone, "statement", lambda *_: slow)
        row = await reader.journal_row(record)
        assert row.changed["Job_Name"] == "n"
        assert asked.is_set()
        gone.set()
        monkeypatch.setattr(lone, "statement", lambda *_: b"SELECT pg_sleep(100)")
        with pytest.raises(DatastoreUnavailableError):
            await reader.journal_row(record)
