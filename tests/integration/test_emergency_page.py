"""The page for whoever is on call, followed on a server that asks for a password as PBS's does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import capture

PAGE = (Path(__file__).parents[2] / "deploy" / "EMERGENCY.md").read_text("utf-8")
CALL, TRUST, *_ = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
PAUSE, _, IS_OFF, RESUME = re.findall(r"(pbsql -c \".*?\")", PAGE)
DISABLE, REMOVE = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


class OnCall:
    """A shell on the machine of a PBS server."""

    def __init__(self, home: Path, server: PostgresServer) -> None:
        (home / "server_priv").mkdir()
        (home / "server_priv" / "db_user").write_text("postgres")
        (home / "datastore").symlink_to(server.directory / "data")
        port = server.port
        (home / "pbs.conf").write_text(f"PBS_HOME={home}\nPBS_DATA_SERVICE_PORT={port}\n")
        self.pgpass = home / "pgpass"
        path = server.bindir
        self._head = f"PATH={path}:$PATH\n" + CALL.replace("/etc/pbs.conf", f"{home / 'pbs.conf'}")
        self._head = self._head.replace("/root/pbs_datastore.pgpass", str(self.pgpass))

    def types(self, *lines: str) -> tuple[int, str]:
        """Exit status and what the last command printed."""
        done = subprocess.run(
            ["/bin/bash", "-c", "\n".join([self._head, *lines])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            start_new_session=True,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def dsn(own_postgres: PostgresServer) -> str:
    dsn = create_datastore(own_postgres.dsn(), "pbs_datastore")
    capture.install(dsn, site="sitea")
    return dsn


def test_capture_is_stopped_and_taken_off_by_the_page_alone(
    own_postgres: PostgresServer, dsn: str, tmp_path: Path
) -> None:
    on_call = OnCall(tmp_path, own_postgres)
    password = urlsplit(own_postgres.dsn(tcp=True)).password
    on_call.pgpass.write_text(f"127.0.0.1:{own_postgres.port}:*:postgres:{password}\n")
    on_call.pgpass.chmod(0o600)

    assert on_call.types(PAUSE)[0] == 0
    assert "1" in on_call.types(IS_OFF)[1].split()
    assert on_call.types(RESUME)[0] == 0
    assert on_call.types(f"pbsql <<'END'\n{DISABLE}\nEND")[0] == 0
    with psycopg.connect(dsn, autocommit=True) as db:
        assert len(db.execute("SELECT pbscast.defects()").fetchall()) == 6
        with psycopg.connect(dsn) as other:
            other.execute("LOCK TABLE pbs.queue IN ROW EXCLUSIVE MODE")
            assert on_call.types(f"pbsql <<'END'\n{DISABLE}\nEND")[0] != 0
        assert on_call.types(f"pbsql <<'END'\n{REMOVE}\nEND")[0] == 0
        assert db.execute("SELECT to_regnamespace('pbscast')").fetchone() == (None,)


def test_who_has_no_password_lets_himself_in_and_closes_the_door(
    own_postgres: PostgresServer, dsn: str, tmp_path: Path
) -> None:
    on_call = OnCall(tmp_path, own_postgres)
    opened, closed = TRUST.split("# afterwards\n")
    again = "for i in 1 2 3 4 5 6 7 8 9 10; do {} && exit; sleep 0.2; done; exit 1"
    assert on_call.types(PAUSE)[0] != 0
    assert on_call.types(opened, again.format(PAUSE + " 2>/dev/null"))[0] == 0
    assert on_call.types(closed, again.format("! " + IS_OFF + " 2>/dev/null"))[0] == 0
    assert capture.check(dsn).findings  # over the socket, as before


def test_what_changes_triggers_by_hand_cannot_hold_pbs_up_for_long() -> None:
    for statements in (DISABLE, REMOVE):
        assert "idle_in_transaction_session_timeout = '500ms'" in statements
        assert statements.index("lock_timeout") < statements.index(
            "LOCK TABLE pbs" if statements is DISABLE else "DROP"
        )
