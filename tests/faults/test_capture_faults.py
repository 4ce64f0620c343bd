"""PBS comes first: whatever happens to capture, a save succeeds in time and the gap is told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from random import randbytes

import psycopg
import pytest
from harness.capturing import (
    BOUND,
    PROMISED,
    Connection,
    Pbs,
    connect,
    connected,
    gaps,
    journal,
    lost,
    pairs,
)
from harness.damage import DAMAGE, UNTOLD

from pbscast_deploy.embedded import PostgresServer, find_postgres
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import capture
from pbscast_ingest.capture import Verdict
from pbscast_ingest.capture.script import Settings, install_messages
from pbscast_ingest.statements import capture_script


def all_saves(pbs: Pbs, key: str) -> None:
    """Every form of statement on every kind of trigger."""
    pbs.insert(key, job_state="11.Q", mtime="11.1", x="11.y")
    pbs.save(key, job_state="11.R")
    pbs.save(key, mtime="11.2")
    pbs.quick(key, svrflags=512)
    pbs.remove("x", key=key)
    assert pbs.value("job_state", key) == "11.R"
    pbs.delete(key)
    pbs.run("TRUNCATE pbs.queue")


def _time_of_a_save_behind(administrator: Connection, dsn: str, messages: Iterable[str]) -> float:
    for message in messages:
        administrator.execute(message.encode())
    with connected(dsn) as connection:
        pbs = Pbs(connection)
        pbs.insert("9.s", job_state="11.Q")
        return pbs.slowest


@pytest.mark.parametrize("what", ["install", "uninstall"])
def test_an_administrator_who_stalls_with_the_locks_is_thrown_out(dsn: str, what: str) -> None:
    if what == "install":
        capture.uninstall(dsn)
        messages = list(install_messages(Settings("sitea")))
    else:
        messages = list(capture_script("uninstall"))[:-1]
    administrator = connect(dsn)
    assert _time_of_a_save_behind(administrator, dsn, messages) < 0.1 + BOUND
    with pytest.raises(psycopg.Error):
        administrator.execute("COMMIT")
    administrator.close()
    with connected(dsn) as db:
        found = db.execute("SELECT to_regnamespace('pbscast') IS NULL").fetchone()
        assert found == (what == "install",)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_save_survives_any_damage(dsn: str, pbs: Pbs, db: Connection, damage: str) -> None:
    all_saves(pbs, "1.s")
    db.execute(DAMAGE[damage].encode())
    if damage == "hstore moved":
        pbs.connection.execute("SET search_path = public, aside")
    with connect(dsn) as other:
        fresh = Pbs(other)
        if damage == "hstore moved":
            other.execute("SET search_path = public, aside")
        for number in range(2, 5):
            all_saves(pbs, f"{number}.s")
            all_saves(fresh, f"{number}.fresh")
        assert max(pbs.slowest, fresh.slowest) < BOUND


TOLD = [name for name in DAMAGE if name not in UNTOLD]


@pytest.mark.parametrize("damage", TOLD)
def test_what_was_lost_is_told(pbs: Pbs, db: Connection, damage: str) -> None:
    pbs.insert("1.s", job_state="11.Q")
    db.execute(DAMAGE[damage].encode())
    pbs.connection.execute("SET search_path = public, aside")
    pbs.save("1.s", job_state="11.R")

    if lost(db) == 0:
        marker = journal(db, "G")[-1]
        assert marker["key"] == "error"
        assert pairs(marker["context"])["table"] == "job"


def test_a_marker_says_why(pbs: Pbs, db: Connection) -> None:
    db.execute("ALTER TABLE pbscast.journal ADD CONSTRAINT nothing CHECK (op = 'G') NOT VALID")
    pbs.insert("1.s")

    (marker,) = journal(db, "G")
    details = pairs(marker["context"])
    assert (marker["key"], details["phase"], details["sqlstate"]) == ("error", "point", "23514")
    assert "nothing" in (details["message"] or "")


LOCKS = {
    "journal": "LOCK TABLE pbscast.journal IN ACCESS EXCLUSIVE MODE",
    "control": "LOCK TABLE pbscast.control IN ACCESS EXCLUSIVE MODE",
    "numbers": "DROP SEQUENCE pbscast.journal_seq",
    "switch": "SELECT pbscast.set_mode(1)",
    "counter": "DROP SEQUENCE pbscast.gap_seq",
    "all": "DROP FUNCTION pbscast.mode(); DROP SEQUENCE pbscast.gap_seq, pbscast.journal_seq;"
    " LOCK TABLE pbscast.journal, pbscast.control IN ACCESS EXCLUSIVE MODE",
}


@pytest.mark.parametrize("locked", LOCKS)
def test_a_lock_costs_a_short_wait_a_second(
    dsn: str, pbs: Pbs, db: Connection, locked: str
) -> None:
    pbs.insert("1.s", job_state="11.Q")
    unhindered = _time_of_saves(pbs, 200)
    with connect(dsn) as other, other.transaction(force_rollback=True):
        other.execute(LOCKS[locked].encode())
        took = _time_of_saves(pbs, 200)
    assert pbs.slowest < BOUND
    assert took < 2 * BOUND + 0.3 * took + 1 + 2 * unhindered
    if locked in ("control", "counter", "switch"):
        assert len(journal(db, "U")) == 400
        return
    _save_until(pbs, db, "lock")
    assert gaps(db)[-1] == ("lock", "end")
    pbs.save("1.s", substate="11.after")
    assert pairs(journal(db)[-1]["changed"]) == {"substate": "11.after"}
    if locked != "all":
        assert lost(db) > 0


def _time_of_saves(pbs: Pbs, count: int) -> float:
    start = time.monotonic()
    for number in range(count):
        pbs.save("1.s", substate=f"11.{number}")
    return time.monotonic() - start


@pytest.mark.parametrize("locked", LOCKS)
def test_a_save_is_held_up_for_as_long_as_is_promised(dsn: str, pbs: Pbs, locked: str) -> None:
    """A wait too many shows in each of the sessions, a busy machine not in all of them."""
    pbs.insert("1.s", job_state="11.Q")
    took: list[float] = []
    with connect(dsn) as other, other.transaction(force_rollback=True):
        other.execute(LOCKS[locked].encode())
        while len(took) < 8 and min(took, default=1) > PROMISED:
            with connected(dsn) as saving:
                fresh = Pbs(saving)
                for number in range(3):
                    fresh.save("1.s", substate=f"11.{len(took)}{number}")
            took.append(fresh.slowest)
    assert min(took) <= PROMISED, took


def test_a_locked_cap_is_not_waited_for_with_each_large_row(
    dsn: str, pbs: Pbs, db: Connection
) -> None:
    pbs.insert("1.s", large=f"11.{randbytes(45_000).hex()}")
    times: list[float] = []
    with connect(dsn) as other, other.transaction(force_rollback=True):
        other.execute(LOCKS["control"].encode())
        for number in range(12):
            pbs.slowest = 0.0
            pbs.save("1.s", substate=f"11.{number}")
            times.append(pbs.slowest)
    assert times[0] > 0.05  # it did wait once
    assert min(times) < 0.05
    assert len(journal(db, "U")) == 12


def test_a_locked_cap_lets_the_journal_grow_to_the_least_cap_only(
    dsn: str, pbs: Pbs, db: Connection
) -> None:
    db.execute("ALTER TABLE pbscast.journal ALTER COLUMN context SET STORAGE EXTERNAL")
    db.execute(
        "INSERT INTO pbscast.journal (seq, xid, at, op, context)"
        " SELECT -n, 1, now(), 'H', ARRAY[repeat('x', 1000000)] FROM generate_series(1, 70) AS n"
    )
    pbs.insert("1.s", job_state="11.Q")
    with connect(dsn) as other, other.transaction(force_rollback=True):
        other.execute(LOCKS["control"].encode())
        for number in range(140):
            pbs.save("1.s", substate=f"11.{number}")
    assert 0 < len(journal(db, "U")) < 70
    assert gaps(db) == [("full", "begin")]


CAPLESS = {
    "dropped": "DROP TABLE pbscast.control",
    "emptied": "DELETE FROM pbscast.control",
    "unreadable": "REVOKE SELECT ON pbscast.control FROM pbscast_owner",
    "altered": "ALTER TABLE pbscast.control RENAME COLUMN cap_bytes TO cap",
}


@pytest.mark.parametrize("damage", CAPLESS)
def test_without_a_cap_the_journal_does_not_grow(
    dsn: str, pbs: Pbs, db: Connection, damage: str
) -> None:
    pbs.insert("1.s", job_state="11.Q")
    db.execute(CAPLESS[damage].encode())
    for number in range(200):
        pbs.save("1.s", substate=f"11.{number}")
    assert len(journal(db, "U")) < 70
    assert gaps(db) == [("full", "begin")]
    said = "pbscast.control: its cap cannot be read, the triggers stop writing"
    assert (said,) in db.execute("SELECT pbscast.defects()").fetchall()
    (found,) = (f for f in capture.check(dsn).findings if f.subject == "journal")
    assert found.verdict is Verdict.FAIL
    assert "cannot read its cap" in found.text

    if damage == "altered":
        db.execute("ALTER TABLE pbscast.control RENAME COLUMN cap TO cap_bytes")
    capture.upgrade(dsn, site="sitea")
    _save_until(pbs, db, "full")
    assert gaps(db)[-1] == ("full", "end")
    assert db.execute("SELECT pbscast.defects()").fetchall() == []


def _save_until(pbs: Pbs, db: Connection, cause: str, ends: int = 1) -> None:
    """PBS saves until the session has paid its debt; it tries once a second."""
    deadline = time.monotonic() + 20
    number = 0
    while gaps(db).count((cause, "end")) < ends:
        assert time.monotonic() < deadline
        number += 1
        pbs.save("1.s", substate=f"11.until{number}")
        time.sleep(0.05)


def test_a_marker_spans_the_time_of_the_lock(dsn: str, pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q")
    before = db.execute("SELECT clock_timestamp()").fetchone()
    with connect(dsn) as other, other.transaction():
        other.execute("LOCK TABLE pbscast.journal IN ACCESS EXCLUSIVE MODE")
        pbs.save("1.s", job_state="11.R")
        after = other.execute("SELECT clock_timestamp()").fetchone()
    _save_until(pbs, db, "lock")

    assert before is not None
    assert after is not None
    spans = db.execute(
        "SELECT (context[4])::timestamptz BETWEEN %s AND %s, context[3], at > %s"
        " FROM pbscast.journal WHERE op = 'G'",
        [before[0], after[0], after[0]],
    ).fetchall()
    assert spans == [(True, "since", True)]


def test_a_clock_that_is_set_back_does_not_put_off_the_next_try(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q", large=f"11.{randbytes(45_000).hex()}")
    ahead = time.time() + 3600
    settings = {"pbscast.owed": f"lock {ahead} {ahead + 1}", "pbscast.unseen": f"{ahead + 1}"}
    for name, value in settings.items():
        pbs.connection.execute("SELECT set_config(%s, %s, false)", [name, value])
    db.execute("UPDATE pbscast.control SET cap_bytes = 1")
    pbs.save("1.s", job_state="11.R")
    assert len(journal(db, "U")) == 1
    assert gaps(db) == [("lock", "end"), ("full", "begin")]
    assert lost(db) == 0


@pytest.mark.parametrize("major", find_postgres())
def test_a_crash_leaves_the_count_of_losses_as_it_was(major: int) -> None:
    with PostgresServer(bindir=find_postgres()[major]) as server:
        dsn = create_datastore(server.dsn(), "pbs_datastore")
        capture.install(dsn, site="sitea")
        with connected(dsn) as saving, connected(dsn) as other, connected(dsn) as db:
            pbs, second = Pbs(saving), Pbs(other)
            pbs.insert("1.s", job_state="11.Q")
            db.execute("ALTER TABLE pbscast.journal ADD CHECK (op = 'H') NOT VALID")
            seen = {_count(db)}
            for number in range(3):
                pbs.save("1.s", substate=f"11.{number}")
                seen.add(_count(db))
                second.save("1.s", job_state=f"11.{number}")
                seen.add(_count(db))
            before = _count(db)
            assert (len(seen), lost(db)) == (7, 6)
        server.kill()
        server.start()
        with connected(dsn) as db:
            assert _count(db) == before
            Pbs(db).save("1.s", job_state="11.R")
            assert lost(db) == 7


def _count(db: Connection) -> int:
    row = db.execute("SELECT last_value FROM pbscast.gap_seq WHERE is_called").fetchone()
    return row[0] if row else 0


def test_a_count_of_a_release_that_drew_numbers_goes_on(dsn: str, pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q")
    db.execute("SELECT nextval('pbscast.gap_seq') FROM generate_series(1, 5)")
    capture.upgrade(dsn, site="sitea")
    assert db.execute("SELECT last_value, log_cnt FROM pbscast.gap_seq").fetchone() == (5, 0)
    db.execute("ALTER TABLE pbscast.journal ADD CHECK (op = 'H') NOT VALID")
    pbs.save("1.s", job_state="11.R")
    assert lost(db) == 6


def test_a_statement_timeout_of_the_site_does_not_reach_pbs(dsn: str, db: Connection) -> None:
    with connect(dsn) as saving, connect(dsn) as other:
        pbs = Pbs(saving)
        pbs.insert("1.s", job_state="11.Q")
        saving.execute("SET statement_timeout = '25ms'")
        with other.transaction():
            other.execute("LOCK TABLE pbscast.journal IN ACCESS EXCLUSIVE MODE")
            pbs.save("1.s", job_state="11.R")
        saving.execute("SET statement_timeout = 0")
    assert lost(db) == 1


def test_a_full_journal_pauses_itself_and_goes_on_when_read(
    dsn: str, pbs: Pbs, db: Connection
) -> None:
    cap = 1 << 20
    capture.install(dsn, site="sitea", cap_bytes=cap)
    pbs.insert("1.s", job_state="11.Q")
    noise = iter(range(1_000_000))
    # Digits do not compress much.
    while not gaps(db):
        text = "".join(str(next(noise) * 7919 % 1000003) for _ in range(200))
        pbs.save("1.s", comment="11." + text)
    rows = len(journal(db, "IUDT"))
    size = db.execute("SELECT pg_total_relation_size('pbscast.journal')").fetchone()
    for number in range(200):
        pbs.save("1.s", substate=f"11.{number}")

    assert gaps(db) == [("full", "begin")]
    assert len(journal(db, "IUDT")) == rows
    assert db.execute("SELECT pg_total_relation_size('pbscast.journal')").fetchone() == size
    assert size is not None
    assert size[0] < 2 * cap
    assert lost(db) == 200
    assert capture.check(dsn).verdict is capture.Verdict.FAIL
    # The reader reads; the heartbeat finds little left.
    assert db.execute("SELECT pbscast.heartbeat()").fetchone() == (None,)
    assert gaps(db) == [("full", "begin")]
    db.execute("DELETE FROM pbscast.journal WHERE seq < (SELECT max(seq) FROM pbscast.journal)")
    db.execute("SELECT pbscast.heartbeat()")
    assert [row["op"] for row in journal(db, "IUDTGH")] == ["G", "H"]
    _save_until(pbs, db, "full")
    pbs.save("1.s", substate="11.after")
    assert pairs(journal(db)[-1]["changed"]) == {"substate": "11.after"}
    assert pbs.slowest < BOUND


def test_markers_alone_do_not_grow_beyond_the_cap(dsn: str, pbs: Pbs, db: Connection) -> None:
    capture.install(dsn, site="sitea", cap_bytes=1 << 18)
    pbs.insert("1.s", job_state="11.Q")
    db.execute("ALTER TABLE pbscast.journal ADD CHECK (op IN ('H', 'G')) NOT VALID")
    for number in range(20_000):
        pbs.save("1.s", substate=f"11.{number}")
        pbs.connection.execute("SET pbscast.erred = ''")  # as many sessions would
        if lost(db):
            break

    assert gaps(db)[-1] == ("full", "begin")
    rows = len(gaps(db))
    for number in range(100):
        pbs.save("1.s", substate=f"11.{number}")
    assert len(gaps(db)) == rows


def _large(size: int) -> str:
    """Random hexadecimal digits: half of it remains when compressed."""
    return "11." + randbytes(size // 2).hex()


def test_large_rows_do_not_go_far_beyond_the_cap(dsn: str, pbs: Pbs, db: Connection) -> None:
    cap = 1 << 20
    capture.install(dsn, site="sitea", cap_bytes=cap)
    for number in range(20):
        pbs.insert(f"{number}.s", large=_large(300_000))
    assert gaps(db) == [("full", "begin")]
    size = db.execute("SELECT pg_total_relation_size('pbscast.journal')").fetchone()
    assert size is not None
    assert size[0] < cap + 500_000


def test_deleted_jobs_with_large_usage_do_not_go_far_beyond_the_cap(
    dsn: str, pbs: Pbs, db: Connection
) -> None:
    cap = 1 << 20
    usage = {"resources_used.x": _large(300_000)}
    for number in range(20):
        pbs.insert(f"{number}.s", **usage)
    db.execute("TRUNCATE pbscast.journal")
    capture.install(dsn, site="sitea", cap_bytes=cap)
    db.execute("SELECT setval('pbscast.journal_seq', 64)")
    for number in range(20):
        pbs.delete(f"{number}.s")
    assert gaps(db) == [("full", "begin")]
    size = db.execute("SELECT pg_total_relation_size('pbscast.journal')").fetchone()
    assert size is not None
    assert size[0] < cap + 500_000


def test_every_sixty_fourth_row_looks_at_the_size(dsn: str, pbs: Pbs, db: Connection) -> None:
    """Whatever else draws numbers: heartbeats and markers are given none of these."""
    pbs.insert("1.s")
    for number in range(70):
        db.execute("SELECT pbscast.heartbeat()")
        db.execute("SELECT pbscast.mark_gap('test', 'point', now(), '{}')")
        pbs.save("1.s", x=f"11.{number}")
    assert not [row for row in journal(db, "GH") if row["seq"] % 64 == 0]
    capture.install(dsn, site="sitea", cap_bytes=1)
    for number in range(64):
        pbs.save("1.s", y=f"11.{number}")
    assert gaps(db)[-1] == ("full", "begin")


def test_a_last_row_larger_than_the_cap_does_not_stay(dsn: str, pbs: Pbs, db: Connection) -> None:
    capture.install(dsn, site="sitea", cap_bytes=1 << 20)
    pbs.insert("1.s", large=_large(3_000_000))
    assert gaps(db) == [("full", "begin")]
    # The reader keeps the last row that it read.
    for _ in range(3):
        assert db.execute("SELECT pbscast.heartbeat()").fetchone() != (None,)
        db.execute("DELETE FROM pbscast.journal WHERE seq < (SELECT max(seq) FROM pbscast.journal)")
    assert db.execute("SELECT pbscast.is_full()").fetchone() == (False,)
    _save_until(pbs, db, "full")


COLUMNS = {
    "job": ["ji_jobid", "ji_svrflags", "ji_destin", "ji_creattm", "ji_savetm"],
    "queue": ["qu_name", "qu_creattm", "qu_savetm"],
    "node": ["nd_name", "nd_state", "nd_creattm", "nd_savetm"],
    "resv": ["ri_resvid", "ri_state", "ri_substate", "ri_creattm", "ri_savetm"],
    "server": ["sv_creattm", "sv_savetm"],
    "scheduler": ["sched_name", "sched_creattm", "sched_savetm"],
}
"""Those that the triggers name."""


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_changes_its_type_costs_one_save(dsn: str, db: Connection, kind: str) -> None:
    """PBS's connection stays, and with it what its session has planned."""
    saving = f"UPDATE pbs.{kind} SET attributes = attributes || hstore('x', %s)"
    with connected(dsn) as connection:
        pbs = Pbs(connection)
        _one_row(pbs, kind)
        for number in range(7):
            pbs.run(saving, [f"11.{number}"])
        for column in COLUMNS[kind]:
            was = db.execute(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attname = %s",
                [f"pbs.{kind}", column],
            ).fetchone()
            assert was is not None
            wider = {"integer": "bigint", "smallint": "bigint", "bigint": "numeric"}
            wanted = wider.get(was[0]) or ("timestamptz" if "time" in was[0] else "varchar")
            assert wanted != was[0]
            db.execute(f"ALTER TABLE pbs.{kind} ALTER {column} TYPE {wanted}".encode())
            connection.execute("SET pbscast.erred = ''")  # as a second later
            for number in range(7):
                pbs.run(saving, [f"11.{column}{number}"])
            assert pairs(journal(db, "U")[-1]["changed"]) == {"x": f"11.{column}6"}, column
        assert len(gaps(db)) + lost(db) <= len(COLUMNS[kind])
        assert pbs.slowest < BOUND


