"""How a site's messages reach a stream: one by one, or in atomic batches closed by a mark (ADR-50).

A worker begins with a mark that names the site's last message, whatever that is, and is refused if
another came between: so it knows all that is stored. From then on each message, or batch, names the
site's last mark, which is the worker's own until another one begins. That costs the server the look
at one subject, however many there are; to find a site's last message it looks at all of them (14 ms
for 200,000).
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import nats.errors

from pbscast.errors import FencedError, NotFoundError, UnavailableError
from pbscast_fanout.jetstream import ask, call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pbscast_fanout.connection import Connection

MAX_MESSAGES: Final = 999
"""The server takes 1000 messages in a batch; one is the mark."""

MAX_BYTES: Final = 4 * 1024 * 1024
"""The server keeps a batch in memory until it is committed."""

HEADROOM: Final = 2048
"""Bytes of a message that are not its body: NATS counts headers as payload."""

_FLUSH_EVERY: Final = 100

_WRITE_SECONDS: Final = 30.0
"""A batch that the connection does not take for so long holds up no other site."""


class Part(NamedTuple):
    """A site's part of a stream."""

    stream: str
    all: str
    """The filter for its messages and marks."""
    mark: str
    """The subject of its marks."""


class Fence(NamedTuple):
    """What the stream has to hold last for a message to be taken."""

    subject: str
    """Where: on the site's mark subject, or with a wildcard anything of the site."""
    sequence: int
    """0 if nothing."""


class Sendable(Protocol):
    """A message."""

    @property
    def subject(self) -> str:
        """Where it goes."""

    @property
    def body(self) -> bytes:
        """What it says."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Beside those that batches and fences take."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message on a stream."""

    sequence: int
    subject: str
    body: bytes
    raw_headers: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header that is written as we write it."""
        prefix = f"{name}: ".encode()
        for line in self.raw_headers.split(b"\r\n"):
            if line.startswith(prefix):
                return line[len(prefix) :].decode()
        return None


_Sendable = TypeVar("_Sendable", bound=Sendable)


def split(
    messages: Sequence[_Sendable],
    *,
    max_messages: int = MAX_MESSAGES,
    max_bytes: int = MAX_BYTES,
) -> Iterator[list[_Sendable]]:
    """Yield the messages in order, in batches within both bounds; a larger message goes alone."""
    batch: list[_Sendable] = []
    size = 0
    for message in messages:
        cost = len(message.body) + HEADROOM
        if batch and (len(batch) == max_messages or size + cost > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += cost
    if batch:
        yield batch


async def send_batch(
    connection: Connection,
    part: Part,
    batch: Sequence[Sendable],
    mark: bytes,
    fence: Fence,
) -> Fence:
    """Publish messages of one site and their mark together or not at all; return the mark's fence.

    Raises FencedError if another worker published since, UnavailableError if the outcome is
    unknown: in both cases the site's last message tells what is stored.
    """
    batch_id = secrets.token_hex(8)
    await _write(connection, batch, batch_id, fence)
    closing = {
        "Nats-Batch-Id": batch_id,
        "Nats-Batch-Sequence": str(len(batch) + 1),
        "Nats-Batch-Commit": "1",
    }
    return Fence(part.mark, await _ask(connection, part.mark, mark, closing))


async def _write(
    connection: Connection, batch: Sequence[Sendable], batch_id: str, fence: Fence
) -> None:
    client = connection.client
    fenced = _fenced(fence)
    try:
        async with asyncio.timeout(_WRITE_SECONDS):
            for number, message in enumerate(batch, 1):
                headers = {
                    "Nats-Batch-Id": batch_id,
                    "Nats-Batch-Sequence": str(number),
                    **message.headers,
                    **fenced,
                }
                await client.publish(message.subject, message.body, headers=headers)
                fenced = {}
                if number % _FLUSH_EVERY == 0:
                    await asyncio.sleep(0)  # the server begins while we still write
    except (nats.errors.Error, OSError) as error:
        msg = f"NATS does not take messages: {str(error) or type(error).__name__}"
        raise UnavailableError(msg) from error


async def send_one(connection: Connection, message: Sendable, fence: Fence) -> None:
    """Publish one message; ``fence``, which stays, and errors are as those of ``send_batch``."""
    headers = {**message.headers, **_fenced(fence)}
    await _ask(connection, message.subject, message.body, headers)


async def send_mark(connection: Connection, part: Part, mark: bytes, fence: Fence) -> Fence:
    """Publish a mark; ``fence``, result and errors are as those of ``send_batch``."""
    return Fence(part.mark, await _ask(connection, part.mark, mark, _fenced(fence)))


def _fenced(fence: Fence) -> dict[str, str]:
    return {
        "Nats-Expected-Last-Subject-Sequence": str(fence.sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": fence.subject,
    }


async def _ask(connection: Connection, subject: str, body: bytes, headers: dict[str, str]) -> int:
    answer = await ask(connection, subject, body, headers)
    if answer.get("duplicate"):
        raise FencedError(f"JetStream was sent the event on {subject} before")
    return int(answer["seq"])


async def read_last(connection: Connection, stream: str, subject: str) -> Stored | None:
    """Return the last message on a subject or filter, from the stream's leader: a follower lags.

    Raises UnavailableError.
    """
    return await _read(connection, stream, {"last_by_subj": subject})


async def read_between(
    connection: Connection, part: Part, after: int, before: int
) -> Stored | None:
    """Return a site's last message between two sequences. Raises UnavailableError."""
    last = None
    while after + 1 < before:
        found = await read_next(connection, part.stream, part.all, after + 1)
        if found is None or found.sequence >= before:
            break
        last, after = found, found.sequence
    return last


async def read_next(
    connection: Connection, stream: str, subject: str, sequence: int
) -> Stored | None:
    """Return the first message of a subject or filter from a sequence on, as ``read_last``."""
    return await _read(connection, stream, {"seq": sequence, "next_by_subj": subject})


async def _read(connection: Connection, stream: str, request: dict[str, Any]) -> Stored | None:
    try:
        answer = await call(connection, f"STREAM.MSG.GET.{stream}", request)
    except NotFoundError:
        return None
    message = answer["message"]
    return Stored(
        message["seq"],
        message["subject"],
        base64.b64decode(message.get("data", "")),
        base64.b64decode(message.get("hdrs", "")),
    )
