"""Answers requests: a NATS micro service, shared by all workers through its queue group."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeVar

import nats.errors
import structlog
from nats.micro import add_service
from nats.micro.request import ServiceError
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from pbscast import requests
from pbscast.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from pbscast_fanout.batches import HEADROOM, compose

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.micro.request import Request
    from nats.micro.service import Service

    from pbscast_fanout.connection import Connection
    from pbscast_store.log import Log
    from pbscast_store.records import Record

R = TypeVar("R", bound=BaseModel)
Answer = Callable[[R], Awaitable[bytes]]

_CODES: Final[tuple[tuple[type[PbscastError], str], ...]] = (
    (UsageError, "400"),
    (AccessDeniedError, "403"),
    (NotFoundError, "404"),
    (ConflictError, "409"),
    (UnsupportedError, "501"),
    (UnavailableError, "503"),
)

_TOKEN: Final = TypeAdapter(dict[str, Annotated[int, Field(strict=True, ge=1, lt=2**63)]])

_RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Services:
    """The endpoints of every worker.

    While its log is unusable a worker leaves what needs the log to the others.
    """

    def __init__(
        self,
        log: Log,
        connection: Connection,
        status: Callable[[], requests.StatusResponse],
        is_log_usable: Callable[[], bool],
    ) -> None:
        self._log = log
        self._connection = connection
        self._status = status
        self._is_log_usable = is_log_usable
        self._service: Service | None = None
        self._is_whole = False

    async def run(self) -> NoReturn:
        """Serve until cancelled, on each new connection again."""
        client: Client | None = None
        while True:
            current = await self._current(client)
            try:
                if current is not client:
                    self._service = None
                    client = current
                await self._serve(current, whole=self._is_log_usable())
            except (nats.errors.Error, OSError) as error:
                _log.warning("services_not_started", error=str(error) or type(error).__name__)
                client = None
                await asyncio.sleep(_RETRY_SECONDS)

    async def _current(self, client: Client | None) -> Client:
        """Return a new connection at once, the same after a while."""
        try:
            async with asyncio.timeout(None if client is None else _RETRY_SECONDS):
                return await self._connection.replaced(client)
        except TimeoutError:
            assert client is not None  # noqa: S101 - without one there is no limit
            return client

    async def _serve(self, client: Client, *, whole: bool) -> None:
        """Answer from the log just while it can be asked."""
        if self._service is not None:
            if whole is self._is_whole or not client.is_connected:
                return
            await _stop(self._service)
        self._service, self._is_whole = await self._start(client), whole
        await self._add(self._service, requests.STATUS, requests.StatusRequest, self._state)
        if whole:
            await self._add(self._service, requests.HISTORY, requests.HistoryRequest, self._history)
            await self._add(self._service, requests.EVENT, requests.EventRequest, self._event)

    async def _start(self, client: Client) -> Service:
        return await add_service(
            client,
            name=requests.SERVICE,
            version=version("pbscast"),
            description="The event log of PBS sites: history, events in full, state of publishing",
        )

    async def _add(self, service: Service, subject: str, model: type[R], answer: Answer[R]) -> None:
        name = subject.rsplit(".", 1)[1]
        await service.add_endpoint(name=name, subject=subject, handler=_handler(model, answer))

    async def _history(self, request: requests.HistoryRequest) -> bytes:
        seen = parse_token(request.after) if request.after else {}
        records = await self._find(request, seen, request.limit)
        if not records and not seen:
            raise _unknown(request)
        bodies = [compose(record, self._connection.client.max_payload).body for record in records]
        bodies = bodies[: fitting(bodies, self._room)]
        last = {record.site: record.position for record in records[: len(bodies)]}
        seen = {**seen, **last}
        # A page of the log may be short because its events are large: only an empty one is the end.
        more = len(bodies) < len(records) or await self._find(request, seen, 1)
        return join(bodies, make_token(seen) if more else None)

    async def _find(
        self, request: requests.HistoryRequest, seen: dict[str, int], limit: int
    ) -> list[Record]:
        [object_id], site = request.ids, request.sites[0] if request.sites else None
        return await self._log.history(request.kind, object_id, site=site, after=seen, limit=limit)

    async def _event(self, request: requests.EventRequest) -> bytes:
        records = await self._log.read(request.site, request.position - 1, 1)
        if not records or records[0].position != request.position:
            msg = f"the log has no event {request.site}:{request.position}"
            raise NotFoundError(msg)
        return piece(records[0].encode().decode(), request.offset, self._room)

    async def _state(self, _: requests.StatusRequest) -> bytes:
        return self._status().model_dump_json().encode()

    @property
    def _room(self) -> int:
        """Bytes that an answer may have."""
        return self._connection.client.max_payload - HEADROOM


def _unknown(request: requests.HistoryRequest) -> NotFoundError:
    at = f" at site {request.sites[0]}" if request.sites else ""
    return NotFoundError(f"the log has no {request.kind} {request.ids[0]}{at}")


def fitting(bodies: Sequence[bytes], room: int) -> int:
    """Return how many of the events fit into one answer; one always does."""
    sizes = accumulate(len(body) + 1 for body in bodies)
    return max(bool(bodies), sum(size <= room for size in sizes))


def join(bodies: Sequence[bytes], token: str | None) -> bytes:
    """Return a HistoryResponse of events as they were published."""
    return b'{"events":[' + b",".join(bodies) + b'],"next":' + json.dumps(token).encode() + b"}"


def make_token(seen: dict[str, int]) -> str:
    """Return what names the place after the last event of each site; callers do not read it."""
    return json.dumps(seen, separators=(",", ":"))


def parse_token(token: str) -> dict[str, int]:
    """Undo make_token. Raises UsageError."""
    try:
        return _TOKEN.validate_json(token)
    except ValidationError as error:
        raise UsageError("after: not the `next` of an earlier answer") from error


def piece(text: str, offset: int, room: int) -> bytes:
    """Return an EventResponse of at most ``room`` bytes: a character of it takes four at most."""
    end = offset + max(1, (room - 64) // 4)
    more = end if end < len(text) else None
    return requests.EventResponse(text=text[offset:end], next=more).model_dump_json().encode()


async def _stop(service: Service) -> None:
    """End a service; the library would throw away requests that have come, these are answered."""
    for endpoint in service._endpoints:  # noqa: SLF001 - nothing else drains it
        if endpoint._subscription is not None:  # noqa: SLF001 - as above
            await endpoint._subscription.drain()  # noqa: SLF001 - as above
    service._endpoints.clear()  # noqa: SLF001 - each has ended
    await service.stop()


def _handler(model: type[R], answer: Answer[R]) -> Callable[[Request], Awaitable[None]]:
    async def handle(request: Request) -> None:
        try:
            await request.respond(await answer(model.model_validate_json(request.data or b"{}")))
        except ValidationError as error:
            raise _refusal(_first_fault(error)) from error
        except PbscastError as error:
            raise _refusal(error) from error
        except Exception as error:
            # nats-py would send the exception's text, with whatever it holds, to the caller.
            _log.exception("service_bug", subject=request.subject)
            raise ServiceError(
                "500", "PbscastError: internal error, see the server's log"
            ) from error

    return handle


def _first_fault(error: ValidationError) -> UsageError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "request"
    return UsageError(f"{where}: {first['msg']}")


def _refusal(error: PbscastError) -> ServiceError:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "500")
    return ServiceError(code, f"{type(error).__name__}: {error}")
