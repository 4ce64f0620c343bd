"""One NATS connection that comes back by itself, for ever."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.aio.client import Client as NatsClient
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    NotFoundError,
    PbscastError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.msg import Msg

    from pbscast.settings import Settings

RECONNECT_WAIT: Final = 1.0
PING_INTERVAL: Final = 20
STUCK: Final = 30.0
"""Seconds without a connection after which the driver is given up for a new one."""
_TRIES: Final = 3
"""How often a server is tried that cuts us off without a word."""
_STREAM_NOT_FOUND: Final = 10059
_REFUSALS: Final = ("authorization violation", "authentication")


class ConnectionState(StrEnum):
    """What an application may show of the connection."""

    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class Connection:
    """A NATS connection. ``nats`` may change at a reconnect; listeners are told after each one."""

    nats: NatsClient

    def __init__(
        self, settings: Settings, on_state: Callable[[ConnectionState], None] | None
    ) -> None:
        self._settings = settings
        self._on_state = on_state
        self._state = ConnectionState.RECONNECTING
        self._listeners: set[Callable[[], None]] = set()
        self._up = asyncio.Event()
        self._restoring: asyncio.Task[None] | None = None
        self._last_error: Exception | None = None
        self._denials = 0
        self._failure: PbscastError | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, on_state: Callable[[ConnectionState], None] | None = None
    ) -> AsyncIterator[Connection]:
        """Connect, and close at the end.

        Raises UnavailableError if no server answers within the settings' time, AccessDeniedError if
        one refuses the credentials.
        """
        connection = cls(settings, on_state)
        connection.nats = await connection._dial()
        connection._enter(ConnectionState.CONNECTED)
        try:
            yield connection
        finally:
            await connection._close()

    @property
    def state(self) -> ConnectionState:
        return self._state

    @property
    def timeout(self) -> float:
        """How long a command may take, in seconds."""
        return self._settings.connect_timeout

    @property
    def place(self) -> str:
        """The servers, for a message."""
        return self._settings.place

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each loss and each return of the connection."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        self._listeners.discard(listener)

    async def wait_up(self) -> None:
        """Return once connected. Raises AccessDeniedError if the server has turned us away."""
        await self._up.wait()
        if self._failure is not None:
            raise self._failure

    async def request(self, subject: str, payload: bytes) -> Msg:
        """Ask and return the answer, whatever it says.

        Raises UnavailableError if nobody answers in time, AccessDeniedError if we may not ask.
        """
        denials = self._denials
        try:
            return await self.nats.request(subject, payload, timeout=self.timeout)
        except (nats.errors.Error, OSError) as error:
            raise self.explain(error, subject, denials) from error

    @property
    def denials(self) -> int:
        """How often the server has refused a subject so far; see explain."""
        return self._denials

    def explain(self, error: Exception, what: str, denials: int) -> PbscastError:
        """Return our error for a driver's; ``denials`` is the count from before the call.

        A refused subject is reported on its own, the call itself just gets no answer.
        """
        if self._denials > denials:
            return AccessDeniedError(f"{self.place} refused {what}: ask who runs pbscast")
        if isinstance(error, nats.errors.NoRespondersError):
            return UnavailableError(f"nobody serves {what} at {self.place}: is pbscastd running?")
        if isinstance(error, ServiceUnavailableError | NoStreamResponseError):
            return UnavailableError(f"JetStream is not available at {self.place}")
        if isinstance(error, APIError):
            return _explain_api(error, what, self.place)
        if isinstance(error, TimeoutError):
            return UnavailableError(f"no answer for {what} from {self.place} in {self.timeout:g} s")
        return UnavailableError(f"lost the connection to {self.place}: {error}")

    async def _dial(self) -> NatsClient:
        client = NatsClient()
        try:
            async with asyncio.timeout(self._settings.connect_timeout) as limit:
                await self._connect(client, limit)
        except (OSError, nats.errors.Error, ValueError) as error:
            cause = self._last_error or error
            raise self._explain_dial(cause) from cause
        finally:
            if not client.is_connected:
                await client.close()
        return client

    async def _connect(self, client: NatsClient, limit: asyncio.Timeout) -> None:
        tries = _TRIES * len(self._settings.servers)

        async def note(error: Exception) -> None:
            nonlocal tries
            self._note(error)
            # A server that refuses us closes with our PING unread: a reset may hide its words.
            tries -= 1 if isinstance(error, ConnectionResetError | BrokenPipeError) else _TRIES
            if not client.is_connected and (tries <= 0 or _is_refusal(error)):
                # The driver would try for ever; each server has had its say.
                with suppress(RuntimeError):
                    limit.reschedule(0)

        async def lost() -> None:
            self._enter(ConnectionState.RECONNECTING)

        async def back() -> None:
            self._enter(ConnectionState.CONNECTED)

        self._last_error = None
        creds = self._settings.creds
        try:
            await client.connect(
                servers=list(self._settings.servers),
                user_credentials=None if creds is None else str(creds),
                name="pbscast",
                error_cb=note,
                disconnected_cb=lost,
                reconnected_cb=back,
                connect_timeout=max(1, round(self._settings.connect_timeout)),
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]
                ping_interval=PING_INTERVAL,
            )
        except ImportError as error:
            raise ConfigError("a credentials file needs the package nkeys: install it") from error

    def _note(self, error: Exception) -> None:
        self._last_error = error
        if "permissions violation" in str(error).lower():
            self._denials += 1

    def _explain_dial(self, cause: Exception) -> PbscastError:
        if _is_refusal(cause):
            return AccessDeniedError(f"{self.place} refused the credentials")
        return UnavailableError(f"cannot reach NATS at {self.place}: {_reason(cause)}")

    def _enter(self, state: ConnectionState) -> None:
        if self._state in (state, ConnectionState.CLOSED):
            return
        self._state = state
        if state is not ConnectionState.RECONNECTING:
            self._up.set()
        else:
            self._up.clear()
            if self._restoring is None or self._restoring.done():
                self._restoring = asyncio.create_task(self._restore())
        self._tell_listeners()
        if self._on_state is not None:
            self._on_state(state)

    def _tell_listeners(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    async def _restore(self) -> None:
        """The driver reconnects by itself, but gives up for good on some errors: we do not.

        Those are 'Slow Consumer' or an expired user, for instance. It does not always tell so.
        """
        clock = asyncio.get_running_loop().time
        lost = clock()
        while self._state is ConnectionState.RECONNECTING and self._failure is None:
            await asyncio.sleep(RECONNECT_WAIT)
            if not self.nats.is_closed and clock() - lost > STUCK:
                await self._give_up()
            if self.nats.is_closed and self._state is ConnectionState.RECONNECTING:
                await self._replace()

    async def _give_up(self) -> None:
        with suppress(nats.errors.Error, OSError):
            async with asyncio.timeout(RECONNECT_WAIT):
                await self.nats.close()

    async def _replace(self) -> None:
        try:
            self.nats = await self._dial()
        except UnavailableError:
            return
        except PbscastError as error:
            self._failure = error
            self._up.set()
            self._tell_listeners()
        else:
            self._enter(ConnectionState.CONNECTED)

    async def _close(self) -> None:
        self._enter(ConnectionState.CLOSED)
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        await self.nats.close()


def _is_refusal(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, nats.errors.AuthorizationError) or any(
        phrase in text for phrase in _REFUSALS
    )


def _reason(cause: Exception) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return "no answer" if isinstance(cause, TimeoutError) else str(cause).strip()


def _explain_api(error: APIError, what: str, place: str) -> PbscastError:
    if error.err_code == _STREAM_NOT_FOUND:
        return NotFoundError(f"{place} has no stream for pbscast: is this the right server?")
    return UnavailableError(f"{place} cannot serve {what}: {error.description}")
