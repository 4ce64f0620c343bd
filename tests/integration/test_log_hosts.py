"""A DSN with several hosts: the one that takes writes is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest
import structlog.testing
from harness.fanning import draft, write
from harness.standbys import Standby, both, primary, wait_for_standbys

from pbscast.errors import ConfigError, UnavailableError
from pbscast_deploy.config import Settings
from pbscast_deploy.daemon import Daemon
from pbscast_deploy.embedded import PostgresServer
from pbscast_store import connection, hosts
from pbscast_store.log import Log


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, Standby]]:
    with primary() as first:
        asyncio.run(Log.migrate_at(first.dsn()))
        with Standby(first) as second:
            yield first, second


def test_of_several_hosts_only_one_that_takes_writes_will_do() -> None:
    assert hosts.each("postgresql://u:p@a,b:5433,[::1]:5434/log?sslmode=verify-full") == [
        "postgresql://u:p@a/log?target_session_attrs=read-write&sslmode=verify-full",
        "postgresql://u:p@b:5433/log?target_session_attrs=read-write&sslmode=verify-full",
        "postgresql://u:p@[::1]:5434/log?target_session_attrs=read-write&sslmode=verify-full",
    ]
    assert hosts.each("postgresql://a,b/log?target_session_attrs=standby") == [
        "postgresql://a/log?target_session_attrs=standby",
        "postgresql://b/log?target_session_attrs=standby",
    ]
    alone = "postgresql://u@a:5433/log?passfile=/x%20y"
    assert hosts.each(alone) == [alone]


@pytest.mark.parametrize("which", ["postgresql://a:0,b/log", "postgresql://a:x,b/log"])
async def test_what_is_no_list_of_hosts_is_refused(which: str) -> None:
    with pytest.raises(ConfigError, match="malformed"):
        async with Log.open(which):
            pass


async def test_the_standby_is_passed_over(servers: tuple[PostgresServer, Standby]) -> None:
    first, second = servers
    async with Log.open(both(second, first)) as log:
        await write(log, "sitea", [draft()])
    standby_alone = f"{second.dsn(tcp=True)}?target_session_attrs=standby"
    async with Log.open(standby_alone) as log, asyncio.timeout(30):
        while not await log.sites():  # noqa: ASYNC110 - until it has followed
            await asyncio.sleep(0.05)


async def test_a_machine_that_is_silent_delays_nobody_for_long(
    servers: tuple[PostgresServer, Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = servers
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 2.0)
    async with silent_machine() as port:
        there = f"127.0.0.1:{first.port}"
        dsn = first.dsn(tcp=True).replace(there, f"127.0.0.1:{port},{there}")
        begun = monotonic()
        async with Log.open(dsn) as log:
            await write(log, "sitea", [draft()])
        assert monotonic() - begun < 2.0 * 5
        with pytest.raises(UnavailableError):
            async with Log.open(dsn.replace(f",{there}", "")):
                pass


@asynccontextmanager
async def silent_machine() -> AsyncIterator[int]:
    """It takes connections and says nothing."""
    over = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await server.wait_closed()


async def test_a_daemon_warns_of_a_standby_that_nobody_waits_for(
    servers: tuple[PostgresServer, Standby],
) -> None:
    first, second = servers
    assert await warnings(both(first, second)) == ["log_standby_not_waited_for"]
    assert await warnings(first.dsn(tcp=True)) == []
    await asyncio.to_thread(wait_for_standbys, first)
    assert await warnings(both(first, second)) == []


async def warnings(dsn: str) -> list[str]:
    """What a daemon that gets as far as the log says of its standby."""
    settings = Settings.model_validate({"log": {"dsn": dsn}, "daemon": {"roles": ["ingest"]}})
    daemon = Daemon(settings)
    with structlog.testing.capture_logs() as said:
        running = asyncio.create_task(daemon.run())
        async with asyncio.timeout(20):
            while not any(line["event"] == "log_ready" for line in said):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        daemon.stop()
        await running
    return [line["event"] for line in said if "standby" in line["event"]]
