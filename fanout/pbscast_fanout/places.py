"""Where a position of a site lies on the stream."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pbscast import wire
from pbscast.errors import DecodeError, NotFoundError
from pbscast.subjects import encode_token, mark_subject
from pbscast_fanout.jetstream import STREAM, call

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection


@dataclass(frozen=True, slots=True)
class Place:
    """Where to read on after a position, and what the stream no longer holds before that."""

    sequence: int
    first: int | None
    """The site's first position from there on; None: none yet."""


@dataclass(frozen=True, slots=True)
class _Stored:
    sequence: int
    data: bytes


async def find_place(connection: Connection, site: str, position: int) -> Place:
    """Return the stream's sequence from which all events of the site after ``position`` come.

    Bisects over the site's marks, whose positions only rise: about 2 log2(stream) requests. Raises
    what JetStream refuses, and UnavailableError.
    """
    subject = mark_subject(site)
    low = 1
    mark = await _next(connection, subject, low)
    high = None if mark is None else (await _get(connection, last_by_subj=subject)).sequence
    while mark is not None and high is not None and low <= high:
        middle = (low + high) // 2
        mark = await _next(connection, subject, middle)
        if mark is None or wire.decode_mark(mark.data).position > position:
            high = middle - 1
        else:
            low = mark.sequence + 1
    event = await _next(connection, f"pbs.v1.{encode_token(site)}.*.>", low)
    return Place(low, None if event is None else _position(event))


def _position(message: _Stored) -> int | None:
    try:
        return wire.decode(message.data).position
    except DecodeError:
        return None


async def _next(connection: Connection, subject: str, sequence: int) -> _Stored | None:
    """Return the first message on the subject at or after a sequence."""
    try:
        return await _get(connection, seq=sequence, next_by_subj=subject)
    except NotFoundError:
        return None


async def _get(connection: Connection, **which: Any) -> _Stored:
    answer = await call(connection, f"STREAM.MSG.GET.{STREAM}", which)
    message = answer["message"]
    return _Stored(message["seq"], b64decode(message.get("data") or ""))
