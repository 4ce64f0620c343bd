"""The log's own account of one object, asked from the fan-out tier."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from pbscast import errors, wire
from pbscast.errors import DecodeError, PbscastError, UnavailableError
from pbscast.requests import HISTORY, HistoryRequest, HistoryResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg

    from pbscast.connection import Connection
    from pbscast.events import AnyEvent

_PAUSES: Final = (0.2, 0.5)
"""Seconds before the second and the third attempt."""
_ERROR: Final = "Nats-Service-Error"
_KNOWN: Final[dict[str, type[PbscastError]]] = {
    name: item
    for name, item in vars(errors).items()
    if isinstance(item, type) and issubclass(item, PbscastError)
}


class Recorded(NamedTuple):
    """An event and its CloudEvents JSON, the same bytes as on NATS."""

    event: AnyEvent
    body: bytes


async def read_history(connection: Connection, request: HistoryRequest) -> AsyncIterator[Recorded]:
    """Yield all that the log holds of an object, oldest first, a page at a time.

    Raises NotFoundError, UnavailableError, AccessDeniedError, and what else the service answers.
    """
    while True:
        page = await _ask(connection, request)
        for item in page.events:
            body = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
            yield Recorded(wire.decode(body), body)
        if page.next is None:
            return
        request = request.model_copy(update={"after": page.next})


async def _ask(connection: Connection, request: HistoryRequest) -> HistoryResponse:
    """Ask again where a worker is just losing its log, or none has it back yet."""
    clock = asyncio.get_running_loop().time
    end = clock() + connection.timeout
    for pause in _PAUSES:
        try:
            return await _ask_once(connection, request)
        except UnavailableError:
            if clock() + pause >= end:
                raise
            await asyncio.sleep(pause)
    return await _ask_once(connection, request)


async def _ask_once(connection: Connection, request: HistoryRequest) -> HistoryResponse:
    payload = request.model_dump_json(exclude_defaults=True).encode()
    answer = await connection.request(HISTORY, payload)
    if (refusal := _refusal(answer)) is not None:
        raise refusal
    try:
        return HistoryResponse.model_validate_json(answer.data)
    except ValidationError as error:
        raise DecodeError(f"the answer on {HISTORY} is not a page of events") from error


def _refusal(answer: Msg) -> PbscastError | None:
    text: Any = (answer.headers or {}).get(_ERROR)
    if text is None:
        return None
    name, _, message = str(text).partition(": ")
    return _KNOWN.get(name, UnavailableError)(message or str(text))
