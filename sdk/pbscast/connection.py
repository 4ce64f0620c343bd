"""One NATS connection that comes back by itself, for ever."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import nats.errors

from pbscast import dialing
from pbscast.credentials import wait_until
from pbscast.denials import Denials
from pbscast.dialing import Dialer, is_refusal
from pbscast.errors import (
    AccessDeniedError,
    PbscastError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from nats.aio.client import Client as NatsClient
    from nats.aio.msg import Msg

    from pbscast.driver import Driver
    from pbscast.settings import Settings

STUCK: Final = 30.0
"""Seconds without a connection after which the driver is given up for a new one."""
REFUSED: Final = 5.0
"""Seconds for which we have to be refused before that is the end: who renews credentials may be a
moment late, and so may what a server that starts knows of us."""


class ConnectionState(StrEnum):
    """What an application may show of the connection."""

    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class Connection:
    """A NATS connection. ``nats`` may change at a reconnect; listeners are told after each one."""

    nats: Driver

    def __init__(
        self, settings: Settings, on_state: Callable[[ConnectionState], None] | None
    ) -> None:
        self._dialer = Dialer(settings)
        self._timeout = settings.connect_timeout
        self._on_state = on_state
        self._state = ConnectionState.RECONNECTING
        self._listeners: set[Callable[[], None]] = set()
        self._up = asyncio.Event()
        self._restoring: asyncio.Task[None] | None = None
        self._dialing = asyncio.Lock()
        self._aside: set[asyncio.Task[None]] = set()
        self._denials = Denials()
        self._refused: float | None = None
        """Since when we are."""
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
        connection.nats = await connection._dialer.dial(connection)
        connection._enter(ConnectionState.CONNECTED)
        connection._do_aside(connection._stay_admitted())
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
        return self._timeout

    @property
    def place(self) -> str:
        """The servers, for a message."""
        return self._dialer.place

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
        denials = self.denials
        try:
            return await self.nats.request(subject, payload, timeout=self.timeout)
        except (nats.errors.Error, OSError) as error:
            raise self.explain(error, subject, denials) from error

    @property
    def denials(self) -> int:
        """How often the server has refused a subject so far; see ``refusal`` and ``explain``."""
        return self._denials.count

    def refusal(self, subject: str, denials: int, what: str = "") -> AccessDeniedError | None:
        """Return our error if the subject was refused; ``denials``: the count from before that."""
        if not self._denials.has(subject, denials):
            return None
        return AccessDeniedError(f"{self.place} refused {what or subject}: ask who runs pbscast")

    def explain(self, error: Exception, what: str, denials: int) -> PbscastError:
        """Return our error for a driver's; ``denials`` is the count from before the call.

        A refused subject is reported on its own, the call itself just gets no answer.
        """
        if (refusal := self.refusal(what, denials)) is not None:
            return refusal
        if isinstance(error, nats.errors.NoRespondersError):
            return UnavailableError(f"nobody serves {what} at {self.place}: is pbscastd running?")
        if isinstance(error, TimeoutError):
            return UnavailableError(f"no answer for {what} from {self.place} in {self.timeout:g} s")
        return UnavailableError(f"lost the connection to {self.place}: {error}")

    def note(self, client: NatsClient, error: Exception) -> None:
        """The driver says what went wrong."""
        self._denials.note(str(error))
        if is_refusal(error) and self._is_ours(client):
            self._note_refusal()

    def _note_refusal(self) -> None:
        if self._refused is None:
            self._refused = asyncio.get_running_loop().time()

    def lost(self, client: NatsClient) -> None:
        """The driver says that a connection is lost."""
        if self._is_ours(client):
            self._enter(ConnectionState.RECONNECTING)

    def back(self, client: NatsClient) -> None:
        """The driver says that it has one back."""
        if self._is_ours(client):
            self._enter(ConnectionState.CONNECTED)

    def _is_ours(self, client: NatsClient) -> bool:
        # Before the first has been made there is none.
        return getattr(self, "nats", None) is client

    def _enter(self, state: ConnectionState) -> None:
        if self._state in (state, ConnectionState.CLOSED):
            return
        self._state = state
        if state is not ConnectionState.RECONNECTING:
            self._refused = None
            self._up.set()
        else:
            self._up.clear()
            if self._restoring is None or self._restoring.done():
                self._restoring = asyncio.create_task(self._restore())
        self._tell_listeners()
        if self._on_state is not None:
            self._tell(self._on_state, state)

    @staticmethod
    def _tell(on_state: Callable[[ConnectionState], None], state: ConnectionState) -> None:
        try:
            on_state(state)
        except Exception as error:  # noqa: BLE001 - the caller's; it would end the driver's reconnecting
            context = {"message": "on_state of pbscast.connect raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _tell_listeners(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    async def _restore(self) -> None:
        """The driver reconnects by itself, but gives up for good on some errors: we do not.

        Those are 'Slow Consumer' or an expired user, for instance. It does not always tell so.
        """
        clock = asyncio.get_running_loop().time
        lost = clock()
        await asyncio.sleep(dialing.RECONNECT_WAIT)
        while self._state is ConnectionState.RECONNECTING and self._failure is None:
            # Refused, the driver would show what it has for ever.
            is_hopeless = self._refused is not None or clock() - lost > STUCK
            if is_hopeless and not self.nats.is_closed:
                await self.nats.abandon()
            if self.nats.is_closed:
                await self._replace()
            await asyncio.sleep(dialing.RECONNECT_WAIT)

    async def _replace(self) -> None:
        async with self._dialing:
            if self._state is not ConnectionState.RECONNECTING:
                return
            try:
                self.nats = await self._dialer.dial(self)
            except AccessDeniedError as error:
                self._note_refusal()
                if not self._is_refused_for_long:
                    return
                self._failure = error
                self._up.set()
                self._tell_listeners()
            except PbscastError:
                self._refused = None  # whoever does not answer has not refused us again
            else:
                self._enter(ConnectionState.CONNECTED)

    @property
    def _is_refused_for_long(self) -> bool:
        clock = asyncio.get_running_loop().time
        return self._refused is not None and clock() - self._refused > REFUSED

    async def _stay_admitted(self) -> None:
        """Look for new credentials before ours run out, and move to a connection with them.

        Ours are those of the connection in use: while it has not been left, it is tried again.
        """
        source = self._dialer.source
        while source is not None and self._state is not ConnectionState.CLOSED:
            ours = self.nats.shown
            if ours is None or ours.due is None:
                return
            await wait_until(ours.due)
            with suppress(PbscastError):
                if source.newest == self.nats.shown == ours:
                    await source.renew()
                if source.newest != self.nats.shown:
                    await self._move()
            await asyncio.sleep(ours.patience)

    async def _move(self) -> None:
        """Go over to a new connection; what is under way on the old one may end there."""
        async with self._dialing:
            if self.state is not ConnectionState.CONNECTED:
                return  # the next one will have them
            fresh = await self._dialer.dial(self)
            if self._state is ConnectionState.CLOSED:
                await fresh.abandon()
                return
            self._do_aside(self._retire(self.nats))
            self.nats = fresh
            if self._state is ConnectionState.CONNECTED:
                self._tell_listeners()
            else:
                self._enter(ConnectionState.CONNECTED)

    async def _retire(self, client: Driver) -> None:
        try:
            await asyncio.sleep(self.timeout)
        finally:
            await client.abandon()

    def _do_aside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _close(self) -> None:
        self._enter(ConnectionState.CLOSED)
        tasks = [*self._aside, *([self._restoring] if self._restoring is not None else [])]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self.nats.abandon()
