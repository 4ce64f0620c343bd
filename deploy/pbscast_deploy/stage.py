"""A whole deployment on this machine: PBS sites, log, NATS and daemons, all of them real.

The demo, the acceptance tests and the benchmarks play on it. Servers and daemons end with the
process that made them, however it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pbscast.errors import UnavailableError
from pbscast_deploy.config import Role
from pbscast_deploy.embedded import NatsServer, PostgresServer
from pbscast_deploy.embedded.place import Place, tail
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest import capture
from pbscast_store.log import Log

_READER = "pbscast_reader"
_LOG_DATABASE = "pbscast"
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class StageSite:
    """One PBS datastore with capture installed."""

    name: str
    server: PostgresServer
    dsn: str
    """As the PBS server connects: the superuser."""

    @property
    def reader_dsn(self) -> str:
        """As `pbscastd` connects: the role with the least rights."""
        return make_conninfo(self.dsn, user=_READER)


class DaemonProcess:
    """A `pbscastd run` of its own, to stop, kill and start again."""

    def __init__(self, config: str) -> None:
        self._config = config
        self._place: Place | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    @property
    def log(self) -> str:
        """The last lines that it logged, on one line."""
        return "not started" if self._place is None else tail(self._place.directory / "log", 20)

    def start(self) -> Self:
        """Start it; it retries by itself until its servers answer."""
        if self._place is None:
            self._place = Place.make()
        directory = self._place.directory
        config = directory / "pbscast.toml"
        config.write_text(self._config)
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pbscast_deploy", "run", "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_bare_environment(),
            )
        self._place.guard(self._process.pid)
        return self

    def stop(self) -> int | None:
        """Stop it orderly; gives its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash: `kill -9`."""
        self._end(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send any signal, to hold it and let it go."""
        if self._process is not None:
            self._process.send_signal(number)

    def close(self) -> None:
        """Stop it and remove its files. May be repeated."""
        self.stop()
        if self._place is not None:
            self._place.remove()
            self._place = None

    def _end(self, how: signal.Signals) -> int | None:
        if self._process is None:
            return None
        self._process.send_signal(how)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            if self._place is not None:
                self._place.guard(None)


@dataclass
class Stage:
    """Everything that runs; made by `open_stage`."""

    sites: dict[str, StageSite]
    log_server: PostgresServer
    nats: NatsServer
    daemons: list[DaemonProcess]
    settings: Sequence[str] = ()
    """More lines of every configuration."""

    @property
    def log_dsn(self) -> str:
        """The event log's database."""
        return self.log_server.dsn(_LOG_DATABASE)

    def config(self, *roles: Role, holder: str | None = None) -> str:
        """The text of a configuration file for a daemon with these roles (none: all)."""
        return "\n".join(self._config_lines(roles or tuple(Role), holder))

    def start_daemon(self, *roles: Role, holder: str | None = None) -> DaemonProcess:
        """Start a daemon with these roles (none: all)."""
        daemon = DaemonProcess(self.config(*roles, holder=holder)).start()
        self.daemons.append(daemon)
        return daemon

    async def wait_until_followed(self, timeout: float = 60.0) -> None:
        """Wait until every site has its first resync in the log.

        Raises UnavailableError with what the daemons say if it takes longer.
        """
        try:
            async with asyncio.timeout(timeout), Log.open(self.log_dsn) as log, log.watch() as bell:
                while not await self._are_followed(log):
                    await bell.wait(1.0)
        except TimeoutError as error:
            said = "; ".join(daemon.log for daemon in self.daemons)
            raise UnavailableError(f"the daemon follows no site yet; it says: {said}") from error

    async def _are_followed(self, log: Log) -> bool:
        for site in self.sites:
            if not await log.history("site", site, site=site, limit=1):
                return False
        return True

    def _config_lines(self, roles: Iterable[Role], holder: str | None) -> Iterator[str]:
        yield f'[log]\ndsn = "{self.log_dsn}"'
        yield from self.settings
        yield f'[nats]\nservers = ["{self.nats.url}"]'
        yield f"[daemon]\nroles = {json.dumps(list(roles))}"
        yield "lease_seconds = 3"
        if holder is not None:
            yield f'holder = "{holder}"'
        for site in self.sites.values():
            yield f'[[site]]\nname = "{site.name}"\ndsn = "{site.reader_dsn}"'


@asynccontextmanager
async def open_stage(
    *names: str, nats_port: int | None = None, settings: Sequence[str] = ()
) -> AsyncIterator[Stage]:
    """Start servers for these sites, with capture installed and no daemon yet.

    Servers are durable. NATS gets `nats_port` if it is free, else any. `settings` are further lines
    of every configuration.
    """
    servers = [PostgresServer() for _ in (*names, _LOG_DATABASE)]
    nats = NatsServer(port=nats_port)
    daemons: list[DaemonProcess] = []
    try:
        await _all_at_once([nats.start, *(server.start for server in servers)])
        *site_servers, log_server = servers
        sites = await asyncio.gather(
            *(
                asyncio.to_thread(_open_site, name, server)
                for name, server in zip(names, site_servers, strict=True)
            )
        )
        await asyncio.to_thread(_create_database, log_server)
        await Log.migrate_at(log_server.dsn(_LOG_DATABASE))
        yield Stage({site.name: site for site in sites}, log_server, nats, daemons, settings)
    finally:
        await _all_at_once([daemon.close for daemon in daemons])
        await _all_at_once([nats.close, *(server.close for server in servers)])


async def _all_at_once(calls: Iterable[Callable[[], object]]) -> None:
    await asyncio.gather(*(asyncio.to_thread(call) for call in calls))


def _open_site(name: str, server: PostgresServer) -> StageSite:
    dsn = create_datastore(server.dsn())
    capture.install(dsn, site=name, reader_role=_READER)
    return StageSite(name, server, dsn)


def _create_database(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_LOG_DATABASE)))


def _bare_environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "COVERAGE_PROCESS_START")
    return {name: os.environ[name] for name in kept if name in os.environ}
