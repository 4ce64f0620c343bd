"""One NATS connection that lasts as long as the worker, whatever happens to the server."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import RawCredentials

from pbscast.dialing import is_refusal
from pbscast.driver import Driver
from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from pbscast_fanout.settings import NatsSettings

OLDEST_SERVER: Final = (2, 12)
"""The first nats-server with atomic batches."""

_PENDING_BYTES: Final = 8 * 1024 * 1024
_RETRY_SECONDS: Final = 1.0
_SILENT_SECONDS: Final = 60.0

STUCK_SECONDS: Final = 10.0
"""After so long without a connection the client is given up for a new one: its own reconnecting
ends for good, without a word, at errors that it does not foresee."""

_log = structlog.get_logger(__name__)


def where(settings: NatsSettings) -> str:
    """Return hosts and ports as they may be shown: an address may hold a password."""
    parts = (
        urlsplit(server if "://" in server else f"nats://{server}") for server in settings.servers
    )
    return ", ".join(f"{part.hostname}:{part.port or 4222}" for part in parts)


async def connect(settings: NatsSettings, *, name: str, lost: Callable[[], None]) -> Driver:
    """Return a connection that reconnects for ever; ``lost`` is called whenever it goes down.

    Raises UnavailableError, AccessDeniedError, UnsupportedError (server too old) or ConfigError.
    """
    client = Driver()
    troubles = _Troubles(client, lost)
    try:
        async with asyncio.timeout(settings.timeout) as limit:
            troubles.limit = limit
            await client.connect(**_options(settings, name), **troubles.callbacks())
    except (nats.errors.Error, OSError, TimeoutError) as error:
        await client.abandon()
        raise _explain(troubles.cause or error, settings) from error
    troubles.settled()
    try:
        _check_version(client, settings)
    except UnsupportedError:
        await client.close()
        raise
    return client


def _options(settings: NatsSettings, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "servers": list(settings.servers),
        "name": name,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "connect_timeout": settings.timeout,
        "ping_interval": 10,
        "drain_timeout": settings.timeout,
        "pending_size": _PENDING_BYTES,
        "user": settings.user,
        "password": settings.password and settings.password.get_secret_value(),
        "token": settings.token and settings.token.get_secret_value(),
        "user_credentials": settings.credentials and _credentials(settings.credentials),
    }
    if settings.tls_ca or settings.tls_certificate:
        options["tls"] = _tls(settings)
    return options


def _credentials(path: Path) -> RawCredentials:
    try:
        return RawCredentials(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the NATS credentials file {path} cannot be read: {error}"
        raise ConfigError(msg) from error


def _tls(settings: NatsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_certificate:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        msg = f"the TLS files for NATS cannot be used: {error}"
        raise ConfigError(msg) from error
    return context


class _Warnings:
    """Logs what goes wrong when it is new, then once a minute while it lasts."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._told: dict[str, float] = {}

    def warn(self, error: str) -> None:
        now = monotonic()
        if now - self._told.get(error, -_SILENT_SECONDS) >= _SILENT_SECONDS:
            self._told[error] = now
            _log.warning(self._event, error=error)

    def over(self) -> None:
        self._told.clear()


class _Troubles:
    """Remembers why connecting failed while it is tried, and logs what happens to it afterwards.

    A refusal is remembered before all else: nats-server closes with our PING unread, so that the
    next attempt may get a reset in place of the words.
    """

    def __init__(self, client: Client, lost: Callable[[], None]) -> None:
        self.cause: Exception | None = None
        self.limit: asyncio.Timeout | None = None
        """Of the first attempt; ended by what time does not mend."""
        self._client = client
        self._lost = lost
        self._connected = False
        self._errors = _Warnings("nats_error")

    def callbacks(self) -> dict[str, Any]:
        return {
            "error_cb": self._error,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
        }

    def settled(self) -> None:
        self._connected = True

    async def _error(self, error: Exception) -> None:
        if self.cause is None or not is_refusal(self.cause):
            self.cause = error
        if self._connected:
            self._errors.warn(str(error) or type(error).__name__)
        elif self.limit is not None and (is_refusal(error) or isinstance(error, ssl.SSLError)):
            # The driver would try for ever.
            with suppress(RuntimeError):  # it has ended
                self.limit.reschedule(0)

    async def _disconnected(self) -> None:
        self._lost()
        if self._client.is_reconnecting:
            _log.warning("nats_disconnected")

    async def _reconnected(self) -> None:
        self._errors.over()
        _log.info("nats_reconnected")


def _explain(error: Exception, settings: NatsSettings) -> PbscastError:
    text = str(error) or type(error).__name__
    if is_refusal(error):
        return AccessDeniedError(
            f"NATS at {where(settings)} refuses the credentials: {text}: {_advice(settings)}"
        )
    return UnavailableError(f"NATS at {where(settings)} cannot be reached: {text}")


