"""A site's events as messages and batches; how they reach the stream is the matter of `fences`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pbscast import wire
from pbscast_fanout import fences, oversize
from pbscast_fanout.fences import HEADROOM
from pbscast_fanout.streams import digest_of, part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.fences import Fence
    from pbscast_store.records import Record


@dataclass(frozen=True, slots=True)
class Message:
    """An event in the form in which it is published."""

    record: Record
    subject: str
    body: bytes
    cut: bool
    """Whether values had to be left out."""

    @property
    def headers(self) -> dict[str, str]:
        """What JetStream knows the event by."""
        return {"Nats-Msg-Id": f"{self.record.site}:{self.record.position}"}


def compose(record: Record, max_payload: int) -> Message:
    """Return the message of an event, cut if the server would not take it whole."""
    body, limit = record.encode(), max_payload - HEADROOM
    if len(body) <= limit:
        return Message(record, record.subject, body, cut=False)
    return Message(record, record.subject, oversize.shorten(record, limit).encode(), cut=True)


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
    """Publish events of one site and their mark. As ``fences.send_batch``."""
    part = part_of(mark.site)
    return await fences.send_batch(connection, part, batch, wire.encode_mark(mark), fence)


async def send_mark(connection: Connection, mark: wire.Mark, fence: Fence) -> Fence:
    """Publish a mark. As ``fences.send_mark``."""
    return await fences.send_mark(connection, part_of(mark.site), wire.encode_mark(mark), fence)
