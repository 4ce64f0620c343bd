"""What each kind of save leaves in the journal, on every PostgreSQL of this machine."""

from __future__ import annotations

import re

import psycopg
import pytest
from harness.capturing import Connection, Pbs, connect, gaps, journal, pairs
from psycopg.conninfo import make_conninfo

from pbscast_ingest import capture

CREATED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?")


def test_an_insert_holds_the_whole_row(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q", Variable_List="11.A=b")

    (row,) = journal(db)
    assert (row["op"], row["kind"], row["key"]) == ("I", "job", "1.s")
    assert pairs(row["changed"]) == {"job_state": "11.Q", "Variable_List": "11.A=b"}
    columns = pairs(row["columns"])
    assert {"attributes", "ji_savetm"}.isdisjoint(columns)
    assert (columns["ji_svrflags"], columns["ji_queue"], len(columns)) == ("33", "workq", 17)
    assert CREATED.fullmatch(row["created"])
    assert row["created"] == columns["ji_creattm"]


SECRET = ("cookie", "forward_x11_cookie", "security", "cred", "credential_id")


def test_what_is_secret_of_a_job_is_in_no_row(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q", **dict.fromkeys(SECRET, "11.hush"))
    pbs.save("1.s", **dict.fromkeys(SECRET, "11.hushhush"))
    pbs.save("1.s", job_state="11.R", cookie="11.hushhushhush")
    pbs.remove(*SECRET)
    pbs.delete("1.s")

    assert [row["op"] for row in journal(db)] == ["I", "U", "D"]
    text = str(db.execute("SELECT j::text FROM pbscast.journal AS j").fetchall())
    assert not any(word in text for word in ("hush", "cookie", "security", "credential"))


def test_a_heartbeat_is_written_in_a_subtransaction_like_every_row(
    pbs: Pbs, db: Connection
) -> None:
    pbs.insert("1.s")
    db.execute("SELECT pbscast.heartbeat()")
    rows = db.execute("SELECT op::text, xmin::text = xid::text FROM pbscast.journal ORDER BY seq")
    assert rows.fetchall() == [("I", False), ("H", False)]


def test_an_update_holds_what_changed_and_what_it_was(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q", substate="11.10", queue="11.workq")
    pbs.save("1.s", job_state="11.R", exec_host="11.n1/0")

    first, row = journal(db)
    assert (row["op"], row["key"], row["created"]) == ("U", "1.s", first["created"])
    assert pairs(row["changed"]) == {"job_state": "11.R", "exec_host": "11.n1/0"}
    assert pairs(row["before"]) == {"job_state": "11.Q"}
    assert (row["columns"], row["removed"]) == ([], [])
    assert pairs(row["context"]) == {
        "job_state": "11.R",
        "substate": "11.10",
        "queue": "11.workq",
        "ji_svrflags": "33",
    }


def test_a_save_of_columns_alone_holds_their_old_values(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.R")
    pbs.quick("1.s", svrflags=512)

    row = journal(db)[-1]
    assert pairs(row["columns"]) == {"ji_svrflags": "512"}
    assert pairs(row["before"]) == {"ji_svrflags": "33"}
    assert row["changed"] == []
    assert pairs(row["context"])["ji_svrflags"] == "512"


def test_a_removal_names_the_attributes_that_went(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q", Exit_status="11.1")
    pbs.remove("Exit_status", "absent")

    row = journal(db)[-1]
    assert (row["removed"], row["changed"], row["before"]) == (["Exit_status"], [], [])


@pytest.mark.parametrize("again", [{"mtime": "11.2"}, {"job_state": "11.Q"}, {}])
def test_a_save_that_changed_nothing_leaves_nothing(
    pbs: Pbs, db: Connection, again: dict[str, str]
) -> None:
    pbs.insert("1.s", job_state="11.Q", mtime="11.1")
    pbs.save("1.s", **again)

    assert [row["op"] for row in journal(db)] == ["I"]


def test_a_flip_of_flags_is_journalled_as_it_is(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", job_state="11.Q")
    pbs.save("1.s", job_state="3.Q")

    row = journal(db)[-1]
    assert (pairs(row["changed"]), pairs(row["before"])) == (
        {"job_state": "3.Q"},
        {"job_state": "11.Q"},
    )


def test_a_delete_holds_the_last_state_and_the_usage(pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s", **{"job_state": "11.F", "resources_used.cput": "11.00:00:07", "x": "11."})
    pbs.delete("1.s")

    row = journal(db)[-1]
    assert (row["op"], row["key"], row["changed"]) == ("D", "1.s", [])
    assert pairs(row["context"]) == {
        "job_state": "11.F",
        "resources_used.cput": "11.00:00:07",
        "ji_svrflags": "33",
        "ji_destin": "",
    }


ROWS = {
    "queue": ("('q1', 1, localtimestamp, localtimestamp, 'a=>1')", "q1", "qu_creattm"),
    "node": ("('n1', 0, 'h', 0, 0, '', 1, localtimestamp, localtimestamp, 'a=>1')", "n1", ""),
    "resv": (
        "('R1.s', 'R1', 1, 1, 0, 0, 0, 0, 1, localtimestamp, localtimestamp, 'a=>1')",
        "R1.s",
        "",
    ),
    "server": ("(1, localtimestamp, localtimestamp, 'a=>1')", "", ""),
    "scheduler": ("('default', localtimestamp, localtimestamp, 'a=>1')", "default", ""),
}


@pytest.mark.parametrize("kind", ROWS)
def test_every_table_is_captured_under_its_own_key(pbs: Pbs, db: Connection, kind: str) -> None:
    values, key, _ = ROWS[kind]
    pbs.run(f"INSERT INTO pbs.{kind} VALUES {values}")
    pbs.run(f"UPDATE pbs.{kind} SET attributes = attributes || 'a=>2'::hstore")
    pbs.run(f"DELETE FROM pbs.{kind}")

    rows = journal(db)
    assert [(row["op"], row["kind"], row["key"]) for row in rows] == [
        ("I", kind, key),
        ("U", kind, key),
        ("D", kind, key),
    ]
    assert len({row["created"] for row in rows}) == 1
    assert pairs(rows[1]["changed"]) == {"a": "2"}


def test_a_truncate_names_each_table(pbs: Pbs, db: Connection) -> None:
    pbs.run(
        "TRUNCATE pbs.scheduler, pbs.node, pbs.queue, pbs.resv, pbs.job_scr, pbs.job, pbs.server"
    )

    assert {(row["op"], row["kind"]) for row in journal(db)} == {
        ("T", kind) for kind in ("job", *ROWS)
    }


def test_bytes_that_are_no_utf8_arrive_as_they_are(dsn: str) -> None:
    with psycopg.connect(make_conninfo(dsn, client_encoding="SQL_ASCII"), autocommit=True) as raw:
        raw.execute(b"INSERT INTO pbs.job VALUES ('1.s', 1, 10, 33, 0, 'workq', '', 1, 0, 0, 0, 0,"
                    b" 0, '', 0, 7, localtimestamp, localtimestamp,"
                    b" hstore(ARRAY['Variable_List', E'11.N=caf\\351\\\\,\n\"x\"']))")  # fmt: skip
        answer = raw.execute("SELECT changed[2] FROM pbscast.journal").fetchone()

    assert answer == (b'11.N=caf\xe9\\,\n"x"',)


def test_a_value_of_a_megabyte_and_ten_thousand_attributes(pbs: Pbs, db: Connection) -> None:
    big = "11." + "x" * (1 << 20)
    pbs.insert("1.s", Variable_List=big, **{f"Resource_List.r{n}": "11.1" for n in range(10_000)})
    pbs.save("1.s", Variable_List=big[:-1] + "y")

    inserted, updated = journal(db)
    assert len(pairs(inserted["changed"])) == 10_001
    assert pairs(updated["changed"]) == {"Variable_List": big[:-1] + "y"}
    assert pairs(updated["before"]) == {"Variable_List": big}


def test_an_attribute_without_value_is_kept_apart_from_an_empty_one(
    pbs: Pbs, db: Connection
) -> None:
    pbs.insert("1.s", a="11.")
    pbs.run("UPDATE pbs.job SET attributes = attributes || hstore('a', NULL)")

    assert pairs(journal(db)[-1]["changed"]) == {"a": None}


def test_what_is_rolled_back_is_not_in_the_journal(dsn: str, db: Connection) -> None:
    with connect(dsn) as other:
        pbs = Pbs(other)
        with other.transaction():
            pbs.insert("1.s", job_state="11.Q")
            with other.transaction(force_rollback=True):
                pbs.save("1.s", job_state="11.R")
            pbs.save("1.s", job_state="11.H")
        with other.transaction(force_rollback=True):
            pbs.save("1.s", job_state="11.W")

    rows = journal(db)
    assert [pairs(row["changed"])["job_state"] for row in rows] == ["11.Q", "11.H"]
    assert len({row["xid"] for row in rows}) == 1


def test_settings_of_the_session_do_not_show(dsn: str, db: Connection) -> None:
    with connect(dsn, options="-c datestyle=german -c session_replication_role=replica") as other:
        Pbs(other).insert("1.s")

    (row,) = journal(db)
    assert CREATED.fullmatch(row["created"])


SHADOWS = """
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.nextval(text) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RAISE; END';
CREATE FUNCTION evil.any_two(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql
    AS 'BEGIN RAISE; END';
CREATE FUNCTION evil.two_texts(text, text) RETURNS boolean LANGUAGE plpgsql
    AS 'BEGIN RAISE; END';
CREATE OPERATOR evil.=  (PROCEDURE = evil.any_two, LEFTARG = anyelement, RIGHTARG = anyelement);
CREATE OPERATOR evil.<> (PROCEDURE = evil.any_two, LEFTARG = anyelement, RIGHTARG = anyelement);
CREATE OPERATOR evil.=  (PROCEDURE = evil.two_texts, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR evil.<> (PROCEDURE = evil.two_texts, LEFTARG = text, RIGHTARG = text);
"""


def test_a_hostile_search_path_changes_nothing(dsn: str, db: Connection) -> None:
    db.execute(SHADOWS)
    with connect(dsn) as other:
        pbs = Pbs(other)
        pbs.insert("1.s", job_state="11.Q")
        other.execute("SET search_path = evil, pg_catalog, public")
        other.execute(
            "UPDATE pbs.job SET ji_svrflags = 1, attributes = hstore('job_state', '11.R')"
        )
        other.execute("DELETE FROM pbs.job")

    assert [row["op"] for row in journal(db)] == ["I", "U", "D"]
    assert gaps(db) == []


TYPES = ("record", "text", "_text", "int4", "int8", "bool", "numeric", "timestamptz", "trigger")
IMPOSTORS = {
    "shells": "CREATE TYPE evil.{}",
    "domains": "CREATE DOMAIN evil.{} AS pg_catalog.float4",
    "of the session": "CREATE TYPE pg_temp.{} AS (a pg_catalog.float4)",
}


@pytest.mark.parametrize("impostor", IMPOSTORS)
def test_a_hostile_path_changes_nothing_where_functions_are_read_first(
    dsn: str, db: Connection, impostor: str
) -> None:
    """What PL/pgSQL resolves when it first meets a function stands outside its every block."""
    db.execute(SHADOWS)
    path = "evil,pg_catalog,public" if impostor != "of the session" else "public"
    with connect(dsn, options=f"-c search_path={path}") as other:
        for name in TYPES:
            other.execute(IMPOSTORS[impostor].format(name).encode())
        other.execute(
            "INSERT INTO pbs.job VALUES ('1.s', 1, 10, 33, 0, 'workq', '', 1, 0, 0, 0, 0, 0, '', 0,"
            " 7, localtimestamp, localtimestamp, 'job_state=>11.Q')"
        )
        other.execute("UPDATE pbs.job SET ji_svrflags = 1, attributes = 'job_state=>11.R'")
        other.execute("UPDATE pbs.job SET attributes = 'job_state=>11.E'")
        other.execute("DELETE FROM pbs.job")
        other.execute("TRUNCATE pbs.queue")

    assert [row["op"] for row in journal(db)] == ["I", "U", "U", "D", "T"]
    assert gaps(db) == []


def test_the_doorbell_rings_for_a_change_and_only_for_one(dsn: str, pbs: Pbs) -> None:
    with connect(dsn) as listener:
        listener.execute("LISTEN pbscast")
        pbs.insert("1.s", mtime="11.1")
        assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1
        pbs.save("1.s", mtime="11.2")
        assert list(listener.notifies(timeout=0.1)) == []


def test_without_doorbell_the_journal_is_the_same(dsn: str, pbs: Pbs, db: Connection) -> None:
    capture.install(dsn, site="sitea", notify=False)
    with connect(dsn) as listener:
        listener.execute("LISTEN pbscast")
        pbs.insert("1.s")
        db.execute("SELECT pbscast.heartbeat()")
        assert list(listener.notifies(timeout=0.1)) == []
    assert len(journal(db)) == 1


def test_a_pause_is_marked_at_both_ends(dsn: str, pbs: Pbs, db: Connection) -> None:
    pbs.insert("1.s")
    capture.pause(dsn, "testing")
    capture.pause(dsn, "twice")
    pbs.save("1.s", job_state="11.R")
    pbs.run("TRUNCATE pbs.queue")
    capture.install(dsn, site="sitea")
    pbs.save("1.s", job_state="11.E")
    assert gaps(db) == [("pause", "begin")]
    capture.resume(dsn)
    capture.resume(dsn)
    pbs.save("1.s", job_state="11.F")

    assert gaps(db) == [("pause", "begin"), ("pause", "end")]
    assert pairs(journal(db, "G")[0]["context"])["why"] == "testing"
    assert [row["op"] for row in journal(db, "IUDTG")] == ["I", "G", "G", "U"]


def test_a_heartbeat_names_what_is_not_captured(db: Connection) -> None:
    db.execute("SELECT pbscast.heartbeat()")
    db.execute("ALTER TABLE pbs.queue DISABLE TRIGGER pbscast_row")
    db.execute("DROP TRIGGER pbscast_truncate ON pbs.node")
    db.execute("SELECT pbscast.heartbeat()")

    well, ill = journal(db, "H")
    assert well["context"] == []
    assert sorted(ill["context"]) == [
        "pbs.node: a trigger is missing or disabled",
        "pbs.queue: a trigger is missing or disabled",
    ]
