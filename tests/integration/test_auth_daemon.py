"""A daemon at a nats-server with TLS and accounts: what it says where it is refused."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.auth import Gate
from structlog.testing import capture_logs

from pbscast.errors import AccessDeniedError, PbscastError, UnavailableError
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.auth.tokens import token_of
from pbscast_fanout.askers import Role
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.worker import check


@dataclass
class Daemon:
    """Its credentials file, and the settings that name it."""

    gate: Gate
    creds: Path

    def settings(self, **changed: object) -> NatsSettings:
        usual = {"credentials": self.creds, "tls_ca": self.gate.realm.authority, "timeout": 20}
        return NatsSettings.model_validate({"servers": (self.gate.url,), **usual, **changed})

    async def trouble(self, **changed: object) -> PbscastError:
        with capture_logs() as logs, pytest.raises(PbscastError) as caught:
            await check(FanoutSettings(nats=self.settings(**changed)))
        for secret in ("SUA", "eyJ"):
            assert secret not in f"{caught.value}{logs}"
        assert "\n" not in str(caught.value)
        return caught.value


@pytest.fixture
def daemon(gate: Gate, tmp_path: Path) -> Daemon:
    return Daemon(gate, tmp_path / "pbscastd.creds")


async def test_it_is_let_in_by_its_file_and_certificates(daemon: Daemon) -> None:
    daemon.creds.write_text(await daemon.gate.creds("pbscastd", Role.SERVICE))
    await check(FanoutSettings(nats=daemon.settings()))


async def test_refusals_say_what_to_do(daemon: Daemon) -> None:
    error = await daemon.trouble(credentials=None)
    assert type(error) is AccessDeniedError
    assert "set [nats] credentials" in str(error)
    content = await daemon.gate.creds("gone", Role.SERVICE)
    await tell(daemon.gate.realm, [daemon.gate.url], daemon.gate.realm.revoke("gone"))
    stranger = content.replace(token_of(content), token_of(content)[:-8] + "AAAAAAAA")
    for refused in (content, stranger):
        daemon.creds.write_text(refused)
        error = await daemon.trouble()
        assert type(error) is AccessDeniedError
        assert f"is {daemon.creds} expired or revoked" in str(error)


async def test_a_server_that_it_cannot_trust_is_named(daemon: Daemon) -> None:
    daemon.creds.write_text(await daemon.gate.creds("pbscastd", Role.SERVICE))
    error = await daemon.trouble(tls_ca=None, servers=(daemon.gate.url.replace("nats", "tls", 1),))
    assert type(error) is UnavailableError
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


async def test_credentials_that_were_renewed_are_taken_up_without_a_restart(daemon: Daemon) -> None:
    daemon.creds.write_text(await daemon.gate.creds("before", Role.SERVICE))
    connection = Connection(daemon.settings(), name="pbscastd")
    keeping = asyncio.create_task(connection.keep())
    try:
        async with asyncio.timeout(60):
            first = await connection.replaced(None)
            daemon.creds.write_text(await daemon.gate.creds("pbscastd", Role.SERVICE))
            await tell(daemon.gate.realm, [daemon.gate.url], daemon.gate.realm.revoke("before"))
            second = await connection.replaced(first)
        assert second.is_connected
        assert first.is_closed
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
