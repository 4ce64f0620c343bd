"""JetStream's own requests and what its refusals mean to us.

Raw JSON rather than nats-py's manager: a stream's update must send back settings that nats-py does
not know.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pbscast.errors import (
    ConflictError,
    FencedError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from pbscast_fanout.connection import Connection

STREAM: Final = "PBS"

_ANSWERED: Final = 0.5
"""Seconds for the server that has a consumer to answer, if it lives."""
_OVERLAP: Final = 64
"""Of the names on a page of consumers that many are asked for once more with the next page."""

_FULL: Final = (10023, 10047)
_NO_ROOM: Final = (
    "NATS has no room: raise max_file_store of its jetstream section, or lower max_bytes of"
    " [stream] or [subscriptions]"
)
_MEANINGS: Final[dict[int, type[PbscastError]]] = {
    10014: NotFoundError,  # consumer
    10037: NotFoundError,  # message
    10059: NotFoundError,  # stream
    10093: UsageError,  # a consumer's filter is outside of what the stream has
    10136: UsageError,  # a consumer's filter is there twice
    10138: UsageError,  # one of a consumer's filters lies within another
    10148: ConflictError,  # consumer already exists
    10058: ConflictError,  # stream name already in use with a different configuration
    10065: ConflictError,  # subjects overlap with an existing stream
    10039: UnsupportedError,  # JetStream is not enabled for this account
    10076: UnsupportedError,  # JetStream is not enabled
    10071: FencedError,  # wrong last sequence
    10164: FencedError,  # the same, for a stream with replicas
    10158: FencedError,  # replicas: another message of the site is just being stored
    10201: FencedError,  # batch holds a message id that was stored a moment ago
}


async def call(
    connection: Connection, verb: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the answer of ``$JS.API.<verb>``.

    Raises NotFoundError, ConflictError, UsageError, UnsupportedError or UnavailableError.
    """
    payload = b"" if body is None else json.dumps(body).encode()
    return await ask(connection, f"$JS.API.{verb}", payload)


async def call_briefly(connection: Connection, verb: str) -> dict[str, Any] | None:
    """Ask what the server that has a consumer answers; None: it does not, as where it has died.

    Raises as ``call``.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_ANSWERED):
            return await call(connection, verb)
    return None


async def delete_consumer(connection: Connection, stream: str, name: str) -> None:
    """Have a consumer deleted, be it there or not.

    Where the server that has it has died that is done as well, but never said. Raises as ``call``.
    """
    with suppress(NotFoundError):
        await call_briefly(connection, f"CONSUMER.DELETE.{stream}.{name}")


async def consumers_on(connection: Connection, stream: str) -> list[str]:
    """Return the names of a stream's consumers: all that are there from begin to end of the call.

    Those that come or go meanwhile may be among them. Raises as ``call``.
    """
    names: dict[str, None] = {}
    offset, last = 0, ""
    while True:
        answer = await call(connection, f"CONSUMER.NAMES.{stream}", {"offset": offset})
        page = answer.get("consumers") or []
        # A page is a stretch of the names in their order. For each that goes the others move up:
        # where the next page does not begin within the last one some may have moved past us.
        if offset and (not page or page[0] > last):
            offset = max(0, offset - _OVERLAP)
            continue
        names.update(dict.fromkeys(page))
        if not page or offset + len(page) >= answer["total"]:
            return list(names)
        last = page[-1]
        offset += max(1, len(page) - _OVERLAP)


async def ask(
    connection: Connection, subject: str, payload: bytes, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return JetStream's answer to one message. After UnavailableError the outcome is unknown."""
    try:
        answer = await connection.request(subject, payload, headers)
    except UnsupportedError as error:
        msg = f"nobody answers {subject} on NATS: JetStream is off, or its stream is gone"
        raise UnsupportedError(msg) from error
    return _read(answer, subject)


def _read(answer: Msg, subject: str) -> dict[str, Any]:
    try:
        content = json.loads(answer.data)
    except ValueError as error:
        msg = f"the answer to {subject} is not JetStream's: another service listens on that subject"
        raise UnavailableError(msg) from error
    if refusal := content.get("error"):
        raise refused(refusal, subject)
    return dict(content)


def refused(refusal: dict[str, Any], subject: str) -> PbscastError:
    """Return the error of our tree for JetStream's."""
    code = refusal.get("err_code", 0)
    kind = _MEANINGS.get(code, UnavailableError)
    advice = f": {_NO_ROOM}" if code in _FULL else ""
    description = refusal.get("description", "no reason given")
    return kind(f"JetStream refuses {subject}: {description} ({code}){advice}")
