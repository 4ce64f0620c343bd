"""Follows what a stream holds last on each subject: a pull consumer, anew after any trouble.

A pull gets no more than it asks for, each delivery carries the consumer's own sequence, and an idle
server gives signs of life: so nothing is lost without being noticed.

In a cluster the consumer may be on a server that lags behind the stream's leader. So the leader
says which message is the newest, and nobody is up to date who has not been told that one.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import nats.errors
import structlog

from pbscast.errors import PbscastError, UnavailableError
from pbscast_fanout.fences import read_last
from pbscast_fanout.jetstream import call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from pbscast_fanout.connection import Connection

_BATCH: Final = 200
_BATCH_BYTES: Final = 8 << 20
_HEADROOM: Final = 64 << 10
_HEARTBEAT: Final = 2.0
_SILENCE: Final = 5.0
_LOOK_SECONDS: Final = 1.0
"""How often the connection is looked at while nothing comes."""
_PULL_SECONDS: Final = 60.0
_FORGOTTEN_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 0.5
_NANO: Final = 1_000_000_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of the stream."""

    subject: str
    sequence: int
    time: int
    """When it was stored, nanoseconds since 1970 by the server's clock."""
    headers: dict[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class Anew:
    """What was told may have missed something: everything is told again, up to UpToDate."""


@dataclass(frozen=True, slots=True)
class UpToDate:
    """Everything that the stream's leader had has been told; what follows happens."""


async def follow(
    connection: Connection, stream: str, subject: str, ensure: Callable[[], Awaitable[None]]
) -> AsyncGenerator[Stored | Anew | UpToDate, None]:
    """Tell the last message of each subject, UpToDate, then what comes; for ever.

    Lives through anything: after a cut or a restart comes Anew, then all again, then UpToDate.
    `ensure` makes the stream if it is not there.
    """
    failures = _Failures(stream)
    while True:
        try:
            await ensure()
            async with aclosing(read_once(connection, stream, subject)) as messages:
                async for message in messages:
                    failures.over()
                    yield message
        except PbscastError as error:
            failures.note(error)
        await asyncio.sleep(_RETRY_SECONDS)
        yield Anew()


async def read_once(
    connection: Connection, stream: str, subject: str
) -> AsyncGenerator[Stored | UpToDate, None]:
    """Do as ``follow`` does, up to the first trouble. Raises UnavailableError, NotFoundError."""
    consumer = _Consumer(connection, stream)
    try:
        await consumer.open(subject)
        newest = await _newest(connection, stream, subject)
        told, is_up_to_date = 0, False
        while True:
            if not is_up_to_date and told >= newest:
                is_up_to_date = True
                yield UpToDate()
            message = await consumer.next()
            if message is not None:
                told = message.sequence
                yield message
            elif not is_up_to_date:  # the newest may have been taken away
                newest = await _newest(connection, stream, subject)
    finally:
        await consumer.close()


async def _newest(connection: Connection, stream: str, subject: str) -> int:
    """Return the sequence of the last message that the leader has, 0 if there is none."""
    last = await read_last(connection, stream, subject)
    return 0 if last is None else last.sequence


class _Failures:
    """Logs a reason once while it lasts."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._told = ""

    def note(self, error: PbscastError) -> None:
        if str(error) != self._told:
            self._told = str(error)
            _log.warning("following_interrupted", stream=self._stream, error=self._told)

    def over(self) -> None:
        self._told = ""


class _Consumer:
    """One consumer and its inbox, used until the first sign of trouble."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._client: Client = connection.client
        self._reconnects = self._client.stats["reconnects"]
        self._inbox = self._client.new_inbox()
        self._name = f"pbscast-{self._inbox.rpartition('.')[2]}"
        self._subscription: Subscription | None = None
        self._come: asyncio.Queue[Msg] = asyncio.Queue()
        self._pulls = 0
        self._credit = 0
        self._expected = 1

    async def open(self, subject: str) -> None:
        """Make the consumer."""
        try:
            # Not next_msg: it may drop a message, and takes a close for a cancellation or the other
            # way round.
            self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._come.put)
        except (nats.errors.Error, OSError) as error:
            raise UnavailableError(f"stream {self._stream} cannot be followed: {error}") from error
        config = {
            "name": self._name,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "filter_subject": subject,
            "inactive_threshold": int(_FORGOTTEN_SECONDS * _NANO),
            "mem_storage": True,
            "num_replicas": 1,
        }
        await call(
            self._connection,
            f"CONSUMER.CREATE.{self._stream}.{self._name}",
            {"stream_name": self._stream, "config": config, "action": "create"},
        )

    async def next(self) -> Stored | None:
        """Wait for a message; None: nothing waits, says the server."""
        heard = monotonic()
        while True:
            if self._credit <= 0:
                await self._pull()
            message = await self._receive()
            if message is None:
                if monotonic() - heard >= _SILENCE:
                    raise self._broken("the server is silent")
                continue
            heard = monotonic()
            if not message.subject.startswith(self._inbox):
                return self._take(message)
            if self._is_idle(message):
                return None

    async def _receive(self) -> Msg | None:
        """Return what comes within a moment. Raises UnavailableError after a cut."""
        message = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                message = await self._come.get()
        # Whatever was on its way when the connection broke is lost, and the pull with it.
        is_same = self._client.stats["reconnects"] == self._reconnects
        if not self._client.is_connected or not is_same:
            raise self._broken("the connection was lost")
        return message

    def _take(self, message: Msg) -> Stored:
        place = _Place.of(message.reply)
        if place.number != self._expected:
            raise self._broken("a delivery was lost on the way")
        self._expected += 1
        self._credit -= 1
        return Stored(
            message.subject, place.sequence, place.time, message.headers or {}, message.data
        )

    def _is_idle(self, message: Msg) -> bool:
        """Take in what the server says about the pull."""
        headers = message.headers or {}
        status, text = headers.get("Status"), str(headers.get("Description", ""))
        if status == "100":
            return True
        if status == "503" or "deleted" in text.lower():
            raise self._broken(text or "the consumer is gone")
        if message.subject == f"{self._inbox}.{self._pulls}":
            self._credit = 0
        return False

    async def _pull(self) -> None:
        self._pulls += 1
        self._credit = _BATCH
        request: dict[str, Any] = {
            "batch": _BATCH,
            # A pull that is too small for the next message gets nothing but a refusal.
            "max_bytes": max(_BATCH_BYTES, self._client.max_payload + _HEADROOM),
            "expires": int(_PULL_SECONDS * _NANO),
            "idle_heartbeat": int(_HEARTBEAT * _NANO),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        try:
            await self._client.publish(
                subject, json.dumps(request).encode(), reply=f"{self._inbox}.{self._pulls}"
            )
        except (nats.errors.Error, OSError) as error:
            raise self._broken(str(error) or type(error).__name__) from error

    def _broken(self, reason: str) -> UnavailableError:
        return UnavailableError(f"following stream {self._stream} ended: {reason}")

    async def close(self) -> None:
        """Let go of the consumer, on the server as well where it can be reached."""
        with suppress(nats.errors.Error, OSError, PbscastError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            if self._client.is_connected:
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")


class _Place(NamedTuple):
    sequence: int
    """Of the stream."""
    number: int
    """Of the delivery."""
    time: int

    @classmethod
    def of(cls, reply: str) -> _Place:
        """Read the subject for acknowledgements.

        ``$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>``;
        newer servers may put domain and account hash after ``ACK`` and a random token at the end.
        """
        tokens = reply.split(".")
        first = 5 if len(tokens) == 9 else 7
        return cls(*map(int, tokens[first : first + 3]))
