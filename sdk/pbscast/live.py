"""Messages of the moment: what comes while nobody listens is gone."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import nats.errors

from pbscast.connection import ConnectionState
from pbscast.deliveries import LIVE, delivery_filter
from pbscast.errors import PbscastError, UnavailableError
from pbscast.pulling import BATCH_BYTES, Delivered
from pbscast.sources import Sign, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client as NatsClient
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from pbscast.connection import Connection

_MOST: Final = 10_000
_RETRY: Final = 0.5
_DRAIN: Final = 2.0
"""Seconds for what an old connection still has."""


class Live(Source):
    """Messages of the moment: what comes while we are not there, or do not take it, is gone."""

    def __init__(self, connection: Connection, key: str) -> None:
        super().__init__(connection, key)
        self._ear: _Ear | None = None
        self._queue: deque[Delivered | Sign] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._moving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen; what is sent after this returns will be received."""
        await self._listen()
        self._connection.listen(self._on_connection)
        self._on_connection()

    async def receive(self) -> Delivered | Sign:
        """Wait for the next; it tells where the connection was lost or we were too slow."""
        while not self._closed:
            self._check()
            if self._queue:
                message = self._queue.popleft()
                self._bytes -= 0 if isinstance(message, Sign) else len(message.data)
                return message
            self._news.clear()
            await self._news.wait()
        return Sign.CLOSED

    async def acknowledge(self, message: Delivered) -> None:
        """Nobody waits for it."""

    async def close(self) -> None:
        """See Source."""
        self._closed = True
        self._connection.unlisten(self._on_connection)
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.gather(self._moving, return_exceptions=True)
        if self._ear is not None:
            await self._ear.close()
        self.wake()

    def wake(self) -> None:
        """See Source."""
        self._news.set()

    async def _listen(self) -> None:
        """Listen on the connection of now; on the one before until it has told all it has."""
        before, ear = self._ear, _Ear(self._connection.nats, self._put)
        heard = set() if before is None else before.remember()
        try:
            await self._open(ear)
        except BaseException:
            await ear.close()
            raise
        self._ear = ear
        if before is not None:
            if not before.client.is_connected:
                self._note_loss()
            await before.drain()
        ear.tell(without=heard)

    async def _open(self, ear: _Ear) -> None:
        subject = delivery_filter(self._key, LIVE)
        denials = self._connection.denials
        try:
            async with asyncio.timeout(self._connection.timeout):
                await ear.open(subject)
        except (nats.errors.Error, OSError) as error:
            raise self._connection.explain(error, subject, denials) from error
        if (refusal := self._connection.refusal(subject, denials)) is not None:
            raise refusal

    def _put(self, body: bytes) -> None:
        if len(self._queue) >= _MOST or self._bytes + len(body) > BATCH_BYTES:
            self._note_loss()
            return
        self._bytes += len(body)
        self._queue.append(Delivered(0, 0, body))
        self.wake()

    def _note_loss(self) -> None:
        if not self._queue or self._queue[-1] is not Sign.LOST:
            self._queue.append(Sign.LOST)
            self.wake()

    def _on_connection(self) -> None:
        if self._connection.state is ConnectionState.RECONNECTING:
            self._note_loss()
        if self._is_left_behind and (self._moving is None or self._moving.done()):
            self._moving = asyncio.create_task(self._move())

    @property
    def _is_left_behind(self) -> bool:
        """Whether the connection that we listen on is not the one of now."""
        is_current = self._ear is not None and self._ear.client is self._connection.nats
        return not is_current and self._connection.state is not ConnectionState.CLOSED

    async def _move(self) -> None:
        """Listen on the connection of now, whichever that comes to be meanwhile."""
        try:
            while self._is_left_behind:
                await self._connection.wait_up()
                try:
                    await self._listen()
                except UnavailableError:
                    await asyncio.sleep(_RETRY)
        except PbscastError as error:
            self.fail(error)


class _Ear:
    """Listens on one connection.

    While the connection is changed there are two. Each hears what comes then; it is told once, and
    in order, as the new one holds its messages back until the old one has told all of its own.
    """

    def __init__(self, client: NatsClient, put: Callable[[bytes], None]) -> None:
        self.client = client
        self._put = put
        self._held: list[bytes] | None = []
        self._heard: set[bytes] | None = None
        self._subscription: Subscription | None = None

    async def open(self, subject: str) -> None:
        """Listen, and hear of a refusal. Raises what the driver raises."""
        self._subscription = await self.client.subscribe(subject, cb=self._on_message)
        # The first PING overtakes what the driver has not sent yet.
        await self.client.flush()
        await self.client.flush()

    def remember(self) -> set[bytes]:
        """Return what will hold all that is heard from now on."""
        self._heard = set()
        return self._heard

    async def drain(self) -> None:
        """Tell what is still on its way, then listen no more."""
        with suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_DRAIN):
                if self._subscription is not None:
                    await self._subscription.drain()  # type: ignore[no-untyped-call]

    def tell(self, *, without: set[bytes]) -> None:
        """Tell what was held back, but for these, and from now on what comes."""
        held, self._held = self._held or [], None
        for body in held:
            if body not in without:
                self._put(body)

    async def close(self) -> None:
        """Listen no more."""
        with suppress(nats.errors.Error, OSError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        if self._held is not None:
            self._held.append(message.data)
            return
        if self._heard is not None:
            self._heard.add(message.data)
        self._put(message.data)
