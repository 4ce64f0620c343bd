"""Single messages of the stream: where a position lies, and the events of one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import nats.errors
from nats.js.errors import NotFoundError as NoMessage

from pbscast import wire
from pbscast.consumer import STREAM
from pbscast.errors import DecodeError
from pbscast.events import Kind
from pbscast.pulling import Delivered
from pbscast.subjects import encode_token, job_filter, mark_subject, object_filter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pbscast.connection import Connection
    from pbscast.continuity import Hole


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where to read on after a position, and what the stream no longer holds before that."""

    sequence: int
    first: int | None
    """The first position after the asked one that the stream still holds; None: none yet."""


async def find_position(connection: Connection, site: str, position: int) -> Resumption:
    """Return the stream's sequence from which all events of the site after ``position`` come.

    Bisects over the site's marks, whose positions only rise: about 2 log2(stream) requests of one
    round trip each. Raises UnavailableError or AccessDeniedError.
    """
    subject = mark_subject(site)
    low = 1
    mark = await _next(connection, subject, low)
    high = None if mark is None else await _last_sequence(connection, subject)
    while mark is not None and high is not None and low <= high:
        middle = (low + high) // 2
        mark = await _next(connection, subject, middle)
        if mark is None or wire.decode_mark(mark.data).position > position:
            high = middle - 1
        else:
            low = mark.sequence + 1
    event = await _next(connection, f"pbs.v1.{encode_token(site)}.*.>", low)
    return Resumption(low, None if event is None else _position(event))


async def find_messages(connection: Connection, hole: Hole) -> AsyncIterator[Delivered]:
    """Yield the messages of the hole's object that the stream holds within it, oldest first."""
    if hole.kind is Kind.JOB:
        subject = job_filter(site=hole.site, job_id=hole.id)
    else:
        subject = object_filter(str(hole.kind), site=hole.site, object_id=hole.id)
    sequence = (await find_position(connection, hole.site, hole.after)).sequence
    while (message := await _next(connection, subject, sequence)) is not None:
        position = _position(message)
        if position is None or position >= hole.before:
            return
        if position > hole.after:
            yield message
        sequence = message.sequence + 1


def _position(message: Delivered) -> int | None:
    try:
        return wire.decode(message.data).position
    except DecodeError:
        return None


async def _next(connection: Connection, subject: str, sequence: int) -> Delivered | None:
    """Return the first message on the subject at or after a sequence."""
    denials = connection.denials
    manager = connection.nats.jsm(timeout=connection.timeout)
    try:
        raw = await manager.get_msg(STREAM, seq=sequence, subject=subject, next=True)
    except NoMessage:
        return None
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise connection.explain(error, f"the stream {STREAM}", denials) from error
    return Delivered(raw.seq or 0, 0, raw.data or b"")


async def _last_sequence(connection: Connection, subject: str) -> int:
    denials = connection.denials
    manager = connection.nats.jsm(timeout=connection.timeout)
    try:
        raw = await manager.get_last_msg(STREAM, subject)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise connection.explain(error, f"the stream {STREAM}", denials) from error
    return raw.seq or 0
