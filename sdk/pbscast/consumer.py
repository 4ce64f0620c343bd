"""One consumer of the stream and one inbox, used until the first sign of trouble.

The service makes it. Every delivery carries the consumer's own sequence: a step of more than one is
a loss in between.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pbscast.asking import ask, ask_once
from pbscast.errors import UnavailableError
from pbscast.openings import (
    CLOSE,
    INACTIVE_THRESHOLD,
    OPEN,
    CloseRequest,
    CloseResponse,
    OpenResponse,
)
from pbscast.pulling import Puller

if TYPE_CHECKING:
    from pbscast.connection import Connection
    from pbscast.openings import OpenRequest

STREAM: Final = "PBS"
_GIVE_BACK: Final = 1.0
"""Seconds: one that is not given back goes by itself, if later."""


class Consumer(Puller):
    """Deliveries in the stream's order without a hole, until ``broken`` says why they end."""

    def __init__(self, connection: Connection, made: OpenResponse) -> None:
        super().__init__(connection, STREAM, made.consumer)
        self.made = made
        self._expected = 1

    @classmethod
    async def open(cls, connection: Connection, request: OpenRequest) -> Consumer:
        """Have it made.

        Raises UnavailableError, AccessDeniedError, NotFoundError if there is no stream, and
        ConflictError if we have as many as we may.
        """
        consumer = cls(connection, await ask(connection, OPEN, request, OpenResponse))
        try:
            await consumer.start()
        except BaseException:
            await consumer.close()
            raise
        return consumer

    @property
    def is_past_stored(self) -> bool:
        """Whether all that was stored when the consumer was made has been taken.

        What the stream removes meanwhile never comes: then the server's idle sign tells.
        """
        waiting = len(self._queue)
        is_taken = self._expected - 1 - waiting >= self.made.stored
        return is_taken or (self._idle and not waiting)

    def _accept(self, consumer_sequence: int) -> bool:
        if consumer_sequence != self._expected:
            self.abandon("a delivery was lost on the way")
            return False
        self._expected += 1
        return True

    def _is_left_alone(self) -> bool:
        # It may be gone, or the stream may have removed messages.
        return asyncio.get_running_loop().time() - self._pull_ended > INACTIVE_THRESHOLD / 2


async def give_back(connection: Connection, made: OpenResponse) -> None:
    """Let go of a consumer, so that another can be had at once.

    Raises UnavailableError, and what the service answers.
    """
    request = CloseRequest(consumer=made.consumer, opening=made.opening)
    try:
        async with asyncio.timeout(_GIVE_BACK):
            await ask_once(connection, CLOSE, request, CloseResponse)
    except TimeoutError as error:
        raise UnavailableError(f"no answer for {CLOSE} from {connection.place}") from error
