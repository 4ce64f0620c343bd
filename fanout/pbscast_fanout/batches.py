"""How events reach the stream: one by one, or in atomic batches closed by a mark (NATS ADR-50).

A worker begins with a mark that names the site's last message, whatever that is, and is refused if
another came between: so it knows all that is stored. From then on each message, or batch, names the
site's last mark, which is the worker's own until another one begins. That costs the server the look
at one subject, however many there are; to find a site's last message it looks at all of them (14 ms
for 200,000).
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import nats.errors

from pbscast import wire
from pbscast.errors import FencedError, UnavailableError
from pbscast.subjects import mark_subject
from pbscast_fanout import oversize
from pbscast_fanout.jetstream import ask
from pbscast_fanout.streams import Fence, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pbscast_fanout.connection import Connection
    from pbscast_store.records import Record

MAX_EVENTS: Final = 999
"""The server takes 1000 messages in a batch; one is the mark."""

MAX_BYTES: Final = 4 * 1024 * 1024
"""The server keeps a batch in memory until it is committed."""

_FLUSH_EVERY: Final = 100

_WRITE_SECONDS: Final = 30.0
"""A batch that the connection does not take for so long holds up no other site."""

HEADROOM: Final = 2048
"""Bytes of a message that are not the event: NATS counts headers as payload."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event in the form in which it is published."""

    record: Record
    subject: str
    body: bytes
    cut: bool
    """Whether values had to be left out."""

    @property
    def id(self) -> str:
        """What JetStream knows the event by."""
        return f"{self.record.site}:{self.record.position}"


def compose(record: Record, max_payload: int) -> Message:
    """Return the message of an event, cut if the server would not take it whole."""
    body, limit = record.encode(), max_payload - HEADROOM
    if len(body) <= limit:
        return Message(record, record.subject, body, cut=False)
    return Message(record, record.subject, oversize.shorten(record, limit).encode(), cut=True)


def split(
    messages: Sequence[Message], *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES
) -> Iterator[list[Message]]:
    """Yield the messages in order, in batches within both bounds; a larger message goes alone."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        cost = len(message.body) + HEADROOM
        if batch and (len(batch) == max_events or size + cost > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += cost
    if batch:
        yield batch


def mark_of(record: Record) -> wire.Mark:
    """Return the mark that says that everything up to this event is published."""
    return wire.Mark(
        site=record.site,
        position=record.position,
        time=datetime.now(UTC),
        digest=digest_of(record),
    )


async def send_batch(
    connection: Connection, batch: Sequence[Message], mark: wire.Mark, fence: Fence
) -> Fence:
    """Publish events of one site and their mark together or not at all; return the mark's fence.

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
    return await _ask_mark(connection, mark, closing)


async def _write(
    connection: Connection, batch: Sequence[Message], batch_id: str, fence: Fence
) -> None:
    client = connection.client
    fenced = _fenced(fence)
    try:
        async with asyncio.timeout(_WRITE_SECONDS):
            for number, message in enumerate(batch, 1):
                headers = {
                    "Nats-Batch-Id": batch_id,
                    "Nats-Batch-Sequence": str(number),
                    "Nats-Msg-Id": message.id,
                    **fenced,
                }
                await client.publish(message.subject, message.body, headers=headers)
                fenced = {}
                if number % _FLUSH_EVERY == 0:
                    await asyncio.sleep(0)  # the server begins while we still write
    except (nats.errors.Error, OSError) as error:
        msg = f"NATS does not take messages: {str(error) or type(error).__name__}"
        raise UnavailableError(msg) from error


async def send_event(connection: Connection, message: Message, fence: Fence) -> None:
    """Publish one event; ``fence``, which stays, and errors are as those of ``send_batch``."""
    headers = {"Nats-Msg-Id": message.id, **_fenced(fence)}
    await _ask(connection, message.subject, message.body, headers)


async def send_mark(connection: Connection, mark: wire.Mark, fence: Fence) -> Fence:
    """Publish a mark; ``fence``, result and errors are as those of ``send_batch``."""
    return await _ask_mark(connection, mark, _fenced(fence))


def _fenced(fence: Fence) -> dict[str, str]:
    return {
        "Nats-Expected-Last-Subject-Sequence": str(fence.sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": fence.subject,
    }


async def _ask_mark(connection: Connection, mark: wire.Mark, headers: dict[str, str]) -> Fence:
    subject = mark_subject(mark.site)
    return Fence(subject, await _ask(connection, subject, wire.encode_mark(mark), headers))


async def _ask(connection: Connection, subject: str, body: bytes, headers: dict[str, str]) -> int:
    answer = await ask(connection, subject, body, headers)
    if answer.get("duplicate"):
        raise FencedError(f"JetStream was sent the event on {subject} before")
    return int(answer["seq"])
