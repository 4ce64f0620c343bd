"""Installing, mending, upgrading and removing capture, on every PostgreSQL of this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from harness.capturing import Connection, Pbs, connect, connected, gaps, journal, pairs
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    ConflictError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.embedded.binaries import wheel_postgres
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import capture
from pbscast_ingest.capture import Settings, Verdict, installation, session
from pbscast_ingest.capture.script import preparing_messages
from pbscast_ingest.statements import capture_script

SAVE_BOUND = 0.5
"""Seconds that a save may take while capture is installed or removed: 0.15 promised, and slack."""


@pytest.fixture
def dsn(each_datastore_dsn: str) -> str:
    return each_datastore_dsn


@pytest.fixture
def db(dsn: str) -> Iterator[Connection]:
    with connected(dsn) as connection:
        yield connection


def identity(db: Connection) -> str:
    row = db.execute("SELECT pbscast.identity()").fetchone()
    assert row
    return str(row[0])


def is_well(dsn: str) -> bool:
    """But for the reader, which these tests do not run."""
    found = [f for f in capture.check(dsn).findings if f.verdict is not Verdict.OK]
    return [f.subject for f in found] == ["reading"]


def everything(db: Connection) -> list[tuple[str, ...]]:
    """What of ours, or given to ours, the catalogs hold."""
    return db.execute(
        "SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname = 'pbscast'"
        " UNION ALL SELECT 'trigger', tgname::text FROM pg_trigger WHERE tgname LIKE 'pbscast%'"
        " UNION ALL SELECT 'right', relname::text FROM pg_class WHERE relacl::text LIKE '%pbscast%'"
        " UNION ALL SELECT 'right', nspname::text FROM pg_namespace"
        "  WHERE nspacl::text LIKE '%pbscast%' ORDER BY 1, 2"
    ).fetchall()


def test_installing_twice_changes_nothing(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    before = identity(db)
    Pbs(db).insert("1.s")
    capture.install(dsn, site="sitea")

    assert identity(db) == before
    assert [row["op"] for row in journal(db, "IG")] == ["I"]
    assert is_well(dsn)


def test_a_removal_leaves_nothing_and_can_be_repeated(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea", reader_role="pbscast 'odd' \"reader")
    assert everything(db) != []
    capture.uninstall(dsn)
    capture.uninstall(dsn)

    assert everything(db) == []
    roles = db.execute("SELECT rolname FROM pg_roles WHERE rolname ~ 'odd|pbscast_owner'")
    assert roles.fetchall() == []
    Pbs(db).insert("1.s")


def test_a_reader_that_was_there_before_stays(dsn: str, db: Connection) -> None:
    db.execute("CREATE ROLE site_reader LOGIN")
    try:
        capture.install(dsn, site="sitea", reader_role="site_reader")
        capture.uninstall(dsn)
        assert db.execute(
            "SELECT has_table_privilege('site_reader', 'pbs.job', 'SELECT')"
        ).fetchone() == (False,)
    finally:
        db.execute("DROP ROLE site_reader")


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER pbscast_row ON pbs.job",
        "DROP TABLE pbscast.installation",
        "DROP TABLE pbscast.journal, pbscast.control",
        "DROP FUNCTION pbscast.mode(); DROP SEQUENCE pbscast.journal_seq, pbscast.gap_seq",
        "DROP FUNCTION pbscast.capture_job() CASCADE",
        "DROP SCHEMA pbscast CASCADE",
        "DROP SCHEMA pbs CASCADE",
    ],
)
def test_a_removal_works_where_parts_are_missing(dsn: str, db: Connection, damage: str) -> None:
    capture.install(dsn, site="sitea")
    db.execute(damage.encode())
    capture.uninstall(dsn)

    assert everything(db) == []


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE pbscast.journal",
        "ALTER TABLE pbscast.journal RENAME TO gone",
        "DROP SEQUENCE pbscast.journal_seq",
        "DROP TABLE pbscast.installation",
    ],
)
def test_a_journal_made_anew_is_another_journal(dsn: str, db: Connection, damage: str) -> None:
    capture.install(dsn, site="sitea")
    before = identity(db)
    db.execute(damage.encode())
    if damage.endswith("gone"):
        db.execute("ALTER INDEX pbscast.journal_pkey RENAME TO gone_pkey")
    capture.install(dsn, site="sitea")

    assert identity(db) != before
    assert is_well(dsn)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER pbscast_row ON pbs.job",
        "ALTER TABLE pbs.job DISABLE TRIGGER pbscast_row",
        "ALTER TABLE pbs.job ENABLE REPLICA TRIGGER pbscast_truncate",
    ],
)
def test_missing_triggers_are_told_mended_and_marked(dsn: str, db: Connection, damage: str) -> None:
    capture.install(dsn, site="sitea")
    db.execute(damage.encode())
    report = capture.check(dsn)
    assert report.verdict is Verdict.FAIL
    assert [f.subject for f in report.findings if f.verdict is Verdict.FAIL] == [
        "triggers on pbs.job"
    ]
    capture.upgrade(dsn, site="sitea")

    assert gaps(db) == [("triggers", "end")]
    assert is_well(dsn)


def test_an_older_installation_is_upgraded_in_place(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    Pbs(db).insert("1.s")
    before = identity(db)
    db.execute(
        "UPDATE pbscast.installation SET version = 0, script = 'old';"
        "CREATE OR REPLACE FUNCTION pbscast.capture_job() RETURNS trigger LANGUAGE plpgsql"
        " SECURITY DEFINER AS 'BEGIN RETURN NULL; END';"
        "UPDATE pbscast.installation SET functions = NULL"
    )
    assert capture.check(dsn).verdict is Verdict.WARN
    capture.upgrade(dsn, site="sitea")
    Pbs(db).insert("2.s")

    assert identity(db) == before
    assert [row["key"] for row in journal(db)] == ["1.s", "2.s"]
    assert is_well(dsn)


def test_a_newer_installation_is_left_alone(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    db.execute("UPDATE pbscast.installation SET version = 99")

    with pytest.raises(ConflictError, match="newer release"):
        capture.install(dsn, site="sitea")
    assert capture.check(dsn).verdict is Verdict.FAIL


def test_the_printed_sql_is_what_install_does(dsn: str, db: Connection, tmp_path: Path) -> None:
    capture.install(dsn, site="it's", reader_role='odd "reader', cap_bytes=5 << 20)
    expected = (
        everything(db),
        db.execute("SELECT site, script FROM pbscast.installation").fetchall(),
    )
    capture.uninstall(dsn)
    script = tmp_path / "install.sql"
    script.write_text(capture.render_install(Settings("it's", 'odd "reader', 5 << 20)))
    _psql(dsn, script)

    assert (
        everything(db),
        db.execute("SELECT site, script FROM pbscast.installation").fetchall(),
    ) == expected
    assert is_well(dsn)
    script.write_text(capture.render_uninstall())
    _psql(dsn, script)
    assert everything(db) == []


def _psql(dsn: str, script: Path) -> None:
    program = shutil.which("psql") or str(wheel_postgres() / "psql")
    command = [program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_password_is_kept_as_its_verifier(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea", reader_password="s3cret'\"")
    stored = db.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'pbscast_reader'")
    first = stored.fetchone()
    capture.install(dsn, site="sitea")
    again = db.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'pbscast_reader'")

    assert first is not None
    assert str(first[0]).startswith("SCRAM-SHA-256$4096:")
    assert again.fetchone() == first


def test_a_reader_logs_in_with_its_password_only(own_postgres: PostgresServer) -> None:
    create_datastore(own_postgres.dsn(), "pbs_datastore")
    capture.install(own_postgres.dsn("pbs_datastore"), site="sitea", reader_password="right")

    def login(password: str) -> str:
        return own_postgres.dsn("pbs_datastore", user="pbscast_reader", password=password, tcp=True)

    with connected(login("right")) as reader:
        reader.execute("SELECT * FROM pbs.job")
    with pytest.raises(AccessDeniedError) as refused:
        capture.check(login("wr0ng"))
    assert "wr0ng" not in str(refused.value)
    log = (own_postgres.directory / "log").read_text()
    assert "right" not in log


READS = ("pbs.job", "pbs.queue", "pbs.node", "pbs.resv", "pbs.server", "pbs.scheduler")


def test_the_reader_can_do_its_work(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    Pbs(db).insert("1.s")
    with connected(dsn, user="pbscast_reader") as reader:
        for table in (*READS, "pbs.info", "pbscast.installation", "pbscast.gap_seq"):
            reader.execute(f"SELECT * FROM {table}".encode())
        reader.execute("SELECT pbscast.heartbeat(), pbscast.identity(), pbscast.defects()")
        assert [row["op"] for row in journal(reader, "IH")] == ["I", "H"]
        reader.execute("DELETE FROM pbscast.journal WHERE seq <= 2")
        reader.execute("SELECT public.hstore_to_array(attributes) FROM pbs.job")
        reader.execute("LISTEN pbscast")


FORBIDDEN = (
    "SELECT * FROM pbs.job_scr",
    *(f"DELETE FROM {table}" for table in READS),
    "UPDATE pbs.job SET ji_queue = ''",
    "INSERT INTO pbs.info VALUES ('2')",
    "TRUNCATE pbs.job",
    "ALTER TABLE pbs.job DISABLE TRIGGER pbscast_row",
    "DROP TRIGGER pbscast_row ON pbs.job",
    "INSERT INTO pbscast.journal (seq, xid, at, op) VALUES (1, 1, now(), 'H')",
    "UPDATE pbscast.journal SET key = ''",
    "TRUNCATE pbscast.journal",
    "SELECT pbscast.pause('')",
    "SELECT pbscast.resume()",
    "SELECT pbscast.set_mode(1)",
    "SELECT nextval('pbscast.gap_seq')",
    "UPDATE pbscast.control SET cap_bytes = 1",
    "SELECT pbscast.mark_gap('', '', now(), '{}')",
    "SET ROLE pbscast_owner",
    "CREATE TABLE pbscast.mine ()",
    "CREATE TABLE pbs.mine ()",
)


def test_the_reader_can_do_nothing_else(dsn: str) -> None:
    capture.install(dsn, site="sitea")
    with connected(dsn, user="pbscast_reader") as reader:
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement.encode())


def test_nobody_else_has_any_right(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    db.execute("CREATE ROLE stranger")
    try:
        found = db.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'pbscast'::regnamespace"
            " AND has_function_privilege('stranger', oid, 'EXECUTE')"
            " UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'pbscast'::regnamespace"
            " AND relkind = 'r' AND has_table_privilege('stranger', oid, 'SELECT')"
        ).fetchall()
    finally:
        db.execute("DROP ROLE stranger")
    assert found == []


def test_pbs_may_alter_drop_and_make_anew_its_tables(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    pbs = Pbs(db)
    pbs.insert("1.s", job_state="11.Q")
    db.execute(
        "ALTER TABLE pbs.job DROP COLUMN ji_rteretry;"
        "ALTER TABLE pbs.job ADD COLUMN ji_new text DEFAULT 'x';"
        "ALTER TABLE pbs.job ALTER COLUMN ji_svrflags TYPE bigint;"
        "ALTER TABLE pbs.job RENAME COLUMN ji_jid TO ji_other"
    )
    db.execute("UPDATE pbs.job SET ji_new = 'y', attributes = hstore('job_state', '11.R')")

    row = journal(db)[-1]
    assert (pairs(row["columns"]), row["op"]) == ({"ji_new": "y"}, "U")
    db.execute("DROP SCHEMA pbs CASCADE")
    report = capture.check(dsn)
    assert report.verdict is Verdict.FAIL
    assert any("no PBS" in f.text or "none in this" in f.text for f in report.findings)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP SCHEMA pbscast CASCADE",
        "DROP TRIGGER pbscast_truncate ON pbs.job",
        "ALTER TABLE pbs.job DISABLE TRIGGER pbscast_row",
    ],
)
def test_who_reads_a_table_for_long_holds_up_neither_pbs_nor_an_installation(
    dsn: str, db: Connection, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "PATIENCE", 2)
    capture.install(dsn, site="sitea")
    db.execute(damage.encode())
    with connected(dsn) as dump, dump.transaction():
        dump.execute("SELECT FROM pbs.job")
        capture.install(dsn, site="sitea")
    assert is_well(dsn)


def test_a_trigger_that_is_another_is_made_anew(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    db.execute("DROP TRIGGER pbscast_row ON pbs.job")
    db.execute(
        "CREATE TRIGGER pbscast_row BEFORE INSERT ON pbs.job"
        " FOR EACH ROW EXECUTE PROCEDURE pbscast.capture_job()"
    )
    capture.install(dsn, site="sitea")
    Pbs(db).insert("1.s")
    assert is_well(dsn)
    assert [row["op"] for row in journal(db)] == ["I"]


# What `pbs_server -t create` and an upgrade of PBS do.
ALTERATIONS = [
    "TRUNCATE pbs.job, pbs.queue",
    "ALTER TABLE pbs.job ADD COLUMN extra text",
    "ALTER TABLE pbs.info ADD COLUMN extra text",
    "ALTER TABLE pbs.job_scr ADD COLUMN extra text",
]


@pytest.mark.parametrize("is_there", [False, True])
def test_pbs_may_alter_its_tables_while_an_installation_prepares(
    dsn: str,
    db: Connection,
    is_there: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    if is_there:
        capture.install(dsn, site="sitea")
    with connected(dsn) as other:
        for message in preparing_messages(Settings("sitea")):
            other.execute(message.encode())
        db.execute("SET statement_timeout = '5s'")
        for alteration in ALTERATIONS:
            db.execute(alteration.encode())
        other.execute("\n".join([*capture_script("triggers"), "COMMIT"]).encode())
    assert is_well(dsn)


@pytest.mark.parametrize("what", ["install", "uninstall"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_pbs_that_alters_a_table_waits_for_rights_and_does_not_fail(
    dsn: str, db: Connection, what: str, alteration: str
) -> None:
    messages = [*preparing_messages(Settings("sitea")), *capture_script("triggers")]
    if what == "uninstall":
        capture.install(dsn, site="sitea")
        messages = [m.removesuffix("COMMIT;\n") for m in capture_script("uninstall")]
    with connected(dsn) as other, ThreadPoolExecutor(1) as pool:
        stay = "SET LOCAL idle_in_transaction_session_timeout = 0"
        other.execute("\n".join([*messages, stay]).encode())
        with connected(dsn) as watching:
            altering = pool.submit(db.execute, alteration.encode())
            while not (altering.done() or is_blocked(watching, db)):
                time.sleep(0.01)
        other.execute("COMMIT")
        altering.result(timeout=30)


def is_blocked(watching: Connection, db: Connection) -> bool:
    query = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
    return watching.execute(query, [db.info.backend_pid]).fetchone() == (True,)


def test_hstore_may_live_anywhere(dsn: str, db: Connection) -> None:
    db.execute('CREATE SCHEMA "Odd schema"; ALTER EXTENSION hstore SET SCHEMA "Odd schema"')
    capture.install(dsn, site="sitea")
    db.execute('SET search_path = public, "Odd schema"')
    pbs = Pbs(db)
    pbs.insert("1.s", job_state="11.Q")
    pbs.save("1.s", job_state="11.R")
    pbs.quick("1.s", svrflags=1)
    pbs.delete("1.s")

    assert [row["op"] for row in journal(db, "IUDG")] == ["I", "U", "U", "D"]


HOSTILE = {
    "format": ["text, regprocedure", "text, regclass", "text, name"],
    "to_regclass": ["varchar"],
    "strpos": ["name, text"],
    "quote_ident": ["name", "varchar"],
    "unnest": ["text[]"],
    "current_database": [""],
    "max": ["timestamptz"],
    "hs_concat": ["public.hstore, text", "text, text"],
    "hstore_ne": ["public.hstore, text", "text, text"],
    "delete": ["public.hstore, varchar", "public.hstore, varchar[]"],
    "slice": ["public.hstore, varchar[]"],
    "hstore": ["pbs.job", "varchar, text", "varchar[]", "anyelement"],
    "hstore_to_array": ["pbs.job", "text"],
}
"""Better matches than hstore's own for an argument that is not exactly of its type; and than
PostgreSQL's own for what an administrator's session calls, whose rights would be worth having."""


def test_a_strangers_functions_beside_hstores_are_never_called(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    db.execute(
        "GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE TABLE public.hits (what text);"
        "GRANT ALL ON public.hits TO PUBLIC"
    )
    with connected(dsn, user="pbscast_reader") as stranger:
        for name, forms in HOSTILE.items():
            for form in forms:
                note = f"INSERT INTO public.hits VALUES ('{name}({form})')"
                stranger.execute(
                    f"CREATE FUNCTION public.{name}({form}) RETURNS public.hstore"
                    f" LANGUAGE plpgsql AS $$BEGIN {note}; RETURN ''; END$$".encode()
                )
    with connected(dsn) as connection:
        connection.execute(
            "INSERT INTO pbs.job VALUES ('1.s', 1, 10, 33, 0, 'workq', '', 1, 0, 0, 0, 0, 0, '', 0,"
            " 7, localtimestamp, localtimestamp, 'job_state=>11.Q'::public.hstore)"
        )
        Pbs(connection).quick("1.s", svrflags=1)
        connection.execute("UPDATE pbs.job SET attributes = 'job_state=>11.R'::public.hstore")
        Pbs(connection).delete("1.s")

    assert "FROM PUBLIC" in str(capture.check(dsn).findings)
    capture.pause(dsn, "testing")
    capture.resume(dsn)
    capture.upgrade(dsn, site="sitea", cap_bytes=1 << 29)
    assert [row["op"] for row in journal(db, "IUDG")][:4] == ["I", "U", "U", "D"]
    capture.uninstall(dsn)
    assert db.execute("SELECT what FROM public.hits").fetchall() == []


def test_the_superuser_can_be_replaced(dsn: str, db: Connection) -> None:
    db.execute("CREATE ROLE old_pbs SUPERUSER LOGIN; CREATE ROLE new_pbs SUPERUSER LOGIN")
    try:
        for table in (*READS, "pbs.info", "pbs.job_scr"):
            db.execute(f"ALTER TABLE {table} OWNER TO old_pbs".encode())
        capture.install(make_conninfo(dsn, user="old_pbs"), site="sitea")
        with connected(dsn, user="new_pbs") as new:
            new.execute("REASSIGN OWNED BY old_pbs TO new_pbs; DROP ROLE old_pbs")
            Pbs(new).insert("1.s")
        assert [row["op"] for row in journal(db)] == ["I"]
        assert is_well(dsn)
    finally:
        capture.uninstall(dsn)
        db.execute("DROP ROLE IF EXISTS old_pbs; REASSIGN OWNED BY new_pbs TO CURRENT_USER")
        db.execute("DROP ROLE new_pbs")


def test_a_table_in_use_leaves_everything_as_it_was(
    dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "PATIENCE", 0.5)
    with connect(dsn, application_name="in the way") as other, other.transaction():
        other.execute("LOCK TABLE pbs.resv IN ROW EXCLUSIVE MODE")
        with pytest.raises(UnavailableError, match="in the way") as refused:
            capture.install(dsn, site="sitea")
        assert refused.value.transient
        assert everything(db) == []
    capture.install(dsn, site="sitea")
    with connect(dsn, application_name="in the way") as other, other.transaction():
        other.execute("SELECT FROM pbs.resv")
        with pytest.raises(UnavailableError, match="in the way"):
            capture.uninstall(dsn)
        assert is_well(dsn)


def test_pbs_saves_go_on_while_capture_comes_and_goes(dsn: str) -> None:
    stop = threading.Event()
    with connect(dsn) as connection:
        pbs = Pbs(connection)
        pbs.insert("1.s")

        def work() -> int:
            saves = 0
            while not stop.is_set():
                pbs.save("1.s", substate=f"11.{saves}")
                saves += 1
            return saves

        with ThreadPoolExecutor(1) as pool:
            saving = pool.submit(work)
            try:
                for _ in range(5):
                    capture.install(dsn, site="sitea")
                    capture.install(dsn, site="sitea")
                    capture.uninstall(dsn)
                capture.install(dsn, site="sitea")
            finally:
                stop.set()
            saves = saving.result(timeout=60)
        pbs.save("1.s", substate="11.last")
        assert saves > 100
        assert pbs.slowest < SAVE_BOUND
        assert pairs(journal(connection)[-1]["changed"]) == {"substate": "11.last"}
        assert gaps(connection) == []


def test_concurrent_installs_take_turns(dsn: str, db: Connection) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(capture.install, dsn, site="sitea") for _ in range(8)]:
            done.result(timeout=60)

    assert is_well(dsn)
    assert gaps(db) == []


def _elsewhere(dsn: str, **changes: str) -> str:
    return make_conninfo("", **{**conninfo_to_dict(dsn), **changes})


def test_a_fault_of_the_site_is_one_clear_line(dsn: str, db: Connection) -> None:
    cases: list[tuple[str, str, type[PbscastError], str]] = [
        (_elsewhere(dsn, dbname="nowhere"), "", NotFoundError, "nowhere"),
        (_elsewhere(dsn, host="127.0.0.1", port="1"), "", UnavailableError, "127.0.0.1:1"),
        ("host", "", ConfigError, "malformed"),
        (_elsewhere(dsn, dbname="postgres"), "", UnsupportedError, "no PBS datastore"),
        (dsn, "UPDATE pbs.info SET pbs_schema_version = '7.0'", UnsupportedError, "schema 7.0"),
        (dsn, "DELETE FROM pbs.info", UnsupportedError, "schema"),
        (dsn, "INSERT INTO pbs.info VALUES ('1.5.0'); ALTER TABLE pbs.job DROP COLUMN ji_creattm",
         UnsupportedError, "pbs.job.ji_creattm"),
        (dsn, "DROP EXTENSION hstore CASCADE", UnsupportedError, "hstore"),
    ]  # fmt: skip
    for where, preparation, kind, words in cases:
        if preparation:
            db.execute(preparation.encode())
        with pytest.raises(kind, match=words) as raised:
            capture.install(where, site="sitea")
        assert "\n" not in str(raised.value)
        assert everything(db) == []


def test_a_role_with_too_many_or_too_few_rights_is_refused(dsn: str, db: Connection) -> None:
    db.execute("CREATE ROLE plain LOGIN; CREATE ROLE mighty SUPERUSER")
    try:
        with pytest.raises(AccessDeniedError, match="no superuser"):
            capture.install(_elsewhere(dsn, user="plain"), site="sitea")
        with pytest.raises(ConfigError, match="cannot be the reader"):
            capture.install(dsn, site="sitea", reader_role="mighty")
    finally:
        db.execute("DROP ROLE plain; DROP ROLE mighty")
    with pytest.raises(UsageError):
        capture.install(dsn, site="sitea", cap_bytes=0)


def test_the_kill_switch_without_an_installation_is_one_clear_line(dsn: str) -> None:
    with pytest.raises(PbscastError, match="not installed"):
        capture.pause(dsn, "why")
    with pytest.raises(PbscastError, match="not installed"):
        capture.resume(dsn)


def test_what_is_not_asked_for_stays_as_it_is(dsn: str) -> None:
    assert capture.install(dsn, site="sitea") == (1 << 30, True, False)
    assert capture.install(dsn, site="sitea", cap_bytes=5 << 20, notify=False)[:2] == (
        5 << 20,
        False,
    )
    capture.pause(dsn, "testing")
    assert capture.upgrade(dsn, site="sitea") == (5 << 20, False, True)
    assert capture.upgrade(dsn, site="sitea", notify=True) == (5 << 20, True, True)


def test_another_sites_datastore_is_left_alone(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    for command in (
        lambda: capture.install(dsn, site="siteb"),
        lambda: capture.upgrade(dsn, site="siteb"),
        lambda: capture.uninstall(dsn, site="siteb"),
        lambda: capture.pause(dsn, "why", site="siteb"),
        lambda: capture.resume(dsn, site="siteb"),
        lambda: capture.check(dsn, site="siteb"),
    ):
        with pytest.raises(ConflictError, match="is site sitea, not siteb"):
            command()
    assert db.execute("SELECT site FROM pbscast.installation").fetchall() == [("sitea",)]
    assert is_well(dsn)


def test_an_upgrade_wants_something_to_upgrade(dsn: str) -> None:
    with pytest.raises(NotFoundError, match="not installed"):
        capture.upgrade(dsn, site="sitea")


def test_a_removal_says_what_is_lost_and_what_stays(dsn: str, db: Connection) -> None:
    db.execute("CREATE ROLE site_reader LOGIN")
    try:
        capture.install(dsn, site="sitea", reader_role="site_reader")
        Pbs(db).insert("1.s")
        removed = capture.uninstall(dsn)
    finally:
        db.execute("DROP ROLE site_reader")
    assert removed.rows == 1
    assert "site_reader" in removed.roles


def test_the_readers_sessions_are_bounded(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    settings = db.execute(
        "SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = 'pbscast_reader'"
    ).fetchone()
    assert settings is not None
    assert settings[0] == 20
    assert {"statement_timeout=120s", "tcp_keepalives_idle=30"} <= set(settings[1])


@pytest.mark.parametrize(
    "dsn_with_secret",
    [
        "host=h password=open S3SAME dbname=x",
        "postgresql://pbs:se/S3CRET@h/x",
        "postgresql://pbs:50%S3CRET@h/db",
        "postgresql://pbs:#S3CRET@h:1/db",
    ],
)
def test_a_malformed_dsn_is_not_repeated(dsn_with_secret: str) -> None:
    with pytest.raises(PbscastError) as raised:
        capture.check(dsn_with_secret)
    assert "S3" not in str(raised.value)


BROKEN_FUNCTIONS = {
    "CREATE OR REPLACE FUNCTION pbscast.capture_queue() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'": "pbscast.capture_queue(): was replaced",
    "ALTER FUNCTION pbscast.capture_job() SECURITY INVOKER": "pbscast.capture_job(): was replaced",
    "ALTER FUNCTION pbscast.watch_size() OWNER TO CURRENT_USER": "watch_size(): was replaced",
    "DROP FUNCTION pbscast.note_loss(text, text, text)": "note_loss(state text, message text, kind"
    " text): is missing",
    "CREATE OR REPLACE FUNCTION pbscast.mode() RETURNS integer LANGUAGE sql STABLE"
    " AS 'SELECT 9 - 8'": "pbscast.mode(): was replaced",
}


@pytest.mark.parametrize("damage", BROKEN_FUNCTIONS)
def test_functions_that_are_not_ours_are_told_mended_and_marked(
    dsn: str, db: Connection, damage: str
) -> None:
    capture.install(dsn, site="sitea")
    capture.pause(dsn, "the switch may stand as it likes")
    capture.resume(dsn)
    before = gaps(db)
    assert is_well(dsn)
    db.execute(damage.encode())
    told = [line for (line,) in db.execute("SELECT pbscast.defects()").fetchall()]
    assert any(BROKEN_FUNCTIONS[damage] in line for line in told)
    found = {f.subject: f for f in capture.check(dsn).findings}
    assert BROKEN_FUNCTIONS[damage] in found["functions"].text
    assert found["functions"].verdict is Verdict.FAIL
    assert found["hstore"].verdict is Verdict.OK
    capture.upgrade(dsn, site="sitea")

    assert gaps(db) == [*before, ("triggers", "end")]
    if "9 - 8" in damage:  # it said paused
        capture.resume(dsn)
    assert is_well(dsn)


BROKEN_RIGHTS = [
    "REVOKE DELETE ON pbscast.journal FROM pbscast_reader",
    "REVOKE EXECUTE ON FUNCTION pbscast.heartbeat() FROM pbscast_reader",
    "REVOKE SELECT ON pbscast.installation FROM pbscast_reader",
    "REVOKE SELECT ON pbscast.gap_seq FROM pbscast_reader",
    "REVOKE SELECT ON pbs.node FROM pbscast_reader",
    "REVOKE USAGE ON SCHEMA pbscast FROM pbscast_reader",
    "ALTER TABLE pbscast.journal OWNER TO CURRENT_USER",
    "REVOKE ALL ON pbscast.journal FROM pbscast_owner",
    "REVOKE ALL ON SCHEMA pbscast FROM pbscast_owner",
    "REVOKE ALL ON SEQUENCE pbscast.gap_seq FROM pbscast_owner",
    "REVOKE ALL ON FUNCTION pbscast.mode() FROM pbscast_owner",
    "ALTER FUNCTION pbscast.note_loss(text, text, text) OWNER TO CURRENT_USER",
    "REVOKE USAGE ON SCHEMA public FROM pbscast_owner, PUBLIC",
]


def test_what_no_save_needs_is_told_by_check_alone(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    db.execute("DROP FUNCTION pbscast.heartbeat()")
    assert db.execute("SELECT pbscast.defects()").fetchall() == []
    found = {f.subject: f for f in capture.check(dsn).findings}
    assert found["functions"].text == "pbscast.heartbeat(): is missing"
    capture.upgrade(dsn, site="sitea")
    assert gaps(db) == []


@pytest.mark.parametrize("damage", BROKEN_RIGHTS)
def test_rights_that_were_taken_are_told_and_given_back(
    dsn: str, db: Connection, damage: str
) -> None:
    capture.install(dsn, site="sitea")
    db.execute(damage.encode())
    try:
        found = {f.subject: f for f in capture.check(dsn).findings}
        assert found["rights"].verdict is Verdict.FAIL
        capture.upgrade(dsn, site="sitea")
    finally:
        db.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
    Pbs(db).insert("1.s")
    assert [row["op"] for row in journal(db)] == ["I"]
    assert is_well(dsn)


def test_the_kill_switch_waits_for_an_installation_and_names_it(
    dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture.install(dsn, site="sitea")
    with connect(dsn, application_name="stalled") as other:
        for message in preparing_messages(Settings("sitea")):
            other.execute(message.encode())
        monkeypatch.setattr(installation, "PATIENCE", 0.3)
        with pytest.raises(UnavailableError, match=r"pid \d+ \(stalled.*pg_terminate_backend"):
            capture.pause(dsn, "why")
        monkeypatch.setattr(installation, "PATIENCE", 30)
        with ThreadPoolExecutor(1) as pool:
            pausing = pool.submit(capture.pause, dsn, "why")
            other.execute("ROLLBACK")
            pausing.result(timeout=30)
    assert gaps(db) == [("pause", "begin")]


def test_an_installation_that_stalls_is_thrown_out() -> None:
    begin, *_ = preparing_messages(Settings("sitea"))
    assert "idle_in_transaction_session_timeout = '10s'" in begin


@pytest.mark.parametrize("missing", ["mode()", "pause(text)", "set_mode(integer)"])
def test_the_kill_switch_works_where_parts_are_missing(
    dsn: str, db: Connection, missing: str
) -> None:
    capture.install(dsn, site="sitea")
    db.execute(f"DROP FUNCTION pbscast.{missing}".encode())
    capture.pause(dsn, "why")
    Pbs(db).insert("1.s")
    assert journal(db) == []
    assert db.execute("SELECT pbscast.mode()").fetchone() == (1,)
    if missing.startswith("set_mode"):
        with pytest.raises(NotFoundError, match=r"parts of capture are missing: .*upgrade"):
            capture.resume(dsn)
    capture.upgrade(dsn, site="sitea")
    capture.resume(dsn)
    Pbs(db).insert("2.s")
    assert [row["key"] for row in journal(db)] == ["2.s"]


@pytest.mark.parametrize("table", ["journal", "control", "installation"])
def test_a_lock_of_others_is_told_and_stops_no_command(
    dsn: str, db: Connection, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture.install(dsn, site="sitea")
    monkeypatch.setattr(installation, "PATIENCE", 0.3)
    with connect(dsn, application_name="in the way") as other, other.transaction():
        other.execute(f"LOCK TABLE pbscast.{table}".encode())
        report = capture.check(dsn)
        assert report.verdict is Verdict.FAIL
        assert "in the way" in str(report.findings)
        with pytest.raises(UnavailableError, match="in the way"):
            capture.uninstall(dsn)
        capture.pause(dsn, "why")
    assert db.execute("SELECT pbscast.mode()").fetchone() == (1,)


def test_a_server_that_hangs_is_given_up(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_datastore(own_postgres.dsn(), "pbs_datastore")
    dsn = own_postgres.dsn("pbs_datastore")
    monkeypatch.setattr(session, "ANSWER_SECONDS", 1.0)
    with pytest.raises(UnavailableError, match="no answer within 1 s: the server hangs"):
        _ask_a_stopped_server(dsn)


def _ask_a_stopped_server(dsn: str) -> None:
    with session.administrator(dsn) as connection:
        pid = connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            connection.execute("SELECT 1")
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_fault_of_the_connection_says_what_to_do(dsn: str) -> None:
    for where, advice in [
        (_elsewhere(dsn, host="127.0.0.1", port="1"), "pbs_dataservice status"),
        (_elsewhere(dsn, dbname="nowhere"), "pbs_datastore"),
    ]:
        with pytest.raises(PbscastError, match=advice):
            capture.pause(where, "why")
    found = capture.check(_elsewhere(dsn, dbname="postgres")).findings
    assert "pbs_datastore" in found[-1].advice


EMERGENCY = Path(__file__).parents[2] / "deploy" / "EMERGENCY.md"


def test_the_emergency_page_does_what_it_says(dsn: str, db: Connection) -> None:
    page = EMERGENCY.read_text()
    pause, anew, is_off, resume = re.findall(r'pbsql -c "(.*?)"', page)
    disable, remove = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    capture.install(dsn, site="sitea")
    pbs = Pbs(db)

    db.execute(pause.encode())
    assert db.execute(is_off.encode()).fetchone() == (1,)
    pbs.insert("1.s")
    db.execute(resume.encode())
    db.execute(b"DROP FUNCTION pbscast.pause(text)")
    db.execute(anew.encode())
    assert db.execute(is_off.encode()).fetchone() == (1,)
    pbs.insert("2.s")
    db.execute(resume.encode())
    db.execute(disable.encode())
    pbs.insert("3.s")
    assert journal(db) == []
    assert len(db.execute("SELECT pbscast.defects()").fetchall()) == len(READS)
    db.execute("SET lock_timeout = '100ms'; TRUNCATE pbscast.journal")
    capture.upgrade(dsn, site="sitea")
    pbs.insert("4.s")
    assert [row["key"] for row in journal(db)] == ["4.s"]
    assert is_well(dsn)
    db.execute(remove.encode())
    assert not [row for row in everything(db) if row[0] != "right"]
    pbs.insert("5.s")


def test_the_schema_says_where_to_look(dsn: str, db: Connection) -> None:
    capture.install(dsn, site="sitea")
    said = db.execute("SELECT obj_description('pbscast'::regnamespace, 'pg_namespace')").fetchone()
    assert said is not None
    assert "EMERGENCY.md" in said[0]
    assert "pbscast.pause(" in said[0]
