"""Questions to the fan-out tier's services: asked again where that helps, page by page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pbscast import errors
from pbscast.errors import DecodeError, PbscastError, UnavailableError, UnsupportedError
from pbscast.requests import PageResponse
from pbscast.subscriptions import ListResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg

    from pbscast.connection import Connection
    from pbscast.requests import Paged
    from pbscast.subscriptions import ListRequest

_PAUSES: Final = (0.2, 0.5)
"""Seconds before the second and the third attempt."""
_ERROR: Final = "Nats-Service-Error"
_KNOWN: Final[dict[str, type[PbscastError]]] = {
    name: item
    for name, item in vars(errors).items()
    if isinstance(item, type) and issubclass(item, PbscastError)
}


AWAY: Final = (UnavailableError, UnsupportedError)
"""What passes by itself where it once worked; JetStream that starts looks as if there were none."""

_Answer = TypeVar("_Answer", bound=BaseModel)
_Page = TypeVar("_Page", bound=PageResponse | ListResponse)


async def ask(
    connection: Connection, subject: str, request: BaseModel, model: type[_Answer]
) -> _Answer:
    """Return the answer; ask again where a worker is just losing its log, or none has it back yet.

    Raises UnavailableError, AccessDeniedError, DecodeError, and what else the service answers.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + connection.timeout
    for pause in _PAUSES:
        try:
            return await ask_once(connection, subject, request, model)
        except UnavailableError:
            if clock() + pause >= end:
                raise
            await asyncio.sleep(pause)
    return await ask_once(connection, subject, request, model)


async def ask_once(
    connection: Connection, subject: str, request: BaseModel, model: type[_Answer]
) -> _Answer:
    """Return the answer to one request. Raises as ``ask``."""
    payload = request.model_dump_json(exclude_defaults=True).encode()
    answer = await connection.request(subject, payload)
    if (refusal := _refusal(answer)) is not None:
        raise refusal
    try:
        return model.model_validate_json(answer.data)
    except ValidationError as error:
        raise DecodeError(f"the answer on {subject} is not a {model.__name__}") from error


async def pages(
    connection: Connection, subject: str, request: Paged | ListRequest, model: type[_Page]
) -> AsyncIterator[_Page]:
    """Yield every page of the answer. Raises as ``ask``."""
    while True:
        page = await ask(connection, subject, request, model)
        yield page
        if page.next is None:
            return
        request = request.model_copy(update={"after": page.next})


def _refusal(answer: Msg) -> PbscastError | None:
    text: Any = (answer.headers or {}).get(_ERROR)
    if text is None:
        return None
    name, _, message = str(text).partition(": ")
    return _KNOWN.get(name, UnavailableError)(message or str(text))
