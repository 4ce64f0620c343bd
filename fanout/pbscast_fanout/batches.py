"""Atomic batches (NATS ADR-50): events and their mark reach the stream together or not at all."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import nats.errors

from pbscast import wire
from pbscast.errors import UnavailableError
from pbscast.subjects import mark_subject
from pbscast_fanout import oversize
from pbscast_fanout.jetstream import ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pbscast_fanout.connection import Connection
    from pbscast_store.records import Record

MAX_EVENTS: Final = 999
"""The server takes 1000 messages in a batch; one is the mark."""

MAX_BYTES: Final = 4 * 1024 * 1024
"""The server keeps a batch in memory until it is committed."""

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
        digest=sha256(record.encode()).hexdigest(),
    )


async def send(
    connection: Connection, batch: Sequence[Message], mark: wire.Mark, fence: int
) -> int:
    """Publish a batch of one site, closed by its mark, behind the mark of sequence ``fence``.

    Returns the new mark's sequence; a fence of 0 stands for no mark. Raises FencedError if another
    worker published since, UnavailableError if the outcome is unknown: in both cases the last mark
    tells what is stored.
    """
    batch_id = secrets.token_hex(8)
    await _write(connection, batch, batch_id)
    closing = {
        "Nats-Batch-Id": batch_id,
        "Nats-Batch-Sequence": str(len(batch) + 1),
        "Nats-Batch-Commit": "1",
    }
    return await send_mark(connection, mark, fence, closing)


async def _write(connection: Connection, batch: Sequence[Message], batch_id: str) -> None:
    client = connection.client
    try:
        for number, message in enumerate(batch, 1):
            headers = {
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(number),
                "Nats-Msg-Id": f"{message.record.site}:{message.record.position}",
            }
            await client.publish(message.subject, message.body, headers=headers)
    except (nats.errors.Error, OSError) as error:
        msg = f"NATS does not take messages: {str(error) or type(error).__name__}"
        raise UnavailableError(msg) from error


async def send_mark(
    connection: Connection, mark: wire.Mark, fence: int, headers: dict[str, str] | None = None
) -> int:
    """Publish a mark, alone or as the end of a batch. Returns and raises as ``send`` does."""
    fenced = {**(headers or {}), "Nats-Expected-Last-Subject-Sequence": str(fence)}
    answer = await ask(connection, mark_subject(mark.site), wire.encode_mark(mark), fenced)
    return int(answer["seq"])
