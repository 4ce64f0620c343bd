"""JetStream's own requests and what its refusals mean to us.

Raw JSON rather than nats-py's manager: a stream's update must send back settings that nats-py does
not know.
"""

from __future__ import annotations

import json
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


async def consumers_on(connection: Connection, stream: str) -> list[str]:
    """Return the names of a stream's consumers. Raises as ``call``."""
    names: list[str] = []
    while True:
        answer = await call(connection, f"CONSUMER.NAMES.{stream}", {"offset": len(names)})
        page = answer.get("consumers") or []
        names += page
        if not page or len(names) >= answer["total"]:
            return names


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
