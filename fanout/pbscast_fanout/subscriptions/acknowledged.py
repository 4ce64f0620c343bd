"""How far the reader of a subscription has acknowledged, in the numbers of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast.deliveries import (
    DELIVERIES,
    CompleteMessage,
    complete_subject,
    decode,
    delivery_filter,
)
from pbscast.errors import DecodeError
from pbscast_fanout import fences
from pbscast_fanout.jetstream import call

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.fences import Stored


async def read_acknowledged(connection: Connection, key: str, name: str) -> dict[Site, int]:
    """Return the number of the last message of each site that was acknowledged.

    `name` is the consumer's.
    Only of sites of which the stream still holds a message that was: as the oldest go first,
    nothing behind it was lost. Of any other site nobody knows. Raises UnavailableError, and
    NotFoundError if stream or consumer is gone.
    """
    consumer = await call(connection, f"CONSUMER.INFO.{DELIVERIES}.{name}")
    floor = int(consumer["ack_floor"]["stream_seq"])
    found: dict[Site, int] = {}
    for subject in await _subjects(connection, key):
        oldest = await fences.read_next(connection, DELIVERIES, subject, 1)
        if oldest is None or oldest.sequence > floor:
            continue
        unread = await fences.read_next(connection, DELIVERIES, subject, floor + 1)
        last = unread or await fences.read_last(connection, DELIVERIES, subject)
        numbered = _number(last)
        if numbered is not None:
            site, number = numbered
            found[site] = number if unread is None else number - 1
    return found


async def _subjects(connection: Connection, key: str) -> list[str]:
    request = {"subjects_filter": delivery_filter(key)}
    answer = await call(connection, f"STREAM.INFO.{DELIVERIES}", request)
    subjects = answer["state"].get("subjects") or {}
    return [subject for subject in subjects if subject != complete_subject(key)]


def _number(stored: Stored | None) -> tuple[Site, int] | None:
    if stored is None:
        return None
    try:
        message = decode(stored.body)
    except DecodeError:  # of a newer release
        return None
    if isinstance(message, CompleteMessage) or message.n is None:
        return None
    return message.site, message.n
