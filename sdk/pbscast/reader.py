"""Reading the stream: every message that matches, in order, whatever happens to the connection.

After any loss a new consumer starts *at* the last message handed out, which must then come first
and unchanged. That proves two things at once: a limits stream removes its oldest messages first, so
nothing after it has been removed; and the server has not lost its tail in a crash and reused the
sequence numbers. Where the proof fails, reading goes on from a minute before that message's time,
so that messages may repeat: whoever reads drops repeats by site and position.

Who began with what is new and has been handed nothing begins again behind the sequence that was
last then, if the message there is still the one of that time, or everything up to it has gone.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from pbscast.asking import AWAY, ask
from pbscast.connection import ConnectionState
from pbscast.consumer import Consumer, give_back
from pbscast.errors import AccessDeniedError, ConflictError, NotFoundError, PbscastError
from pbscast.openings import (
    INACTIVE_THRESHOLD,
    STREAM,
    Begin,
    OpenRequest,
    StreamRequest,
    StreamResponse,
)
from pbscast.pulling import Delivered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast.connection import Connection
    from pbscast.openings import OpenResponse

REWIND: Final = timedelta(minutes=1)
FORGOTTEN: Final = 3 * INACTIVE_THRESHOLD
"""Seconds after which the server has surely forgotten consumers that nobody reads any more."""
_RETRY_FIRST: Final = 0.05
_RETRY_MOST: Final = 5.0


class Sign(Enum):
    """What a reader tells beside deliveries."""

    CAUGHT_UP = auto()
    """All that was stored at the beginning has been delivered; told once."""
    CLOSED = auto()
    """The reader has been closed: nothing will come any more."""
    CUT = auto()
    """The stream has removed messages before they were read; some of them may have matched."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to start, in the stream's own terms."""

    begin: Begin
    sequence: int | None = None
    time: datetime | None = None


