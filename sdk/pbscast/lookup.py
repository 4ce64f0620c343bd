"""What else the stream is asked: where a position lies, and the events of one object."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from pbscast import wire
from pbscast.asking import ask
from pbscast.consumer import Consumer, give_back
from pbscast.errors import DecodeError, PbscastError, UnavailableError
from pbscast.events import Kind
from pbscast.openings import STREAM, Begin, OpenRequest, StreamRequest, StreamResponse
from pbscast.subjects import job_filter, object_filter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pbscast.connection import Connection
    from pbscast.continuity import Hole
    from pbscast.pulling import Delivered


async def find_position(connection: Connection, site: str, position: int) -> StreamResponse:
    """Return from where on the stream all events of the site after ``position`` come.

    Raises UnavailableError, AccessDeniedError, or NotFoundError if there is no stream.
    """
    asked = StreamRequest(site=site, after=position)
    return await ask(connection, STREAM, asked, StreamResponse)


async def find_messages(connection: Connection, hole: Hole) -> AsyncGenerator[Delivered, None]:
    """Yield the messages of the hole's object that the stream holds within it, oldest first.

    Raises UnavailableError, AccessDeniedError, ConflictError.
    """
    if hole.kind is Kind.JOB:
        subject = job_filter(site=hole.site, job_id=hole.id)
    else:
        subject = object_filter(str(hole.kind), site=hole.site, object_id=hole.id)
    begin = (await find_position(connection, hole.site, hole.after)).sequence
    async with aclosing(_stored(connection, subject, begin or 1)) as messages:
        async for message in messages:
            position = _position(message)
            if position is None or position >= hole.before:
                return
            if position > hole.after:
                yield message


async def _stored(
    connection: Connection, subject: str, begin: int
) -> AsyncGenerator[Delivered, None]:
    """Yield what the stream holds now on a subject from a sequence on."""
    asked = OpenRequest(subjects=(subject,), begin=Begin.BY_START_SEQUENCE, sequence=begin)
    consumer = await Consumer.open(connection, asked)
    try:
        while not consumer.is_past_stored:
            if (message := consumer.take()) is not None:
                yield message
            elif consumer.broken is None:
                await consumer.wait()
            else:
                raise UnavailableError(f"lost {subject} while reading it: {consumer.broken}")
    finally:
        await consumer.close()
        with suppress(PbscastError):
            await give_back(connection, consumer.made)


def _position(message: Delivered) -> int | None:
    try:
        return wire.decode(message.data).position
    except DecodeError:
        return None
