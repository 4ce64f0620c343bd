"""The log's PostgreSQL over TLS, with passwords from a file: as a daemon far from it connects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from harness.fanning import draft, logged, write
from harness.tls_front import tls_front

from pbscast.errors import AccessDeniedError, UnavailableError
from pbscast_deploy.auth.certificates import make_certificates
from pbscast_deploy.embedded import PostgresServer
from pbscast_store.log import Log


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(tcp=True, settings={"fsync": "off"}) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE ROLE pbscast LOGIN PASSWORD 'secret-word'")
            connection.execute("CREATE DATABASE pbscast OWNER pbscast")
        yield server


@pytest.fixture
async def dsn(server: PostgresServer, tmp_path: Path) -> AsyncIterator[str]:
    """As deploy/README.md has it; the certificate is of the server's address."""
    certificates = make_certificates(["127.0.0.1"])
    (tmp_path / "ca.pem").write_bytes(certificates.authority)
    (tmp_path / "server.pem").write_bytes(certificates.server)
    (tmp_path / "server.key").write_bytes(certificates.server_key)
    async with tls_front(server.port, tmp_path / "server.pem", tmp_path / "server.key") as port:
        passwords = tmp_path / "log.pgpass"
        passwords.write_text(f"*:{port}:pbscast:pbscast:secret-word\n")
        passwords.chmod(0o600)
        yield (
            f"postgresql://pbscast@127.0.0.1:{port}/pbscast?passfile={passwords}"
            f"&sslmode=verify-full&sslrootcert={tmp_path / 'ca.pem'}"
        )


async def test_everything_works_over_tls(dsn: str) -> None:
    await Log.migrate_at(dsn)
    async with Log.open(dsn) as log:
        async with log.watch() as bell:
            await write(log, "sitea", [draft()])
            assert await bell.wait(10) == {"sitea"}
        assert len(await logged(log, "sitea")) == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("/ca.pem", "/other.pem"), id="an authority that did not sign it"),
        pytest.param(("@127.0.0.1:", "@localhost.localdomain:"), id="another name"),
        pytest.param(("verify-full", "disable"), id="no TLS"),
    ],
)
async def test_what_cannot_be_trusted_is_refused_in_one_line(
    dsn: str, tmp_path: Path, change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.pem").write_bytes(make_certificates(["127.0.0.1"]).authority)
    loop = asyncio.get_running_loop()
    lookup = loop.getaddrinfo

    async def here(host: str | None, *arguments: object, **options: object) -> object:
        return await lookup("127.0.0.1", *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "getaddrinfo", here)
    assert change[0] in dsn
    with pytest.raises((UnavailableError, AccessDeniedError)) as refused:
        async with Log.open(dsn.replace(*change)):
            pass
    assert "log database" in str(refused.value)
    assert "secret-word" not in str(refused.value)
    assert "\n" not in str(refused.value)
