"""Random interleavings of real transactions: nothing skipped, nothing repeated, in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import datastore, reader
from pbscast_ingest.appetite import FIRST_BYTES, Appetite
from pbscast_ingest.capture import install
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.datastore import connect
from pbscast_ingest.faults import CaptureMissingError, DatastoreUnavailableError
from pbscast_ingest.reader import Journal
from pbscast_ingest.rows import text
from pbscast_ingest.statements import statement

WRITERS = 4
JOBS = 3
_INSERT = """
INSERT INTO pbs.job (ji_jobid, ji_state, ji_substate, ji_svrflags, ji_stime, ji_queue, ji_destin,
    ji_un_type, ji_exitstat, ji_quetime, ji_rteretry, ji_fromsock, ji_fromaddr, ji_jid, ji_credtype,
    ji_qrank, ji_savetm, ji_creattm, attributes)
VALUES (%s, 1, 10, 33, 0, 'q', '', 1, 0, 0, 0, 0, 0, '', 0, 0, localtimestamp, localtimestamp,
    hstore('Priority', '11.0'))
ON CONFLICT DO NOTHING
"""
_UPDATE = "UPDATE pbs.job SET attributes = attributes || hstore('Priority', %s) WHERE ji_jobid = %s"


class Interleaving(RuleBasedStateMachine):
    """Writers in transactions of their own, and a reader that may die between any two steps.

    Each value is written once, so the values tell the order of commits of every job.
    """

    dsn: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.writers = [psycopg.connect(self.dsn) for _ in range(WRITERS)]
        self.pending: list[list[tuple[str, str]]] = [[] for _ in range(WRITERS)]
        self.marks: list[int | None] = [None] * WRITERS
        self.committed: dict[str, list[str]] = defaultdict(list)
        self.told: dict[str, list[str]] = defaultdict(list)
        self.value = 0
        self.cursor = Cursor()
        self.journal: Journal | None = None

    @initialize()
    def begin_anew(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("DELETE FROM pbs.job")
            for number in range(JOBS):
                connection.execute(_INSERT, [f"{number}.s"])
            connection.execute("DELETE FROM pbscast.journal")
            connection.execute("SELECT pbscast.heartbeat()")

    @rule(writer=st.integers(0, WRITERS - 1), job=st.integers(0, JOBS - 1))
    def write(self, writer: int, job: int) -> None:
        key = f"{job}.s"
        if any(key == held for i, p in enumerate(self.pending) if i != writer for held, _ in p):
            return
        self.value += 1
        self.writers[writer].execute(_UPDATE, [f"11.{self.value}", key])
        self.pending[writer].append((key, str(self.value)))

    @rule(writer=st.integers(0, WRITERS - 1))
    def take_an_id_early(self, writer: int) -> None:
        self.writers[writer].execute("SELECT txid_current()")

    @rule(writer=st.integers(0, WRITERS - 1))
    def save(self, writer: int) -> None:
        if self.marks[writer] is None:
            self.writers[writer].execute("SAVEPOINT here")
            self.marks[writer] = len(self.pending[writer])

    @rule(writer=st.integers(0, WRITERS - 1))
    def roll_back_to_savepoint(self, writer: int) -> None:
        mark = self.marks[writer]
        if mark is not None:
            self.writers[writer].execute("ROLLBACK TO SAVEPOINT here")
            # The locks of what was rolled back are free again.
            del self.pending[writer][mark:]

    @rule(writer=st.integers(0, WRITERS - 1))
    def commit(self, writer: int) -> None:
        self.writers[writer].commit()
        for key, value in self.pending[writer]:
            self.committed[key].append(value)
        self.pending[writer], self.marks[writer] = [], None

    @rule(writer=st.integers(0, WRITERS - 1))
    def roll_back(self, writer: int) -> None:
        self.writers[writer].rollback()
        self.pending[writer], self.marks[writer] = [], None

    @rule(rows=st.integers(1, 4))
    def read(self, rows: int) -> None:
        self._run(lambda: self._read(rows))

    @rule()
    def trim(self) -> None:
        self._run(self._trim)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def die(self) -> None:
        self.cursor = Cursor.load(self.cursor.dump())

    @invariant()
    def what_was_told_was_committed_in_this_order(self) -> None:
        for key, values in self.told.items():
            assert values == self.committed[key][: len(values)]

    def teardown(self) -> None:
        for writer in range(WRITERS):
            self.commit(writer)
        self._run(lambda: self._read(1000))
        assert {k: v for k, v in self.told.items() if v} == {
            k: v for k, v in self.committed.items() if v
        }
        for connection in self.writers:
            connection.close()
        self.loop.close()

    async def _read(self, rows: int) -> None:
        async with Journal.open(self.dsn) as journal:
            journal._rows = rows
            page = await journal.page(self.cursor)
        for row in page.rows:
            if row.op == "U":
                self.told[row.key].append(row.changed["Priority"])
        self.cursor = self.cursor.advance((row.seq for row in page.rows), page.bound)
        if not page.more:
            self.cursor = self.cursor.settle(page.xmin)
        elif page.rows:
            self.cursor = self.cursor.settle(page.xmin, page.rows[-1].seq)

    async def _trim(self) -> None:
        async with Journal.open(self.dsn) as journal:
            while await journal.trim(self.cursor):
                pass

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop.run_until_complete(work())


def test_interleaved_transactions(datastore_dsn: str) -> None:
    install(datastore_dsn, site="s")

    class Machine(Interleaving):
        dsn = datastore_dsn

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


async def test_a_save_that_drew_its_id_after_a_heartbeat_and_its_seq_before(
    datastore_dsn: str,
) -> None:
    """Its id is at the xmax of the snapshot that passes it over, and does not hold xmin down."""
    await asyncio.to_thread(install, datastore_dsn, site="s")
    heartbeat = """
        INSERT INTO pbscast.journal (seq, xid, at, op)
        VALUES (nextval('pbscast.journal_seq'), txid_current(), clock_timestamp(), 'H')
    """
    with (
        psycopg.connect(datastore_dsn) as beating,
        psycopg.connect(datastore_dsn) as saving,
    ):
        reading = Reading(datastore_dsn)
        saving.execute(_INSERT, ["0.s"])
        saving.commit()
        assert await reading.keys() == ["0.s"]
        beating.execute("SELECT txid_current()")
        saving.execute(_UPDATE, ["11.1", "0.s"])
        beating.execute(heartbeat)
        beating.commit()
        assert await reading.keys() == [""]
        async with Journal.open(datastore_dsn) as journal:
            await journal.trim(reading.cursor)
        saving.commit()
        assert await reading.keys() == ["0.s"]
        assert await reading.keys() == []
        assert reading.cursor.holes == ()


class Reading:
    """A reader that connects anew for every page."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.cursor = Cursor()

    async def keys(self) -> list[str]:
        async with Journal.open(self.dsn) as journal:
            page = await journal.page(self.cursor)
        self.cursor = self.cursor.advance((row.seq for row in page.rows), page.bound)
        self.cursor = self.cursor.settle(page.xmin)
        return [row.key for row in page.rows]