def _advice(settings: NatsSettings) -> str:
    if settings.credentials:
        return (
            f"is {settings.credentials} expired or revoked, or of another authority?"
            " (pbscastd auth list, auth push)"
        )
    if settings.user or settings.token:
        return "are [nats] user, password and token right?"
    return "set [nats] credentials to a file of pbscastd auth issue"


def _check_version(client: Client, settings: NatsSettings) -> None:
    version = client.connected_server_version
    if (version.major, version.minor) < OLDEST_SERVER:
        needed = ".".join(map(str, OLDEST_SERVER))
        found = f"{version.major}.{version.minor}"
        msg = f"NATS at {where(settings)} is nats-server {found}: {needed} or newer is needed"
        raise UnsupportedError(msg)


class Connection:
    """Keeps a connection: nats-py reconnects by itself, but some errors close it for good."""

    def __init__(self, settings: NatsSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._client: Driver | None = None
        self.upheld: dict[str, dict[str, Any]] = {}
        """Streams that were given our settings once, and what was found to differ since."""
        self._made = asyncio.Condition()
        self._tried = asyncio.Event()
        self._waiting: set[asyncio.Future[Msg]] = set()
        self._trouble: PbscastError = UnavailableError(
            f"NATS at {where(settings)} is not connected yet"
        )

    @property
    def client(self) -> Client:
        """The connection.

        Raises what stands in its way while it is down, so that nothing queues up in memory
        meanwhile.
        """
        if self._client is not None and self._client.is_connected:
            return self._client
        raise type(self._trouble)(str(self._trouble))

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        """Return the answer to a message.

        Raises UnsupportedError if nobody listens; UnavailableError, as soon as the connection is
        lost or when time is up: then nobody knows what became of the message.
        """
        wait = self._settings.timeout
        sent = self.client.request(subject, payload, timeout=wait, headers=headers)
        answer = asyncio.ensure_future(sent)
        self._waiting.add(answer)
        try:
            await asyncio.wait({answer})
            return _result(answer, subject)
        finally:
            answer.cancel()
            self._waiting.discard(answer)

    def _lost(self) -> None:
        for answer in self._waiting:
            answer.cancel()

    @property
    def error(self) -> str | None:
        """Why there is no connection; None while there is one."""
        up = self._client is not None and self._client.is_connected
        return None if up else str(self._trouble)

    async def tried(self) -> None:
        """Wait for the first attempt to connect, however it ends."""
        await self._tried.wait()

    async def replaced(self, old: Client | None) -> Client:
        """Wait for a connection other than the old one; its own reconnect is no replacement."""
        async with self._made:
            await self._made.wait_for(lambda: self._client is not None and self._client is not old)
        assert self._client is not None  # noqa: S101 - the condition that was waited for
        return self._client

    async def keep(self) -> None:
        """Connect, and again whenever the connection is closed, until cancelled; then drain it."""
        unusable = _Warnings("nats_unusable")
        try:
            while True:
                try:
                    client = await self.open()
                except PbscastError as error:
                    unusable.warn(str(error))
                else:
                    unusable.over()
                    await _gone(client)
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await self.close()

    async def open(self) -> Driver:
        """Connect now. Raises what ``connect`` raises."""
        try:
            client = await connect(self._settings, name=self._name, lost=self._lost)
        except PbscastError as error:
            self._trouble = error
            self._tried.set()
            raise
        self._trouble = UnavailableError(f"NATS at {where(self._settings)} is not connected")
        async with self._made:
            self._client = client
            self._made.notify_all()
        self._tried.set()
        return client

    async def close(self) -> None:
        """Let subscriptions finish and what is written reach the server, then close."""
        client, self._client = self._client, None
        if client is None or client.is_closed:
            return
        with suppress(nats.errors.Error, OSError):
            await (client.drain() if client.is_connected else client.close())


def _result(answer: asyncio.Future[Msg], subject: str) -> Msg:
    try:
        return answer.result()
    except nats.errors.NoRespondersError as error:
        raise UnsupportedError(f"nobody answers {subject} on NATS") from error
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise UnavailableError(f"NATS did not answer {subject}: {error}") from error
    except asyncio.CancelledError as error:
        raise UnavailableError(f"NATS did not answer {subject}: connection lost") from error


async def _gone(client: Driver) -> None:
    """Return once the client is closed, by us if it gets nowhere."""
    # nats-py does not call closed_cb when a server's refusal ends a reconnect.
    up = monotonic()
    while not client.is_closed:
        if client.is_connected:
            up = monotonic()
        elif monotonic() - up >= STUCK_SECONDS:
            _log.warning("nats_given_up", seconds=round(monotonic() - up))
            await client.abandon()
            return
        await asyncio.sleep(_RETRY_SECONDS)
