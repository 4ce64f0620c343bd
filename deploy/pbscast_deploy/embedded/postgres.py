"""A real PostgreSQL server in a temporary directory."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlencode

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded.binaries import Account, reachable, wheel_postgres
from pbscast_deploy.embedded.place import tail
from pbscast_deploy.embedded.server import EmbeddedServer

_START_SECONDS = 60.0
_PORT_ATTEMPTS = 5


class PostgresServer(EmbeddedServer):
    """A PostgreSQL cluster.

    Durable as PostgreSQL's defaults are (fsync and synchronous_commit on). It listens on a Unix
    socket in a directory of mode 0700, where it trusts; with `tcp` also on a free port of
    127.0.0.1, where it asks for a password (scram-sha-256). Socket and port stay the same over
    restarts.
    """

    _orderly = signal.SIGINT
    _hasty = "QUIT"

    def __init__(
        self,
        *,
        bindir: Path | None = None,
        encoding: str = "UTF8",
        tcp: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`bindir`: one of `find_postgres()`, else the wheel's; `settings`: for postgresql.conf."""
        super().__init__()
        self._origin = bindir
        self._encoding = encoding
        self._settings = dict(settings or {})
        self._account = Account.unprivileged()
        self._password = secrets.token_urlsafe(18)
        self._tcp = tcp
        self._port = 5432
        self._bindir = Path()

    @property
    def bindir(self) -> Path:
        """The programs that this server runs from (psql, pg_dump, … are there as well)."""
        return self._bindir

    @property
    def port(self) -> int:
        """The TCP port, where `tcp` was asked for; it is also in the socket's name."""
        return self._port

    def dsn(
        self,
        database: str = "postgres",
        *,
        user: str = "postgres",
        password: str | None = None,
        tcp: bool = False,
    ) -> str:
        """A URI for libpq and asyncpg. Over TCP the superuser's password is filled in."""
        if not tcp:
            where = urlencode({"host": str(self.directory), "port": self._port}, quote_via=quote)
            return f"postgresql://{quote(user)}@/{quote(database)}?{where}"
        if password is None and user == "postgres":
            password = self._password
        login = quote(user) + (f":{quote(password, safe='')}" if password is not None else "")
        return f"postgresql://{login}@127.0.0.1:{self._port}/{quote(database)}"

    def kill(self) -> None:
        """As a power cut: `kill -9` of the server and of every process of it, at one moment.

        Without their parent PostgreSQL's backends would finish what they are doing.
        """
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGSTOP)
        for child in _children(pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        super().kill()

    def _prepare(self) -> None:
        self._bindir = reachable(self._origin or wheel_postgres(), self._account)
        self._own(self.directory)
        self._initdb()
        self._configure()

    def _come_up(self) -> None:
        attempts = _PORT_ATTEMPTS if self._tcp and self._process is None else 1
        deadline = time.monotonic() + _START_SECONDS
        while self.pid is None:
            self._launch()
            if self._wait_until_ready(deadline):
                return
            attempts = self._consider_failure(attempts, deadline)

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _initdb(self) -> None:
        secret = self.directory / "password"
        secret.write_text(self._password)
        secret.chmod(0o600)
        self._own(secret)
        initdb = self._run(
            "initdb",
            f"--pgdata={self.directory / 'data'}",
            "--username=postgres",
            f"--encoding={self._encoding}",
            "--locale=C",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            f"--pwfile={secret}",
            "--no-sync",
        )
        status = initdb.wait(timeout=_START_SECONDS)
        secret.unlink()
        if status != 0:
            raise UnavailableError(f"initdb of {self._bindir} failed: {tail(self._log)}")

    def _configure(self) -> None:
        settings = {
            "unix_socket_directories": str(self.directory),
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "password_encryption": "scram-sha-256",
            **self._settings,
        }
        with (self.directory / "data" / "postgresql.conf").open("a") as file:
            for name, value in settings.items():
                quoted = value.replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")

    def _launch(self) -> None:
        if self._tcp and self._process is None:
            self._port = _free_port()
        data = str(self.directory / "data")
        self._guard(self._run("postgres", "-D", data, "-p", str(self._port)))

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """The environment is bare: a stray PGDATA, PGPORT or LC_ALL must not reach the server."""
        account = self._account
        with self._log.open("ab") as log:
            try:
                return subprocess.Popen(
                    [self._bindir / program, *arguments],
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": os.environ.get("TZ", "")},
                    start_new_session=True,
                )
            except OSError as error:
                raise UnavailableError(
                    f"cannot run {self._bindir / program}: {error.strerror}"
                ) from error

    def _wait_until_ready(self, deadline: float) -> bool:
        """Whether it came up. The postmaster keeps its status in line 8 of its pid file."""
        while self.pid is not None:
            if self._status() == "ready":
                return True
            if time.monotonic() > deadline:
                self.kill()
                raise UnavailableError(f"PostgreSQL was not ready in time: {tail(self._log)}")
            time.sleep(0.01)
        return False

    def _status(self) -> str:
        try:
            lines = (self.directory / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return ""
        ours = len(lines) > 7 and lines[0] == str(self.pid)
        return lines[7].strip() if ours else ""

    def _consider_failure(self, attempts: int, deadline: float) -> int:
        """Two causes pass by themselves: a port just taken, children of a killed server."""
        reason = tail(self._log, lines=6)
        if "could not bind" in reason and attempts > 1:
            self._process = None
            return attempts - 1
        if "shared memory block" in reason and time.monotonic() < deadline:
            time.sleep(0.05)
            return attempts
        raise UnavailableError(f"PostgreSQL did not start: {reason}")


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