@pytest.mark.parametrize("size", [1_000_000, 100])
async def test_pages_are_bounded_by_bytes(datastore_dsn: str, size: int) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="s")
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        for number in range(30):
            connection.execute(_INSERT, [f"{number}.s"])
        connection.execute(
            "UPDATE pbs.job SET attributes = attributes || hstore('V', '11.' || repeat('x', %s))",
            [size],
        )
    cursor, values, pages = Cursor(), 0, 0
    async with Journal.open(datastore_dsn) as journal:
        while True:
            page = await journal.page(cursor)
            pages += 1
            assert sum(len(row.changed.get("V", "")) for row in page.rows) <= 8_000_000
            values += sum("V" in row.changed for row in page.rows)
            cursor = cursor.advance((row.seq for row in page.rows), page.bound)
            if not page.more:
                break
    assert values == 30
    assert (pages > 1) == (size > 100)


_GIANTS = """
    INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, changed)
    SELECT nextval('pbscast.journal_seq'), txid_current(), clock_timestamp(), 'I', 'job', n || '.s',
           ARRAY['Variable_List', '11.' || repeat('A=b,', 100000)]
    FROM generate_series(1, %s) AS n
"""


async def _read_all(journal: Journal) -> list[int]:
    """The sizes of the pages of all there is."""
    cursor, sizes = Cursor(), list[int]()
    while True:
        page = await journal.page(cursor)
        sizes.append(len(page.rows))
        cursor = cursor.advance((row.seq for row in page.rows), page.bound)
        if not page.more:
            return sizes


