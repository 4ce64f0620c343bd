"""What credentials are not shown to: a server that speaks no TLS, whatever its URL says."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from harness.brokers import RunningBroker, brokering, open_directory

from pbscast.errors import UnavailableError
from pbscast_deploy.auth.realm import Realm
from pbscast_deploy.auth.telling import tell

INFO = {
    "server_id": "STRANGER",
    "version": "2.12.0",
    "nonce": "of-the-real-server",
    "auth_required": True,
    "headers": True,
    "max_payload": 1_048_576,
}
PERSON = pwd.getpwuid(1)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be somebody else")


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm.init(tmp_path / "realm", ["localhost", "127.0.0.1"])


@asynccontextmanager
async def plain() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its URL, and what it hears."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + json.dumps(INFO).encode() + b"\r\n")
        while line := await reader.readline():
            heard.append(line)
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


@contextmanager
def stalling(realm: Realm) -> Iterator[str]:
    """The URL of one that shakes hands and says no more."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls = realm.directory / "server" / "tls"
    context.load_cert_chain(tls / "server.pem", tls / "server.key")
    info = b"INFO " + json.dumps({**INFO, "tls_required": True}).encode() + b"\r\n"
    kept: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(info)
            kept.append(context.wrap_socket(connection, server_side=True))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"tls://localhost:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@contextmanager
def asked(realm: Realm, url: str) -> Iterator[RunningBroker]:
    with open_directory() as place, brokering(place, realm.directory, url, "--uid-min", "1") as one:
        yield one


async def test_what_may_change_accounts_is_not_shown_to_it(realm: Realm) -> None:
    async with plain() as (url, heard):
        with pytest.raises(UnavailableError, match="it speaks no TLS"):
            await tell(realm, [url])
    assert heard == []


@as_root
async def test_a_broker_does_not_try_there_what_it_hands_out(realm: Realm) -> None:
    async with plain() as (url, heard):
        with asked(realm, url) as broker:
            (answer,) = await asyncio.to_thread(broker.asked_by, PERSON.pw_uid)
            assert "it speaks no TLS" in broker.log.read_text()
    assert "credentials" in answer
    assert heard == []


@as_root
async def test_a_server_that_stalls_keeps_nobody_from_his_credential(realm: Realm) -> None:
    with stalling(realm) as url, asked(realm, url) as broker:
        async with asyncio.timeout(20):  # a TLS connection may take 30 seconds to close
            (answer,) = await asyncio.to_thread(broker.asked_by, PERSON.pw_uid)
    assert "credentials" in answer
