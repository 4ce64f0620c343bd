"""One pull consumer and one inbox, used until the first sign of trouble.

nats-py's own readers cannot be relied upon for completeness: its push "ordered" consumer drops
messages when the reader is slow, ``fetch`` hides a deleted consumer. Here the server sends no more
than was asked for, and every delivery carries the consumer's own sequence: a step of more than one
is a loss in between.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig

if TYPE_CHECKING:
    from datetime import datetime

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

    from pbscast.connection import Connection

STREAM: Final = "PBS"
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
INACTIVE_THRESHOLD: Final = 60.0
"""Seconds after which the server forgets the consumer of a reader that has gone."""

_NANO: Final = 1_000_000_000
_HEARTBEAT_STATUS: Final = "100"
_NO_RESPONDERS: Final = "503"
_FATAL: Final = ("consumer deleted", "consumer is push based", "bad request")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of the stream."""

    sequence: int
    """Of the stream."""
    time: int
    """When the stream stored it, nanoseconds since 1970 by the server's clock."""
    data: bytes


class Consumer:
    """Deliveries in the stream's order without a hole, until ``broken`` says why they end."""

    def __init__(self, connection: Connection, subscription_inbox: str) -> None:
        self._connection = connection
        self._client = connection.nats
        self._inbox = subscription_inbox
        self._subscription: Subscription | None = None
        self._queue: deque[Delivery] = deque()
        self._news = asyncio.Event()
        self._pulls = 0
        self._credit = 0
        self._expected = 1
        self._pull_ended = asyncio.get_running_loop().time()
        self.name = ""
        self._idle = False
        self.broken: str | None = None
        self.stored = 0
        """How many deliveries were in the stream when the consumer was made."""
        self.created: datetime | None = None
        self.after = 0
        """The stream's last sequence before those that are to come."""

    @classmethod
    async def open(cls, connection: Connection, config: ConsumerConfig) -> Consumer:
        """Make the consumer on the server. Raises what the driver raises."""
        consumer = cls(connection, connection.nats.new_inbox())
        try:
            await consumer._start(config)
        except BaseException:
            await consumer.close()
            raise
        return consumer

    async def _start(self, config: ConsumerConfig) -> None:
        self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._on_message)
        # Named before it is asked for: it may be made although we never hear of it.
        self.name = f"pbscast-{self._inbox.rpartition('.')[2]}"
        info = await self._jetstream().add_consumer(
            STREAM,
            config.evolve(
                name=self.name,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=INACTIVE_THRESHOLD,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self.stored = info.num_pending or 0
        self.created = info.created
        self.after = info.delivered.stream_seq if info.delivered else 0

    @property
    def is_past_stored(self) -> bool:
        """Whether all that was stored when the consumer was made has been taken.

        What the stream removes meanwhile never comes: then the server's idle sign tells.
        """
        waiting = len(self._queue)
        return self._expected - 1 - waiting >= self.stored or (self._idle and not waiting)

    def take(self) -> Delivery | None:
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
            self.abandon("the server is silent")

    async def close(self) -> None:
        """Let go of the consumer, on the server as well where it can be reached."""
        self.abandon("closed")
        with suppress(nats.errors.Error, OSError, TimeoutError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            if self.name and self._client.is_connected:
                await self._jetstream(1.0).delete_consumer(STREAM, self.name)

    def _jetstream(self, timeout: float | None = None) -> JetStreamContext:
        return self._client.jetstream(timeout=timeout or self._connection.timeout)

    async def _pull(self) -> None:
        # A consumer left alone for long may be gone, or the stream may have removed messages.
        if asyncio.get_running_loop().time() - self._pull_ended > INACTIVE_THRESHOLD / 2:
            self.abandon("not read for long")
            return
        self._pulls += 1
        self._credit = BATCH
        request = {
            "batch": BATCH,
            # A pull that is too small for the next message gets nothing but a refusal.
            "max_bytes": max(BATCH_BYTES, self._client.max_payload + _HEADROOM),
            "expires": int(PULL_EXPIRES * _NANO),
            "idle_heartbeat": int(HEARTBEAT * _NANO),
        }
        try:
            await self._client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self.name}",
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
        if self.broken is not None:
            return
        if consumer_sequence != self._expected:
            self.abandon("a delivery was lost on the way")
            return
        self._expected += 1
        self._idle = False
        self._spend(1)
        self._queue.append(Delivery(sequence, time, message.data))

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
