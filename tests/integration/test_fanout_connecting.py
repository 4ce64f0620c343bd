from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest
from harness.fanning import client_of, drafts, fanning, in_state, published_to, status_of, write
from nats.js.api import StreamConfig

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    ConflictError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
)
from pbscast.requests import PublisherState
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.settings import FanoutSettings, NatsSettings, StreamSettings
from pbscast_fanout.worker import check
from pbscast_store.log import Log


async def trouble(url: str, **settings: object) -> PbscastError:
    nats = NatsSettings.model_validate({"servers": (url,), "timeout": 1, **settings})
    with pytest.raises(PbscastError) as caught:
        await check(FanoutSettings(nats=nats))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    return caught.value


async def test_checking_makes_the_stream_and_may_be_repeated(nats_url: str) -> None:
    settings = FanoutSettings(nats=NatsSettings(servers=(nats_url,)))
    await asyncio.gather(*(check(settings) for _ in range(3)))
    smaller = StreamSettings(max_bytes=10**8)
    await check(FanoutSettings(nats=settings.nats, stream=smaller))
    async with client_of(nats_url) as client:
        config = (await client.jetstream().stream_info("PBS")).config
    assert (config.max_bytes, config.allow_atomic, config.allow_direct) == (10**8, True, True)


async def test_nobody_there() -> None:
    error = await trouble("nats://bob:secret@127.0.0.1:1")
    assert type(error) is UnavailableError
    assert "NATS at 127.0.0.1:1 cannot be reached" in str(error)


async def test_wrong_password(nats_config_user: str) -> None:
    error = await trouble(nats_config_user, user="bob", password="secret-wrong")
    assert type(error) is AccessDeniedError
    assert "refuses the credentials" in str(error)


@pytest.fixture
async def nats_config_user() -> AsyncIterator[str]:
    with NatsServer(config="authorization { user: bob, password: right }") as server:
        yield server.url


async def test_password_from_settings(nats_config_user: str) -> None:
    nats = NatsSettings.model_validate(
        {"servers": (nats_config_user,), "user": "bob", "password": "right"}
    )
    await check(FanoutSettings(nats=nats))


async def test_tls_files_that_are_not_there(nats_url: str) -> None:
    error = await trouble(nats_url, tls_ca="/nonexistent/ca.pem")
    assert type(error) is ConfigError
    assert "TLS" in str(error)


async def test_credentials_that_are_not_there(nats_url: str) -> None:
    error = await trouble(nats_url, credentials="/nonexistent/user.creds")
    assert type(error) is ConfigError
    assert "/nonexistent/user.creds" in str(error)


@asynccontextmanager
async def server_of_version(version: str) -> AsyncIterator[str]:
    """As much of a nats-server as says its version."""

    ended: list[asyncio.Event] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(event := asyncio.Event())
        with closing(writer), suppress(ConnectionError):
            info = {"server_id": "x", "version": version, "max_payload": 1048576, "proto": 1}
            writer.write(f"INFO {json.dumps(info)}\r\n".encode())
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        with suppress(ConnectionError):
            await writer.wait_closed()
        event.set()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        # A transport that the loop leaves open is a warning in whatever test comes next.
        for event in ended:
            await event.wait()


@pytest.mark.parametrize("version", ["2.11.9", "1.4.1", "2.10.0-beta.1"])
async def test_a_server_that_is_too_old(version: str) -> None:
    async with server_of_version(version) as url:
        error = await trouble(url)
    assert type(error) is UnsupportedError
    assert "2.12 or newer is needed" in str(error)


async def test_jetstream_that_is_off() -> None:
    with NatsServer(
        config="no_auth_user: u\naccounts { A { users: [{user: u, password: u}] } }"
    ) as server:
        error = await trouble(server.url)
    assert type(error) is UnsupportedError
    assert "JetStream" in str(error)


async def test_a_foreign_stream_of_our_name(nats_url: str) -> None:
    async with client_of(nats_url) as client:
        await client.jetstream().add_stream(StreamConfig(name="PBS", subjects=["orders.>"]))
    error = await trouble(nats_url)
    assert type(error) is ConflictError
    assert "stream PBS that is not ours" in str(error)


async def test_a_foreign_stream_on_our_subjects(nats_url: str) -> None:
    async with client_of(nats_url) as client:
        await client.jetstream().add_stream(StreamConfig(name="X", subjects=["pbs.>"]))
    error = await trouble(nats_url)
    assert type(error) is ConflictError
    assert "overlap" in str(error)


async def test_a_worker_waits_for_trouble_to_end(log: Log, own_nats: NatsServer) -> None:
    await write(log, "sitea", drafts(5))
    url = own_nats.url
    own_nats.stop()
    async with fanning(log, url) as fanout:
        await in_state(fanout, "sitea", PublisherState.RETRYING)
        assert "NATS at 127.0.0.1" in (status_of(fanout, "sitea").error or "")
        assert fanout.status().error is not None
        await asyncio.to_thread(own_nats.start)
        await published_to(fanout, "sitea", 5)
        assert fanout.status().error is None