def _one_row(pbs: Pbs, kind: str) -> None:
    if kind == "job":
        pbs.insert("1.s")
        return
    columns = pbs.connection.execute(
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        [f"pbs.{kind}"],
    ).fetchall()
    values = {"hstore": "''", "timestamp without time zone": "localtimestamp", "text": "'x'"}
    listed = ", ".join(values.get(kind_of.split(".")[-1], "'1'") for _, kind_of in columns)
    pbs.run(f"INSERT INTO pbs.{kind} VALUES ({listed})")


def test_a_table_whose_trigger_fails_costs_one_marker_and_no_others_changes(
    pbs: Pbs, db: Connection
) -> None:
    pbs.insert("1.s")
    _one_row(pbs, "queue")
    db.execute("ALTER TABLE pbscast.journal ADD CHECK (kind <> 'queue') NOT VALID")
    for number in range(50):
        pbs.run("UPDATE pbs.queue SET attributes = attributes || hstore('x', %s)", [f"11.{number}"])
        pbs.save("1.s", x=f"11.{number}")
    assert gaps(db) == [("error", "point")]
    assert lost(db) == 49
    assert len(journal(db, "U")) == 50


def test_a_transaction_that_rolls_back_does_not_forgive_a_debt(
    dsn: str, pbs: Pbs, db: Connection
) -> None:
    pbs.insert("1.s", job_state="11.Q")
    with connect(dsn) as other, other.transaction():
        other.execute("LOCK TABLE pbscast.journal IN ACCESS EXCLUSIVE MODE")
        pbs.save("1.s", job_state="11.R")
    time.sleep(1.1)  # until the session may try again
    with pbs.connection.transaction(force_rollback=True):
        pbs.save("1.s", job_state="11.E")
    assert gaps(db) == []
    pbs.save("1.s", job_state="11.F")
    assert gaps(db) == [("lock", "end")]