class Reader:
    """The messages of the stream on some subjects.

    Holds at most one batch in memory; a reader that does not call ``receive`` stops its own
    fetching and nobody else's.
    """

    def __init__(self, connection: Connection, subjects: Sequence[str], origin: Origin) -> None:
        self._connection = connection
        self._subjects = tuple(subjects)
        self._origin = origin
        self._consumer: Consumer | None = None
        self._left: OpenResponse | None = None
        """The consumer before, if it has not been given back."""
        self._restarting: asyncio.Task[None] | None = None
        self._began: datetime | None = None
        self._began_after = 0
        self._stored_after: str | None = None
        """When the last one before the beginning was stored: by that it is known again."""
        self._counts_on = True
        """Whether sequences mean what they meant at the beginning, as far as anybody can tell."""
        self._last: Delivered | None = None
        self._proving = False
        self._trusted = True
        self._refilled = False
        self._closed = False
        self._caught_up = False
        self._signs: deque[Sign] = deque()

    async def open(self) -> None:
        """Start to read; whatever is published after this returns will be received.

        Raises UnavailableError, AccessDeniedError, NotFoundError where there is no such stream, or
        ConflictError if we have as many readers as we may.
        """
        self._connection.listen(self._on_connection)
        self._consumer = await Consumer.open(self._connection, self._start())
        self._began = self._consumer.made.created
        self._began_after = self._consumer.made.after
        self._stored_after = self._consumer.made.stored_after

    @property
    def told_of(self) -> tuple[str, ...]:
        """What is told of what was asked for: less, where we may not see all of it."""
        return self._subjects if self._consumer is None else self._consumer.made.subjects

    @property
    def stale_before(self) -> datetime | None:
        """What is older was published before the reading began.

        Set once the stream has proved to be another than the one that reading began with, or to
        have been emptied: it will have been filled again.
        """
        if not self._refilled or self._began is None:
            return None
        return self._began - REWIND

    async def doubt(self, time: datetime) -> None:
        """See whether the stream was emptied meanwhile, where it tells something of this time.

        Whoever publishes fills an emptied stream again, with what was before the reading as well.
        """
        if self._refilled or self._began is None or time >= self._began - REWIND:
            return
        delay = _RETRY_FIRST
        while not self._closed:
            try:
                self._refilled = await self._is_emptied()
            except (*AWAY, NotFoundError):
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_MOST)
            else:
                return

    async def close(self) -> None:
        """Let go of everything held on the server; a waiting ``receive`` returns CLOSED."""
        if self._closed:
            return
        self._closed = True
        self._connection.unlisten(self._on_connection)
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        await self._leave()
        if self._connection.state is ConnectionState.CONNECTED:
            with suppress(PbscastError):
                await self._give_back()

    async def receive(self) -> Delivered | Sign:
        """Return what comes next, waiting for it through any loss of connection or consumer.

        Raises AccessDeniedError if we are turned away for good, ConflictError if others of ours
        read in our place now.
        """
        while not self._closed:
            if (ready := self._ready()) is not None:
                return ready
            if self._consumer is None or self._consumer.broken is not None:
                await self._restart()
            else:
                await self._consumer.wait()
        return Sign.CLOSED

    def _ready(self) -> Delivered | Sign | None:
        if self._signs:
            return self._signs.popleft()
        consumer = self._consumer
        if consumer is None:
            return None
        if not (self._caught_up or self._proving) and consumer.is_past_stored:
            self._caught_up = True
            return Sign.CAUGHT_UP
        delivery = consumer.take()
        if delivery is None:
            return None
        if self._proving:
            self._prove(delivery)
            return self._ready()
        self._last = delivery
        return delivery

    def _prove(self, first: Delivered) -> None:
        self._proving = False
        last = self._last
        if last is None or (first.sequence, first.data) != (last.sequence, last.data):
            self._distrust()

    def _distrust(self) -> None:
        self._proving = False
        self._trusted = False
        if self._consumer is not None:
            self._consumer.discard("the stream is not the one that was read before")

    async def _restart(self) -> None:
        """Have another consumer; whoever waits may be cancelled, so that none is made in vain."""
        if self._restarting is None:
            self._restarting = asyncio.create_task(self._begin_anew())
        try:
            await asyncio.shield(self._restarting)
        finally:
            if self._restarting.done():
                self._restarting = None

    async def _begin_anew(self) -> None:
        refusal = None if self._consumer is None else self._consumer.refusal
        await self._leave()
        if refusal is not None:
            raise refusal
        clock = asyncio.get_running_loop().time
        begun, delay = clock(), _RETRY_FIRST
        while not self._closed:
            await self._connection.wait_up()
            try:
                await self._resume()
            except (*AWAY, NotFoundError):
                begun = clock()
            except ConflictError:
                # What was ours may not be free yet: answers get lost, programs are killed.
                if clock() - begun > FORGOTTEN:
                    raise
            else:
                return
            # Not all at the same moment: a server that was away has lost everybody.
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - no secret
            delay = min(2 * delay, _RETRY_MOST)

    async def _leave(self) -> None:
        """Listen to the consumer no more; it is still there."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._left = consumer.made
            await consumer.close()

    async def _give_back(self) -> None:
        if self._left is not None:
            with suppress(AccessDeniedError):  # it is not ours any more
                await give_back(self._connection, self._left)
            self._left = None

    async def _resume(self) -> None:
        with suppress(*AWAY):  # what is not given back goes by itself
            await self._give_back()
        if self._last is None or not self._trusted:
            self._look_at(await self._stream())
        request, proving = self._go_on()
        self._consumer = await Consumer.open(self._connection, request)
        self._trusted, self._proving = True, proving
        if proving and self._consumer.made.stored == 0:
            self._distrust()

    def _look_at(self, stream: StreamResponse) -> None:
        """See what has become of a stream of which nothing proves that it is as it was."""
        if self._last is not None and stream.first > self._last.sequence + 1:
            self._signs.append(Sign.CUT)
        self._refilled = self._refilled or self._is_another(stream)
        is_same = stream.stored == self._stored_after
        self._counts_on = is_same or stream.first > self._began_after

    def _go_on(self) -> tuple[OpenRequest, bool]:
        """Return how to go on, and whether the last message has to come first to prove it right."""
        starts_over = self._origin.begin is Begin.LAST_PER_SUBJECT and not self._caught_up
        if self._last is None or starts_over:
            return self._start_again(), False
        if self._trusted:
            return self._request(Begin.BY_START_SEQUENCE, sequence=self._last.sequence), True
        stored = datetime.fromtimestamp(self._last.time / 1e9, UTC)
        return self._request(Begin.BY_START_TIME, time=stored - REWIND), False

    def _start(self) -> OpenRequest:
        origin = self._origin
        return self._request(origin.begin, sequence=origin.sequence, time=origin.time)

    def _start_again(self) -> OpenRequest:
        """Begin where the first consumer began, of which nothing has been taken.

        What was new to it lies behind a sequence. No clock says that: reader and stream may be on
        different servers. Where the stream has lost its end, so that its sequences may mean other
        messages, the time tells, which it gave itself to the last one before the beginning.
        """
        if self._origin.begin is not Begin.NEW or self._began is None:
            return self._start()
        if self._counts_on:
            return self._request(Begin.BY_START_SEQUENCE, sequence=self._began_after + 1)
        stored = self._stored_after
        time = self._began if stored is None else datetime.fromisoformat(stored)
        return self._request(Begin.BY_START_TIME, time=time)

    def _request(
        self, begin: Begin, *, sequence: int | None = None, time: datetime | None = None
    ) -> OpenRequest:
        return OpenRequest(subjects=self._subjects, begin=begin, sequence=sequence, time=time)

    async def _is_emptied(self) -> bool:
        """Whether the stream is new, or holds nothing any more of what it held at the beginning."""
        stream = await self._stream()
        is_gone = 0 < self._began_after < stream.first
        return is_gone or self._is_another(stream)

    def _is_another(self, stream: StreamResponse) -> bool:
        """Whether it was made, or filled from before the beginning, after reading began."""
        is_made_later = self._began is not None and stream.created > self._began
        stored = self._stored_after
        return is_made_later or (stored is not None and stream.stored not in (None, stored))

    async def _stream(self) -> StreamResponse:
        asked = StreamRequest(at=self._began_after or None)
        return await ask(self._connection, STREAM, asked, StreamResponse)

    def _on_connection(self) -> None:
        if self._consumer is not None:
            self._consumer.abandon("the connection was lost")
