"""Hands a short-lived credential to whoever connects, as whom the kernel says he is.

Who connects to the Unix socket says nothing and reads one JSON object until the end:
``{"credentials": …, "expires": …, "servers": […], "ca": …}``, or ``{"error": "one line",
"passing": …}``; what passes may be asked for again.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, Final

import nats.errors
import structlog
from nats.aio.client import RawCredentials

from pbscast.driver import Driver
from pbscast.errors import AccessDeniedError, PbscastError, UnavailableError
from pbscast.tls import trust_text
from pbscast_deploy.auth.issuing import sign
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.listening import listening, peer
from pbscast_deploy.auth.people import name_of
from pbscast_fanout.askers import Role
from pbscast_fanout.rates import Rates

if TYPE_CHECKING:
    from pathlib import Path

    from pbscast_deploy.auth.issuing import Signed
    from pbscast_deploy.auth.keys import Key

_AT_A_TIME: Final = 256
"""Connections; the next ones are told to come again."""
_BURST: Final = 60
_PER_SECOND: Final = 1.0
_COMPLAINTS: Final = (10, 1 / 60)
_LOOKUP_SECONDS: Final = 5.0
_TRIAL_SECONDS: Final = 3.0
"""nats-server looks for an account that it does not know for nearly two."""
_READ_SECONDS: Final = 5.0
_END_SECONDS: Final = 10.0
_UNREAD: Final = 1024
_IN_A_TURN: Final = 64
"""Those who are being served go on in between."""
_PAUSE_SECONDS: Final = 0.2

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is handed out."""

    signer: Key
    """Of the role user."""
    ttl: int
    """Seconds."""
    servers: tuple[str, ...]
    ca: str | None
    """Certificates of authorities, PEM; None: those that the machine trusts."""
    lowest_uid: int


class Broker:
    """Serves one socket."""

    def __init__(self, terms: Terms) -> None:
        """Raises ConfigError for certificates that are none."""
        self._terms = terms
        self._rates = Rates[int](_BURST, _PER_SECOND)
        self._complaints = Rates[int](*_COMPLAINTS)
        self._serving: set[asyncio.Task[None]] = set()
        self._tls = trust_text(terms.ca, "--ca") if terms.ca else ssl.create_default_context()

    async def serve(self, path: Path) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigError if the socket cannot be made."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        with listening(path) as listener:
            listener.settimeout(0)
            loop.add_reader(listener, self._accept, listener)
            try:
                _log.info("listening", socket=str(path), servers=list(self._terms.servers))
                await stopping.wait()
            finally:
                loop.remove_reader(listener)
            if self._serving:
                await asyncio.wait(self._serving, timeout=_END_SECONDS)
        _log.info("stopped")

    def _accept(self, listener: socket.socket) -> None:
        """Take all who wait; whoever may not ask now costs no more than that."""
        for _ in range(_IN_A_TURN):
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors: those who are served give theirs back
                _log.warning("cannot_accept", error=str(error))
                self._pause(listener)
                return
            connection.settimeout(0)
            uid = peer(connection)
            try:
                self._admit(uid)
            except UnavailableError as error:
                with connection, suppress(OSError):
                    connection.send(_line(self._refusal(uid, error)))
                    _read(connection)
            else:
                task = asyncio.create_task(self._serve(connection, uid))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)

    def _pause(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _admit(self, uid: int) -> None:
        if not self._rates.take(uid):
            raise UnavailableError(f"uid {uid} asks too often: try again in a moment")
        if len(self._serving) >= _AT_A_TIME:
            raise UnavailableError("the broker has too much to do: try again in a moment")

    async def _serve(self, connection: socket.socket, uid: int) -> None:
        with connection, suppress(OSError, TimeoutError):  # he does not read, or is gone
            answer = _line(await self._answer(uid))
            async with asyncio.timeout(_READ_SECONDS):
                await asyncio.get_running_loop().sock_sendall(connection, answer)
            _read(connection)

    async def _answer(self, uid: int) -> dict[str, Any]:
        try:
            return await self._hand(uid)
        except PbscastError as error:
            return self._refusal(uid, error)

    def _refusal(self, uid: int, error: PbscastError) -> dict[str, Any]:
        if self._complaints.take(uid):
            _log.warning("credential_refused", uid=uid, error=str(error))
        return {"error": str(error), "passing": isinstance(error, UnavailableError)}

    async def _hand(self, uid: int) -> dict[str, Any]:
        name = await self._name(uid)
        signed, expires = self._sign(Principal(name, Role.USER))
        await self._try(signed, name)
        until = datetime.fromtimestamp(expires, UTC).isoformat()
        _log.info("credential_issued", uid=uid, name=name, key=signed.key, expires=until)
        servers = list(self._terms.servers)
        return {
            "credentials": signed.content,
            "expires": until,
            "servers": servers,
            "ca": self._terms.ca,
        }

    async def _name(self, uid: int) -> str:
        """The user database may be a directory service that is slow, or gone."""
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                return await asyncio.to_thread(name_of, uid, self._terms.lowest_uid)
        except TimeoutError as error:
            raise UnavailableError(f"this machine does not say who uid {uid} is") from error

    def _sign(self, user: Principal) -> tuple[Signed, int]:
        now = int(time())
        expires = now + self._terms.ttl
        return sign(user, user.account, self._terms.signer, now, expires), expires

    async def _try(self, signed: Signed, name: str) -> None:
        """Raise AccessDeniedError if the servers refuse him; only they know whom they let in.

        If they do not answer he learns of it himself.
        """
        refusals: list[str] = []

        async def note(error: Exception) -> None:
            refusals.append(str(error))

        client = Driver()
        try:
            async with asyncio.timeout(_TRIAL_SECONDS):
                await client.connect(
                    list(self._terms.servers),
                    user_credentials=RawCredentials(signed.content),
                    tls=self._tls,
                    name="pbscastd auth broker",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=note,
                )
        except (OSError, nats.errors.Error, TimeoutError) as error:
            if any("authorization" in text.lower() for text in (*refusals, str(error))):
                raise AccessDeniedError(
                    f"NATS does not let {name} in: not enrolled, or barred: ask who runs pbscast"
                    f" (pbscastd auth enrol {name})"
                ) from error
            words = refusals[0] if refusals else str(error) or type(error).__name__
            _log.warning("nats_silent", error=words)
        finally:
            await client.abandon()


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _read(connection: socket.socket) -> None:
    """Drop what he said all the same: the kernel would take the answer from him otherwise."""
    with suppress(BlockingIOError):
        connection.recv(_UNREAD)
