from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing
from harness import fanout_process
from harness.fanning import (
    assert_published,
    client_of,
    drafts,
    fanning,
    in_state,
    published_to,
    status_of,
    stored,
    until,
    write,
)
from harness.proxy import cutting_proxy
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js.errors import NotFoundError

from pbscast import wire
from pbscast.requests import HISTORY, PublisherState
from pbscast_deploy.embedded import NatsServer, PostgresServer
from pbscast_fanout import connection
from pbscast_store.log import Log


async def mark_at(url: str, site: str) -> int:
    async with client_of(url) as client:
        try:
            message = await client.jetstream().get_last_msg("PBS", f"pbs.v1.{site}.mark")
        except NotFoundError:
            return 0
        assert message.data is not None
        return wire.decode_mark(message.data).position


async def eventually(probe: Callable[[], Awaitable[bool]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await probe():  # noqa: ASYNC110 - the stream is only to be asked
            await asyncio.sleep(0.05)


async def marked(url: str, site: str, position: int, seconds: float = 40) -> None:
    async def reached() -> bool:
        return await mark_at(url, site) >= position

    await eventually(reached, seconds)


@asynccontextmanager
async def worker_process(dsn: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    script = Path(fanout_process.__file__)
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, dsn, url, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_nats_killed_again_and_again_while_publishing(log: Log, own_nats: NatsServer) -> None:
    choose = random.Random(7)
    await write(log, "sitea", drafts(1))
    async with fanning(log, own_nats.url) as fanout:
        await published_to(fanout, "sitea", 1)
        total = 1
        for _ in range(5):
            total = await write(log, "sitea", drafts(6_000))
            await published_to(fanout, "sitea", total - choose.randrange(1_000, 5_999))
            own_nats.kill()
            await asyncio.to_thread(own_nats.start)
        await published_to(fanout, "sitea", total)
    await assert_published(own_nats.url, log, "sitea")


# nats-py leaves a socket to the garbage collector when its handshake is cut.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_way_to_nats_cut_at_any_byte(log: Log, nats_url: str) -> None:
    choose = random.Random(11)
    port = int(nats_url.rsplit(":", 1)[1])
    async with (
        cutting_proxy(("127.0.0.1", port)) as proxy,
        fanning(log, f"nats://127.0.0.1:{proxy.port}") as fanout,
    ):
        total = 0
        for number in range(12):
            if number % 2:
                proxy.cut_after(choose.randrange(200_000), "up")
            else:
                proxy.cut_after(choose.randrange(1_500), "down")
            total = await write(log, "sitea", drafts(500))
            await proxy.wait_for_cut()
        await published_to(fanout, "sitea", total)
    await assert_published(nats_url, log, "sitea")


async def test_the_log_away_for_a_while(own_postgres: PostgresServer, nats_url: str) -> None:
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    async with Log.open(dsn) as log:
        await write(log, "sitea", drafts(10))
        async with fanning(log, nats_url) as fanout:
            await published_to(fanout, "sitea", 10)
            own_postgres.kill()
            await asyncio.to_thread(own_postgres.start)
            await write(log, "sitea", drafts(10))
            await published_to(fanout, "sitea", 20)
            await in_state(fanout, "sitea", PublisherState.CURRENT)
            own_postgres.stop()
            await until(lambda: fanout.status().error)
            await asyncio.to_thread(own_postgres.start)
            await write(log, "sitea", drafts(10))
            await published_to(fanout, "sitea", 30)
        await assert_published(nats_url, log, "sitea")


async def test_a_worker_killed_is_replaced_within_seconds(
    log: Log, log_dsn: str, nats_url: str
) -> None:
    await write(log, "sitea", drafts(3_000))
    async with worker_process(log_dsn, nats_url) as first:
        await marked(nats_url, "sitea", 999)
        first.kill()
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", 3_000, seconds=30)
    await assert_published(nats_url, log, "sitea")


async def test_a_stalled_worker_that_wakes_up_writes_nothing(
    log: Log, log_dsn: str, nats_url: str
) -> None:
    await write(log, "sitea", drafts(10))
    async with worker_process(log_dsn, nats_url) as first:
        await marked(nats_url, "sitea", 10)
        async with fanning(log, nats_url) as second:
            await published_to(second, "sitea", 10)
            for _ in range(3):
                first.send_signal(signal.SIGSTOP)
                total = await write(log, "sitea", drafts(2_500))
                await published_to(second, "sitea", total, seconds=30)
                first.send_signal(signal.SIGCONT)
                total = await write(log, "sitea", drafts(2_500))
                await marked(nats_url, "sitea", total, seconds=30)
    await assert_published(nats_url, log, "sitea")


async def test_one_sites_trouble_does_not_delay_another(log: Log, nats_url: str) -> None:
    """A mark that cannot be read stops its own site only."""
    await write(log, "sitea", drafts(1))
    await write(log, "siteb", drafts(1))
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", 1)
        await published_to(fanout, "siteb", 1)
        async with client_of(nats_url) as client:
            await client.jetstream().publish("pbs.v1.sitea.mark", b"forged")
        await write(log, "sitea", drafts(1))
        await in_state(fanout, "sitea", PublisherState.RETRYING)
        assert "not a mark of pbscast" in (status_of(fanout, "sitea").error or "")
        await write(log, "siteb", drafts(500))
        await published_to(fanout, "siteb", 501, seconds=20)
    assert len(await stored(nats_url, "pbs.v1.sitea.job.>")) == 1


async def test_a_reconnect_that_died_is_replaced(
    log: Log, own_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STUCK_SECONDS", 0.5)
    await write(log, "sitea", drafts(5))
    async with fanning(log, own_nats.url) as fanout:
        await published_to(fanout, "sitea", 5)
        client = fanout._connection.client
        await asyncio.to_thread(own_nats.kill)
        await until(lambda: client.is_reconnecting and client._reconnection_task)
        assert client._reconnection_task is not None
        client._reconnection_task.cancel()
        await asyncio.to_thread(own_nats.start)
        await write(log, "sitea", drafts(5))
        await published_to(fanout, "sitea", 10)


async def test_an_outage_of_nats_is_logged_once_not_all_the_time(
    log: Log, own_nats: NatsServer
) -> None:
    await write(log, "sitea", drafts(1))
    async with fanning(log, own_nats.url) as fanout:
        await published_to(fanout, "sitea", 1)
        client = fanout._connection.client
        with structlog.testing.capture_logs() as logged:
            own_nats.kill()
            await until(lambda: client._server_pool[0].reconnects >= 5)
        errors = [entry["error"] for entry in logged if entry["event"] == "nats_error"]
        assert 1 <= len(errors) == len(set(errors))


async def test_who_has_lost_the_log_leaves_requests_to_the_others(
    own_postgres: PostgresServer, nats_url: str
) -> None:
    await Log.migrate_at(own_postgres.dsn())
    socket = f"{own_postgres.directory}/.s.PGSQL.{own_postgres.port}"
    async with (
        cutting_proxy(socket) as proxy,
        Log.open(own_postgres.dsn()) as log,
        Log.open(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres") as lossy,
        client_of(nats_url) as client,
    ):
        await write(log, "sitea", drafts(1))

        async def is_answered() -> bool:
            try:
                answer = await client.request(HISTORY, b'{"ids":["0.sitea"]}', timeout=30)
            except NoRespondersError:
                return False
            return answer.data.startswith(b'{"events":[{')

        async with fanning(lossy, nats_url) as one:
            await eventually(is_answered, 30)
            proxy.refusing = True
            proxy.cut()
            await until(lambda: one.status().error)
            proxy.cut()  # one that was just being opened
            await eventually(lambda: no_one_serves(client), 30)
            async with fanning(log, nats_url):
                await eventually(is_answered, 30)
                for _ in range(30):
                    assert await is_answered()
            proxy.refusing = False
            await eventually(is_answered, 30)


async def no_one_serves(client: Client) -> bool:
    try:
        await client.request(HISTORY, b'{"ids":["0.sitea"]}', timeout=30)
    except NoRespondersError:
        return True
    return False
