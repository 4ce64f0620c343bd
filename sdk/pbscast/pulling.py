"""Pulling messages from a consumer of the server into a bounded queue.

nats-py's own readers cannot be relied upon for completeness: its push "ordered" consumer drops
messages when the reader is slow, ``fetch`` hides a deleted consumer. Here the server sends no more
than was asked for, and a silent or missing consumer is noticed.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import nats.errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from pbscast.connection import Connection
    from pbscast.errors import PbscastError

BATCH: Final = 500
"""The most messages that wait in memory for the application."""
BATCH_BYTES: Final = 8 << 20
"""And the most bytes, or one message where the server allows larger ones."""
_HEADROOM: Final = 64 << 10
"""Of a delivery beside the payload that the server limits: subjects."""
HEARTBEAT: Final = 5.0
SILENCE: Final = 2.5 * HEARTBEAT
"""Seconds without a sign of life while a pull is open after which the consumer counts as lost."""
PULL_EXPIRES: Final = 60.0

_NANO: Final = 1_000_000_000
_HEARTBEAT_STATUS: Final = "100"
_NO_RESPONDERS: Final = "503"
SILENT: Final = "the server is silent"
CONSUMER_DELETED: Final = "consumer deleted"
_FATAL: Final = (CONSUMER_DELETED, "consumer is push based", "bad request")


@dataclass(frozen=True, slots=True)
class Delivered:
    """One message of a stream."""

    sequence: int
    """Of the stream."""
    time: int
    """When the stream stored it, nanoseconds since 1970 by the server's clock."""
    data: bytes
    reply: str = ""
    """Where it is acknowledged, if it has to be."""


class Puller:
    """Deliveries as the server sends them, until ``broken`` says why they end."""

    def __init__(self, connection: Connection, stream: str, name: str, batch: int = BATCH) -> None:
        self._connection = connection
        self._client = connection.nats
        self._stream = stream
        self.name = name
        self._batch = batch
        self._inbox = connection.nats.new_inbox()
        self._subscription: Subscription | None = None
        self._queue: deque[Delivered] = deque()
        self._news = asyncio.Event()
        self._pulls = 0
        self._credit = 0
        self._pull_ended = asyncio.get_running_loop().time()
        self._idle = False
        self._denials = connection.denials
        self.broken: str | None = None

    async def start(self) -> None:
        """Listen for what will be pulled. Raises UnavailableError or AccessDeniedError."""
        subject = f"{self._inbox}.*"
        try:
            self._subscription = await self._client.subscribe(subject, cb=self._on_message)
        except (nats.errors.Error, OSError) as error:
            raise self._connection.explain(error, subject, self._denials) from error

    @property
    def _subject(self) -> str:
        return f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.name}"

    @property
    def refusal(self) -> PbscastError | None:
        """What to raise if the server is silent because it does not let us pull."""
        if self.broken != SILENT:
            return None
        what = f"the stream {self._stream}"
        return self._connection.refusal(self._subject, self._denials, what)

    @property
    def waiting(self) -> Iterable[Delivered]:
        """What has come and has not been taken."""
        return tuple(self._queue)

    def take(self) -> Delivered | None:
        """Return the next delivery if one is here."""
        return self._queue.popleft() if self._queue else None

    def abandon(self, reason: str) -> None:
        """Mark the consumer as broken; what has arrived can still be taken."""
        self.broken = self.broken or reason
        self._news.set()

    def discard(self, reason: str) -> None:
        """Mark the consumer as broken and forget what has arrived."""
        self._queue.clear()
        self.abandon(reason)

    async def wait(self) -> None:
        """Ask for more and return when something has come or the consumer is broken."""
        self._news.clear()
        if self._credit == 0:
            await self._pull()
        try:
            async with asyncio.timeout(SILENCE):
                await self._news.wait()
        except TimeoutError:
            self.abandon(SILENT)

    async def close(self) -> None:
        """Stop listening: what the server would still send goes to another reader or stays."""
        self.abandon("closed")
        with suppress(nats.errors.Error, OSError, TimeoutError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()

    def _accept(self, consumer_sequence: int) -> bool:
        """Whether a delivery is what had to come; the consumer is abandoned if not."""
        return consumer_sequence > 0

    def _is_left_alone(self) -> bool:
        """Whether the consumer has not been read for so long that it cannot be trusted."""
        return False

    async def _pull(self) -> None:
        if self._is_left_alone():
            self.abandon("not read for long")
            return
        self._pulls += 1
        self._credit = self._batch
        request = {
            "batch": self._batch,
            # A pull that is too small for the next message gets nothing but a refusal.
            "max_bytes": max(BATCH_BYTES, self._client.max_payload + _HEADROOM),
            "expires": int(PULL_EXPIRES * _NANO),
            "idle_heartbeat": int(HEARTBEAT * _NANO),
        }
        try:
            await self._client.publish(
                self._subject,
                json.dumps(request).encode(),
                reply=f"{self._inbox}.{self._pulls}",
            )
        except (nats.errors.Error, OSError) as error:
            self.abandon(str(error))

    async def _on_message(self, message: Msg) -> None:
        if message.subject.startswith(self._inbox):
            self._on_status(message)
        else:
            self._on_delivery(message)
        self._news.set()

    def _on_delivery(self, message: Msg) -> None:
        sequence, consumer_sequence, time = _place(message.reply)
        if self.broken is not None or not self._accept(consumer_sequence):
            return
        self._idle = False
        self._spend(1)
        self._queue.append(Delivered(sequence, time, message.data, message.reply))

    def _on_status(self, message: Msg) -> None:
        headers: dict[str, Any] = message.headers or {}
        status, text = headers.get("Status"), str(headers.get("Description", "")).lower()
        if status == _HEARTBEAT_STATUS:
            self._idle = True
        elif status == _NO_RESPONDERS or any(phrase in text for phrase in _FATAL):
            self.abandon(text or "the consumer is gone")
        elif message.subject == f"{self._inbox}.{self._pulls}":
            self._spend(self._credit)

    def _spend(self, count: int) -> None:
        self._credit -= count
        if self._credit <= 0:
            self._credit = 0
            self._pull_ended = asyncio.get_running_loop().time()


def _place(reply: str) -> tuple[int, int, int]:
    """Return stream sequence, consumer sequence and time from the subject for acknowledgements.

    ``$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>``; newer
    servers may put domain and account hash after ``ACK`` and a random token at the end.
    """
    tokens = reply.split(".")
    first = 5 if len(tokens) == 9 else 7
    return int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 2])