async def test_a_backlog_of_giants_leaves_no_temporary_file(own_postgres: PostgresServer) -> None:
    dsn = create_datastore(own_postgres.dsn())
    await asyncio.to_thread(install, dsn, site="s")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_GIANTS, [150])
        figures = "SELECT temp_bytes FROM pg_stat_database WHERE datname = %s"
        name = connection.info.dbname
        async with Journal.open(dsn) as journal:
            sizes = await _read_all(journal)
        # Figures arrive when a session ends.
        (written,) = connection.execute(figures, [name]).fetchone() or (None,)
    assert sum(sizes) == 150
    assert max(sizes) <= 8_000_000 // 400_000
    assert written == 0


async def test_a_page_that_does_not_come_in_time_is_asked_for_smaller(
    datastore_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="s")
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        connection.execute(_GIANTS, [20])
    appetite = Appetite()
    async with Journal.open(datastore_dsn, appetite) as journal:
        monkeypatch.setattr(datastore, "ANSWER_SECONDS", 0.001)
        with pytest.raises(DatastoreUnavailableError, match="no answer"):
            await journal.page(Cursor())
    assert appetite.bytes == FIRST_BYTES // 2


async def test_reading_is_neither_compiled_nor_sorted(datastore_dsn: str) -> None:
    async with connect(datastore_dsn) as connection:
        answer = await connection.execute(
            "SELECT name::text FROM pg_settings WHERE setting = 'on'"
            " AND name IN ('jit', 'enable_seqscan', 'enable_bitmapscan')"
        )
        assert await answer.fetchall() == []


async def test_a_look_counts_a_backlog_up_to_a_bound(
    datastore_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="s")
    monkeypatch.setattr(reader, "LAG_ROWS", 5)
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        for _ in range(3):
            connection.execute("SELECT pbscast.heartbeat()")
        async with Journal.open(datastore_dsn) as journal:
            health = await journal.health(Cursor())
            assert (health.lag_rows, health.is_full) == (3, False)
            for _ in range(4):
                connection.execute("SELECT pbscast.heartbeat()")
            connection.execute("UPDATE pbscast.control SET cap_bytes = 1")
            connection.execute("ALTER TABLE pbs.job DISABLE TRIGGER pbscast_row")
            connection.execute("ALTER TABLE pbs.job ENABLE ALWAYS TRIGGER pbscast_row")
            later = await journal.health(Cursor())
    assert (later.lag_rows, later.is_full) == (5, True)
    assert later.lag_seconds > 0
    assert later.shape != health.shape


async def test_the_time_to_answer_runs_from_the_turn(
    datastore_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="s")
    async with Journal.open(datastore_dsn) as journal:
        monkeypatch.setattr(datastore, "ANSWER_SECONDS", 1.0)
        monkeypatch.setattr(reader, "statement", lambda _: b"SELECT 1, 2 FROM pg_sleep(0.4)")
        assert await asyncio.gather(*(journal.heartbeat() for _ in range(3))) == [2, 2, 2]


async def test_a_journal_that_says_nothing_of_itself_is_missing(datastore_dsn: str) -> None:
    await asyncio.to_thread(install, datastore_dsn, site="s")
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM pbscast.installation")
    async with Journal.open(datastore_dsn) as journal:
        with pytest.raises(CaptureMissingError, match="half installed"):
            await journal.page(Cursor())


async def test_what_fails_beside_the_datastore_is_not_blamed_on_it(datastore_dsn: str) -> None:
    with pytest.raises(TimeoutError):
        async with connect(datastore_dsn):
            raise TimeoutError


@pytest.mark.parametrize("name", ["job", "queue", "node", "resv", "scheduler", "present"])
async def test_a_resync_finds_its_rows_by_their_keys(each_datastore_dsn: str, name: str) -> None:
    """Whatever the collation of the parameters: else each page would read the whole table."""
    install(each_datastore_dsn, site="sitea")
    values = {"first": b"7.s", "rows": 500, "kind": "job", "keys": [b"7.s"]}
    async with connect(each_datastore_dsn) as connection:
        answer = await connection.execute(
            b"EXPLAIN " + statement(name, "public"),
            {**values, "long": False, "length": 128, "lone": 1000},
        )
        plan = [text(line) for (line,) in await answer.fetchall()]
    key = {"queue": "qu_name", "node": "nd_name", "resv": "ri_resvid", "scheduler": "sched_name"}
    conditions = [line for line in plan if "Index Cond" in line]
    assert len(conditions) == 1, plan
    assert key.get(name, "ji_jobid") in conditions[0]
    assert not any("Seq Scan" in line or "Sort" in line for line in plan), plan
