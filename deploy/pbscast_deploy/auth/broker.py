"""Hands a short-lived credential to whoever connects, as whom the kernel says he is.

Who connects to the Unix socket says nothing and reads one JSON object until the end:
``{"credentials": …, "expires": …, "servers": […], "ca": …}``, or ``{"error": "one line"}``.
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
from nats.aio.client import Client, RawCredentials

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
_TRIAL_SECONDS: Final = 4.0
"""nats-server looks for an account that it does not know for nearly two."""
_READ_SECONDS: Final = 5.0
_END_SECONDS: Final = 10.0
_UNREAD: Final = 1024

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
        self._complaints = Rates(*_COMPLAINTS)
        self._busy = 0
        self._idle = asyncio.Event()
        self._tls = trust_text(terms.ca, "--ca") if terms.ca else ssl.create_default_context()

    async def serve(self, path: Path) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigError if the socket cannot be made."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        with listening(path) as listener:
            server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_UNREAD)
            async with server:
                _log.info("listening", socket=str(path), servers=list(self._terms.servers))
                await stopping.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    while self._busy:
                        self._idle.clear()
                        await self._idle.wait()
        _log.info("stopped")

    async def _serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._busy += 1
        try:
            answer = await self._answer(writer.get_extra_info("socket"))
            writer.write(json.dumps(answer).encode() + b"\n")
            async with asyncio.timeout(_READ_SECONDS):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()  # he does not read, or is gone
        finally:
            writer.close()
            self._busy -= 1
            self._idle.set()

    async def _answer(self, connection: socket.socket) -> dict[str, Any]:
        uid = peer(connection)
        try:
            return await self._hand(uid)
        except PbscastError as error:
            if self._complaints.take(uid):
                _log.warning("credential_refused", uid=uid, error=str(error))
            return {"error": str(error)}

    async def _hand(self, uid: int) -> dict[str, Any]:
        if self._busy > _AT_A_TIME:
            raise UnavailableError("the broker has too much to do: try again in a moment")
        if not self._rates.take(uid):
            raise UnavailableError(f"uid {uid} asks too often: try again in a moment")
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
            refusals.append(str(error).lower())

        client = Client()
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
            if any("authorization" in text for text in (*refusals, str(error).lower())):
                raise AccessDeniedError(
                    f"NATS does not let {name} in: not enrolled, or barred: ask who runs pbscast"
                    f" (pbscastd auth enrol {name})"
                ) from error
            words = refusals[0] if refusals else str(error) or type(error).__name__
            _log.warning("nats_silent", error=words)
        finally:
            with suppress(OSError, nats.errors.Error):
                await client.close()
