"""Where the messages of a registered subscription come from: those that are kept for it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import nats.errors

from pbscast.asking import AWAY
from pbscast.deliveries import ACK_WAIT, DELIVERIES
from pbscast.errors import ConflictError, PbscastError
from pbscast.lease import renew, resume
from pbscast.pulling import BATCH, CONSUMER_DELETED, Delivered, Puller

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast.connection import Connection

SHARED_BATCH: Final = 32
"""The most messages that wait in a process that shares a subscription: what it has, the others do
not get."""
_RETRY_FIRST: Final = 0.05
_RETRY_MOST: Final = 5.0
_ACK: Final = b"+ACK"
_GIVE_BACK: Final = b"-NAK"
_LATER: Final = b'-NAK {"delay": 500000000}'
_AT_WORK: Final = b"+WPI"


class Sign(Enum):
    """What a source tells beside deliveries."""

    LOST = auto()
    """Messages may have been lost here."""
    CLOSED = auto()
    """The source has been closed: nothing will come any more."""


class Source(ABC):
    """Messages in the order in which they are to be told."""

    def __init__(self, connection: Connection, key: str) -> None:
        self._connection = connection
        self._key = key
        self._closed = False
        self._failure: PbscastError | None = None

    @abstractmethod
    async def open(self) -> None:
        """Begin to receive. Raises UnavailableError or AccessDeniedError."""

    @abstractmethod
    async def receive(self) -> Delivered | Sign:
        """Wait for what comes next.

        Raises what ``fail`` was given, GoneError, ConflictError if the messages go to another
        reader now, and AccessDeniedError if the server turns us away for good.
        """

    @abstractmethod
    async def acknowledge(self, message: Delivered) -> None:
        """Say that a message has been handled."""

    async def postpone(self, message: Delivered) -> None:  # noqa: B027 - only what is kept can be
        """Let a message come again in a while, here or to another reader."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything; a waiting ``receive`` ends."""

    @abstractmethod
    def wake(self) -> None:
        """Let a waiting ``receive`` look at how things stand."""

    def fail(self, error: PbscastError) -> None:
        """Let ``receive`` raise this."""
        self._failure = error
        self.wake()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


class Kept(Source):
    """Messages that the server keeps until they are acknowledged, from a consumer it made for us.

    Nothing is asked of the server but to pull and to acknowledge. After any loss the service is
    asked to deliver again, in order, what was not acknowledged; JetStream itself would send newer
    messages first. Where several processes share the consumer no order is promised.
    """

    def __init__(
        self,
        connection: Connection,
        key: str,
        consumer: str,
        *,
        shared: bool,
        is_doubtful: bool = False,
    ) -> None:
        super().__init__(connection, key)
        self._consumer = consumer
        self._shared = shared
        self._is_doubtful = is_doubtful
        """Whether what resumed it may still be done once more."""
        self._puller: _Deliveries | None = None
        self._in_hand: Delivered | None = None
        self._working: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to pull."""
        self._connection.listen(self._on_connection)
        self._puller = await self._start()
        if self._shared:
            self._working = asyncio.create_task(self._keep_ours())

    async def receive(self) -> Delivered | Sign:
        """Wait for the next, through any loss of connection or consumer."""
        while not self._closed:
            self._check()
            puller = self._puller
            if puller is not None and (delivered := puller.take()) is not None:
                self._in_hand = delivered
                return delivered
            if puller is None or puller.broken is not None:
                await self._restart()
            else:
                await puller.wait()
        return Sign.CLOSED

    async def acknowledge(self, message: Delivered) -> None:
        """Say so, without waiting for the server's word: what it did not hear comes again."""
        self._in_hand = None
        await self._say(_ACK, [message])

    async def postpone(self, message: Delivered) -> None:
        """See Source."""
        self._in_hand = None
        await self._say(_LATER, [message])

    async def close(self) -> None:
        """Stop; what a sharing process still holds, and has in hand, goes to another at once."""
        if self._closed:
            return
        self._closed = True
        self._connection.unlisten(self._on_connection)
        if self._working is not None:
            self._working.cancel()
        if self._puller is not None:
            await self._puller.close()
            if self._shared:
                await self._say(_GIVE_BACK, self._ours())

    def wake(self) -> None:
        """See Source."""
        if self._puller is not None:
            self._puller.abandon("to be looked at")

    async def _start(self) -> _Deliveries:
        puller = _Deliveries(self._connection, self._consumer, shared=self._shared)
        await puller.start()
        return puller

    async def _restart(self) -> None:
        reason = refusal = None
        if self._puller is not None:
            reason, refusal = self._puller.broken, self._puller.refusal
            await self._puller.close()
            self._puller = None
        is_deleted = reason is not None and CONSUMER_DELETED in reason
        if refusal is not None:
            raise refusal
        is_suspect = is_deleted and not self._shared and not self._is_doubtful
        is_doubtful, delay = False, _RETRY_FIRST
        while self._puller is None and not self._closed:
            await self._connection.wait_up()
            self._check()
            try:
                if is_suspect:
                    await self._check_taken_over()
                    is_suspect = False
                answer, is_repeated = await resume(self._connection, self._key)
                self._consumer = answer.consumer or self._consumer
                self._puller = await self._start()
            except AWAY:
                is_doubtful = True
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_MOST)
            else:
                # Of two rivals each gives the other the benefit of the doubt once.
                self._is_doubtful = not is_deleted and (is_doubtful or is_repeated)

    async def _check_taken_over(self) -> None:
        """Raise ConflictError where another reads now; with other rights we have another consumer.

        Raises AccessDeniedError where these are not enough, and what says that nobody answers.
        """
        answer = await renew(self._connection, self._key)
        if answer.consumer is None or answer.consumer == self._consumer:
            raise _taken_over(self._key)

    async def _keep_ours(self) -> None:
        """Say that we are at work on what we hold, so that no other process gets it."""
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            await self._say(_AT_WORK, self._ours())

    def _ours(self) -> Iterable[Delivered]:
        waiting = self._puller.waiting if self._puller is not None else ()
        return waiting if self._in_hand is None else (self._in_hand, *waiting)

    async def _say(self, word: bytes, messages: Iterable[Delivered]) -> None:
        with suppress(nats.errors.Error, OSError):
            for message in messages:
                await self._connection.nats.publish(message.reply, word)

    def _on_connection(self) -> None:
        if self._puller is not None:
            self._puller.abandon("the connection was lost")


class _Deliveries(Puller):
    """Of one reader each delivery follows the one before; of several, nothing is known of that."""

    def __init__(self, connection: Connection, name: str, *, shared: bool) -> None:
        super().__init__(connection, DELIVERIES, name, SHARED_BATCH if shared else BATCH)
        self._shared = shared
        self._expected: int | None = None

    def _accept(self, consumer_sequence: int) -> bool:
        if not self._shared and self._expected not in (None, consumer_sequence):
            self.abandon("a delivery was lost on the way")
            return False
        self._expected = consumer_sequence + 1
        return True


def _taken_over(key: str) -> ConflictError:
    return ConflictError(
        f"subscription {key} is read by somebody else now: subscribe with shared=True to share one"
    )
