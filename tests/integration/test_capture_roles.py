"""Roles belong to a whole cluster: whose they are is asked before they are used or dropped."""

from __future__ import annotations

import pytest
from harness.capturing import Connection, connected

from pbscast.errors import ConfigError
from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import capture
from pbscast_ingest.capture import Verdict

EXCESS = {
    "is a superuser": "ALTER ROLE pbscast_owner SUPERUSER",
    "may log in": "ALTER ROLE pbscast_owner LOGIN",
    "has rights of its own": "ALTER ROLE pbscast_owner CREATEROLE",
    "has a member: mallory": "GRANT pbscast_owner TO mallory",
    "is or has a member: pbs_friend": "GRANT pbs_friend TO pbscast_owner",
}


def _rights(dsn: str) -> tuple[Verdict, str]:
    (found,) = (f for f in capture.check(dsn).findings if f.subject == "rights")
    return found.verdict, found.text


def test_triggers_run_as_nobody_who_can_do_more_or_be_used(own_postgres: PostgresServer) -> None:
    dsn = create_datastore(own_postgres.dsn(), "pbs_datastore")
    with connected(dsn) as db:
        db.execute("CREATE ROLE mallory LOGIN; CREATE ROLE pbs_friend; CREATE ROLE pbscast_owner")
        for words, excess in EXCESS.items():
            _refuse(db, dsn, words, excess)
        capture.install(dsn, site="sitea")
        assert _rights(dsn)[0] is Verdict.OK
        for excess in EXCESS.values():
            db.execute(excess.encode())
            verdict, text = _rights(dsn)
            assert verdict is Verdict.FAIL
            assert "pbscast_owner may log in" in text
            _take_back(db)
        assert _rights(dsn)[0] is Verdict.OK


def _refuse(db: Connection, dsn: str, words: str, excess: str) -> None:
    db.execute(excess.encode())
    with pytest.raises(ConfigError, match=f"pbscast_owner.*{words}"):
        capture.install(dsn, site="sitea")
    assert db.execute("SELECT to_regnamespace('pbscast')").fetchone() == (None,)
    _take_back(db)


def _take_back(db: Connection) -> None:
    db.execute(
        "ALTER ROLE pbscast_owner NOLOGIN NOSUPERUSER NOCREATEROLE;"
        " REVOKE pbscast_owner FROM mallory; REVOKE pbs_friend FROM pbscast_owner"
    )


def test_a_removal_leaves_the_reader_of_another_site(own_postgres: PostgresServer) -> None:
    here = create_datastore(own_postgres.dsn(), "pbs_a")
    there = create_datastore(own_postgres.dsn(), "pbs_b")
    capture.install(here, site="a", reader_role="reader_a")
    capture.install(there, site="b", reader_role="reader_b")
    with connected(own_postgres.dsn()) as db:
        db.execute("DROP DATABASE pbs_b")  # to be restored
        for damage in ("SELECT", "DROP TABLE pbscast.installation"):
            with connected(here) as inside:
                inside.execute(damage.encode())
            capture.uninstall(here)
            left = db.execute("SELECT rolname FROM pg_roles WHERE rolname ~ '^reader_'").fetchall()
            assert left == [("reader_b",)]
            capture.install(here, site="a", reader_role="reader_a")
