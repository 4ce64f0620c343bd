"""One pull consumer of our own and one inbox, used until the first sign of trouble.

Every delivery carries the consumer's own sequence: a step of more than one is a loss in between.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig

from pbscast.pulling import Puller

if TYPE_CHECKING:
    from datetime import datetime

    from nats.js import JetStreamContext

    from pbscast.connection import Connection

STREAM: Final = "PBS"
INACTIVE_THRESHOLD: Final = 60.0
"""Seconds after which the server forgets the consumer of a reader that has gone."""


class Consumer(Puller):
    """Deliveries in the stream's order without a hole, until ``broken`` says why they end."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, STREAM, "")
        self._expected = 1
        self.stored = 0
        """How many deliveries were in the stream when the consumer was made."""
        self.created: datetime | None = None
        self.after = 0
        """The stream's last sequence before those that are to come."""

    @classmethod
    async def open(cls, connection: Connection, config: ConsumerConfig) -> Consumer:
        """Make the consumer on the server. Raises what the driver raises."""
        consumer = cls(connection)
        try:
            await consumer._make(config)
        except BaseException:
            await consumer.close()
            raise
        return consumer

    async def _make(self, config: ConsumerConfig) -> None:
        await self.start()
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

    async def close(self) -> None:
        """Let go of the consumer, on the server as well where it can be reached."""
        await super().close()
        with suppress(nats.errors.Error, OSError, TimeoutError):
            if self.name and self._client.is_connected:
                await self._jetstream(1.0).delete_consumer(STREAM, self.name)

    def _accept(self, consumer_sequence: int) -> bool:
        if consumer_sequence != self._expected:
            self.abandon("a delivery was lost on the way")
            return False
        self._expected += 1
        return True

    def _is_left_alone(self) -> bool:
        # It may be gone, or the stream may have removed messages.
        return asyncio.get_running_loop().time() - self._pull_ended > INACTIVE_THRESHOLD / 2

    def _jetstream(self, timeout: float | None = None) -> JetStreamContext:
        return self._client.jetstream(timeout=timeout or self._connection.timeout)