def test_a_crash_loses_no_row_of_a_committed_save(own_postgres: PostgresServer) -> None:
    create_datastore(own_postgres.dsn(), "pbs_datastore")
    dsn = own_postgres.dsn("pbs_datastore")
    capture.install(dsn, site="sitea")
    pbs = Pbs(connect(dsn))
    pbs.insert("1.s", job_state="11.Q")
    for number in range(100):
        pbs.save("1.s", substate=f"11.{number}")
    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        pbs.save("1.s", substate="11.never")
    pbs.connection.close()
    own_postgres.start()
    with connected(dsn) as after:
        states = [pairs(row["changed"]).get("substate") for row in journal(after, "U")]
        assert states == [f"11.{number}" for number in range(100)]
        assert Pbs(after).value("substate") == "11.99"


@pytest.mark.parametrize(("major", "bindir"), find_postgres().items())
def test_a_filling_notification_queue_is_left_alone(major: int, bindir: Path) -> None:
    """From PostgreSQL 17 on the queue can be made small; else a tenth of 8 GB does."""
    small = {"max_notify_queue_pages": "64"} if major >= 17 else {}
    with PostgresServer(bindir=bindir, settings={"fsync": "off", **small}) as server:
        create_datastore(server.dsn(), "pbs_datastore")
        dsn = server.dsn("pbs_datastore")
        capture.install(dsn, site="sitea")
        with connect(dsn) as stuck, connect(dsn) as db:
            stuck.execute("LISTEN pbscast")
            stuck.execute("BEGIN")
            stuck.execute("SELECT 1")
            _fill_queue(db, count=10 if small else 5_000)
            pbs = Pbs(db)
            pbs.insert("1.s", job_state="11.Q")
            pbs.save("1.s", job_state="11.R")
            db.execute("SELECT pbscast.heartbeat()")
            assert len(journal(db)) == 2
            assert pbs.slowest < BOUND
            report = capture.check(dsn)
            (bell,) = [item for item in report.findings if item.subject == "doorbell"]
            assert bell.verdict is capture.Verdict.WARN
            assert "pid" in bell.advice


def _fill_queue(db: Connection, count: int) -> None:
    """To the brim or, where that would take too long, until the triggers leave it alone."""
    notify = "SELECT pg_notify('other', repeat('x', 7900) || n) FROM generate_series(1, %s) AS n"
    is_filling = "SELECT pg_notification_queue_usage() < 0.1"
    with suppress(psycopg.errors.ProgramLimitExceeded):
        while count < 1000 or db.execute(is_filling).fetchone() == (True,):
            db.execute(notify, [count])
