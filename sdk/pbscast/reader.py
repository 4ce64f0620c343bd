"""Reading the stream: every message that matches, in order, whatever happens to the connection.

After any loss a new consumer starts *at* the last message handed out, which must then come first
and unchanged. That proves two things at once: a limits stream removes its oldest messages first, so
nothing after it has been removed; and the server has not lost its tail in a crash and reused the
sequence numbers. Where the proof fails, reading goes on from a minute before that message's time,
so that messages may repeat: whoever reads drops repeats by site and position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.js.api import ConsumerConfig, DeliverPolicy

from pbscast.consumer import STREAM, Consumer
from pbscast.errors import NotFoundError, UnavailableError
from pbscast.pulling import Delivered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.js.api import StreamInfo

    from pbscast.connection import Connection

REWIND: Final = timedelta(minutes=1)
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

    policy: DeliverPolicy
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
        self._began: datetime | None = None
        self._began_after = 0
        self._last: Delivered | None = None
        self._proving = False
        self._trusted = True
        self._refilled = False
        self._closed = False
        self._caught_up = False
        self._signs: deque[Sign] = deque()

    async def open(self) -> None:
        """Start to read; whatever is published after this returns will be received.

        Raises UnavailableError, AccessDeniedError, or NotFoundError where there is no such stream.
        """
        self._connection.listen(self._on_connection)
        self._consumer = await self._make(self._start_config())
        self._began = self._consumer.created
        self._began_after = self._consumer.after

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
        self._refilled = await self._is_emptied()

    async def close(self) -> None:
        """Let go of everything held on the server; a waiting ``receive`` returns CLOSED."""
        if self._closed:
            return
        self._closed = True
        self._connection.unlisten(self._on_connection)
        if self._consumer is not None:
            await self._consumer.close()

    async def receive(self) -> Delivered | Sign:
        """Return what comes next, waiting for it through any loss of connection or consumer.

        Raises AccessDeniedError if the server turns us away for good.
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
        if self._consumer is not None:
            await self._consumer.close()
            self._consumer = None
        delay = _RETRY_FIRST
        while not self._closed:
            await self._connection.wait_up()
            try:
                await self._resume()
            except (UnavailableError, NotFoundError):
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_MOST)
            else:
                return

    async def _resume(self) -> None:
        if not self._trusted and await self._is_cut():
            self._signs.append(Sign.CUT)
        if not self._refilled and (self._last is None or not self._trusted):
            self._refilled = await self._is_new()
        config, proving = self._resume_config()
        self._consumer = await self._make(config)
        self._trusted, self._proving = True, proving
        if proving and self._consumer.stored == 0:
            self._distrust()

    def _resume_config(self) -> tuple[ConsumerConfig, bool]:
        """Return how to go on, and whether the last message has to come first to prove it right."""
        starts_over = self._origin.policy is DeliverPolicy.LAST_PER_SUBJECT and not self._caught_up
        if self._last is None or starts_over:
            return self._start_config(), False
        if self._trusted:
            sequence = self._last.sequence
            return self._config(DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=sequence), True
        stored = datetime.fromtimestamp(self._last.time / 1e9, UTC)
        return self._config(DeliverPolicy.BY_START_TIME, opt_start_time=stored - REWIND), False

    def _start_config(self) -> ConsumerConfig:
        if self._origin.policy is DeliverPolicy.NEW and self._began is not None:
            return self._config(DeliverPolicy.BY_START_TIME, opt_start_time=self._began)
        return self._config(
            self._origin.policy,
            opt_start_seq=self._origin.sequence,
            opt_start_time=self._origin.time,
        )

    def _config(
        self,
        policy: DeliverPolicy,
        *,
        opt_start_seq: int | None = None,
        opt_start_time: datetime | None = None,
    ) -> ConsumerConfig:
        single = len(self._subjects) == 1
        return ConsumerConfig(
            deliver_policy=policy,
            opt_start_seq=opt_start_seq,
            opt_start_time=opt_start_time,
            filter_subject=self._subjects[0] if single else None,
            filter_subjects=None if single else list(self._subjects),
        )

    async def _make(self, config: ConsumerConfig) -> Consumer:
        denials = self._connection.denials
        try:
            return await Consumer.open(self._connection, config)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise self._connection.explain(error, f"the stream {STREAM}", denials) from error

    async def _is_cut(self) -> bool:
        """Whether messages after the last one have been removed; where we may not ask, say yes."""
        if self._last is None:
            return False
        info = await self._stream()
        return info is None or info.state.first_seq > self._last.sequence + 1

    async def _is_new(self) -> bool:
        """Whether the stream was made after reading began; where we may not ask, say no."""
        info = await self._stream()
        return info is not None and self._is_made_later(info)

    async def _is_emptied(self) -> bool:
        """Whether the stream is new, or holds nothing any more of what it held at the beginning."""
        info = await self._stream()
        if info is None:
            return False
        is_gone = 0 < self._began_after < info.state.first_seq
        return is_gone or self._is_made_later(info)

    def _is_made_later(self, info: StreamInfo) -> bool:
        made, began = info.created, self._began
        return made is not None and began is not None and made > began

    async def _stream(self) -> StreamInfo | None:
        try:
            return await self._connection.nats.jetstream().stream_info(STREAM)
        except (nats.errors.Error, OSError, TimeoutError):
            return None

    def _on_connection(self) -> None:
        if self._consumer is not None:
            self._consumer.abandon("the connection was lost")
