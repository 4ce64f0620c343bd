"""Making one connection to NATS: where to, whom to trust there, and who we are."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import nats.errors

from pbscast import tls
from pbscast.credentials import BrokerSource, FileSource
from pbscast.driver import Driver
from pbscast.errors import AccessDeniedError, PbscastError, UnavailableError
from pbscast.settings import checked_servers, listed

if TYPE_CHECKING:
    import ssl

    from nats.aio.client import Client as NatsClient

    from pbscast.credentials import Source
    from pbscast.settings import Settings

RECONNECT_WAIT: Final = 1.0
PING_INTERVAL: Final = 20
_TRIES: Final = 3
"""How often a server is tried that cuts us off without a word."""
_REFUSALS: Final = ("authorization violation", "authentication")
_LATE: Final = "timeout"
"""The server has not waited until we had shown who we are."""


class Listener(Protocol):
    """Who is told what becomes of a connection."""

    def note(self, client: NatsClient, error: Exception) -> None:
        """Something went wrong on a connection, or while making one."""

    def lost(self, client: NatsClient) -> None:
        """The driver has lost it, and tries to have it back or gives up."""

    def back(self, client: NatsClient) -> None:
        """The driver has it back."""


class Dialer:
    """Connects, as often as it is asked to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers = settings.servers
        self._tls: ssl.SSLContext | None = None
        self.source: Source | None = None
        """Where credentials come from; None: there are none."""
        if settings.creds is not None:
            self.source = FileSource(settings.creds)
        elif settings.broker is not None:
            self.source = BrokerSource(settings.broker, settings.connect_timeout)

    @property
    def place(self) -> str:
        """The servers, for a message."""
        return listed(self._servers)

    async def dial(self, listener: Listener) -> Driver:
        """Return a connected client.

        Raises UnavailableError if no server answers in time, AccessDeniedError if one refuses the
        credentials and there are no newer ones, ConfigError if TLS cannot be spoken as it is set.
        """
        await self._prepare()
        try:
            return await self._attempt(listener)
        except AccessDeniedError:
            if self.source is None or not await self.source.renew():
                raise
            return await self._attempt(listener)

    async def _prepare(self) -> None:
        handed = None if self.source is None else await self.source.have()
        ca = self._settings.ca
        self._tls = None if ca is None else tls.trust_file(ca)
        if handed is None or self.source is None:
            return
        self._servers = self._settings.servers or checked_servers(handed.servers)
        if not self._servers:
            raise UnavailableError(f"{self.source.name} names no server: set PBSCAST_SERVERS")
        if ca is None and handed.ca is not None:
            self._tls = tls.trust_text(handed.ca, self.source.name)

    async def _attempt(self, listener: Listener) -> Driver:
        client = Driver()
        try:
            async with asyncio.timeout(self._settings.connect_timeout) as limit:
                hearing = _Hearing(client, listener, limit, _TRIES * len(self._servers))
                await client.connect(**self._options(client), **hearing.callbacks())
            if not client.is_connected:  # cut off again at once, which nobody else has heard
                raise nats.errors.ConnectionClosedError  # noqa: TRY301 - explained as any other
        except Exception as error:  # noqa: BLE001 - the driver's own mistakes too
            cause = hearing.last or error
            raise self._explain(cause) from cause
        finally:
            if not client.is_connected:
                await client.abandon()
        return client

    def _options(self, client: Driver) -> dict[str, Any]:
        pen = None if self.source is None else _Pen(self.source, client)
        return {
            "servers": list(self._servers),
            "signature_cb": pen and pen.sign,
            "user_jwt_cb": pen and pen.token,
            "tls": self._tls,
            "name": "pbscast",
            "connect_timeout": max(1, round(self._settings.connect_timeout)),
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_WAIT,
            "ping_interval": PING_INTERVAL,
        }

    def _explain(self, cause: Exception) -> PbscastError:
        if is_refusal(cause):
            return AccessDeniedError(f"{self.place} refused {self._refused()}")
        insecure = tls.explain(cause, self.place)
        return insecure or UnavailableError(f"cannot reach NATS at {self.place}: {_reason(cause)}")

    def _refused(self) -> str:
        source = self.source
        if source is None or source.newest is None:
            return "us: it wants credentials, see PBSCAST_CREDS and PBSCAST_BROKER"
        if source.newest.is_expired:
            ended = f"{source.newest.expires:%Y-%m-%d %H:%M:%S} UTC"
            return f"the credentials of {source.name}: they expired {ended}, get new ones"
        return f"the credentials of {source.name}: were they revoked? ask who runs pbscast"


class _Hearing:
    """Ends an attempt once every server has had its say: the driver would try for ever."""

    def __init__(
        self, client: Driver, listener: Listener, limit: asyncio.Timeout, tries: int
    ) -> None:
        self.last: Exception | None = None
        self._client = client
        self._listener = listener
        self._limit = limit
        self._tries = tries

    def callbacks(self) -> dict[str, Any]:
        return {"error_cb": self._note, "disconnected_cb": self._lost, "reconnected_cb": self._back}

    async def _note(self, error: Exception) -> None:
        # A server that has refused us cuts us off: what the driver then meets says less.
        if self.last is None or not is_refusal(self.last):
            self.last = error
        self._listener.note(self._client, error)
        # A server that refuses us closes with our PING unread: a reset may hide its words.
        is_cut = isinstance(error, ConnectionResetError | BrokenPipeError)
        self._tries -= 1 if is_cut else _TRIES
        if not self._client.is_connected and (self._tries <= 0 or is_refusal(error)):
            with suppress(RuntimeError):
                self._limit.reschedule(0)

    async def _lost(self) -> None:
        self._listener.lost(self._client)

    async def _back(self) -> None:
        self._listener.back(self._client)


class _Pen:
    """Shows the server a credential and signs with the same, whatever comes to be meanwhile."""

    def __init__(self, source: Source, client: Driver) -> None:
        self._source = source
        self._client = client

    def sign(self, nonce: str) -> bytes:
        """The driver asks for this first."""
        self._client.shown = self._source.show()
        return self._client.shown.sign(nonce)

    def token(self) -> bytearray:
        """Of the credential that signed."""
        assert self._client.shown is not None  # noqa: S101 - sign was called
        return bytearray(self._client.shown.token.encode())


def is_refusal(error: Exception) -> bool:
    """Whether a server has said that it does not let us in."""
    text = str(error).lower()
    return isinstance(error, nats.errors.AuthorizationError) or any(
        phrase in text and _LATE not in text for phrase in _REFUSALS
    )


def _reason(cause: Exception) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(cause, TimeoutError):
        return "no answer"
    return str(cause).strip() or type(cause).__name__
