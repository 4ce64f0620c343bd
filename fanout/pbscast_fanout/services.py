"""Answers requests: a NATS micro service, shared by all workers through its queue group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, TypeVar

import nats.errors
import structlog
from nats.micro import add_service
from nats.micro.request import ServiceError
from pydantic import BaseModel, ValidationError

from pbscast import requests, subscriptions
from pbscast.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from pbscast.selection import first_fault
from pbscast_fanout.answers import Answers
from pbscast_fanout.turns import Turns

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.micro.request import Request
    from nats.micro.service import Service

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.desk import Desk
    from pbscast_store.log import Log

R = TypeVar("R", bound=BaseModel)
Answer = Callable[[R], Awaitable[bytes]]
Handler: TypeAlias = "Callable[[Request], Awaitable[None]]"

_CODES: Final[tuple[tuple[type[PbscastError], str], ...]] = (
    (UsageError, "400"),
    (AccessDeniedError, "403"),
    (NotFoundError, "404"),
    (ConflictError, "409"),
    (UnsupportedError, "501"),
    (UnavailableError, "503"),
)

_RETRY_SECONDS: Final = 1.0
_LEAVE_SECONDS: Final = 2.0
_QUICKLY_PARSED: Final = 32 << 10
"""Bytes."""

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
        desk: Desk,
    ) -> None:
        self._log = log
        self._connection = connection
        self._status = status
        self._is_log_usable = is_log_usable
        self._desk = desk
        self._service: Service | None = None
        self._is_whole = False
        self._turns = Turns()
        self._own_turns = Turns()
        """Of what needs no log and little time, and is asked for when the others are slow."""
        self._desk_turns = Turns()
        """Of what is registered: a hundred thousand ids take their time."""
        self._resume_turns = Turns()
        """Of readers that come back, all at once after NATS was away: who renews need not wait."""

    async def run(self) -> NoReturn:
        """Serve until cancelled, on each new connection again."""
        client: Client | None = None
        try:
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
        finally:
            await self._take_leave()

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
            await self._stop(self._service)
        self._service, self._is_whole = await self._start(client), whole
        await self._add(
            self._service, requests.STATUS, requests.StatusRequest, self._state, self._own_turns
        )
        await self._add_desk(self._service)
        if whole:
            await self._add_log(self._service)

    async def _add_desk(self, service: Service) -> None:
        desk, slow, quick = self._desk, self._desk_turns, self._own_turns
        await self._add(
            service, subscriptions.SUBSCRIBE, subscriptions.SubscribeRequest, desk.subscribe, slow
        )
        await self._add(
            service, subscriptions.MODIFY, subscriptions.ModifyRequest, desk.modify, slow
        )
        await self._endpoint(service, subscriptions.RENEW, self._renewing())
        await self._add(
            service,
            subscriptions.UNSUBSCRIBE,
            subscriptions.UnsubscribeRequest,
            desk.unsubscribe,
            quick,
        )

    async def _add_log(self, service: Service) -> None:
        answers = Answers(self._log, lambda: self._connection.client.max_payload)
        await self._add(service, requests.HISTORY, requests.HistoryRequest, answers.history)
        await self._add(service, requests.JOBS, requests.JobsRequest, answers.jobs)
        await self._add(service, requests.SNAPSHOT, requests.SnapshotRequest, answers.snapshot)
        await self._add(service, requests.AT, requests.AtRequest, answers.at)
        await self._add(
            service, requests.DIFFERENCE, requests.DifferenceRequest, answers.difference
        )
        await self._add(service, requests.EVENT, requests.EventRequest, answers.event)
        await self._add(service, subscriptions.LIST, subscriptions.ListRequest, self._desk.list)

    async def _start(self, client: Client) -> Service:
        return await add_service(
            client,
            name=requests.SERVICE,
            version=version("pbscast"),
            description="PBS sites: history, lives, standings, subscriptions; how publishing goes",
        )

    async def _add(
        self,
        service: Service,
        subject: str,
        model: type[R],
        answer: Answer[R],
        turns: Turns | None = None,
    ) -> None:
        await self._endpoint(service, subject, _handler(model, answer, turns or self._turns))

    async def _endpoint(self, service: Service, subject: str, handler: Handler) -> None:
        name = subject.rsplit(".", 1)[1]
        await service.add_endpoint(name=name, subject=subject, handler=handler)

    def _renewing(self) -> Handler:
        model, answer = subscriptions.RenewRequest, self._desk.renew
        renew = _handler(model, answer, self._own_turns)
        resume = _handler(model, answer, self._resume_turns)

        async def handle(request: Request) -> None:
            await (resume if _resumes(request.data) else renew)(request)

        return handle

    async def _state(self, _: requests.StatusRequest) -> bytes:
        return self._status().model_dump_json().encode()

    async def _stop(self, service: Service) -> None:
        """End a service, but answer the requests that have come; the library would drop them."""
        for endpoint in service._endpoints:  # noqa: SLF001 - nothing else drains it
            if endpoint._subscription is not None:  # noqa: SLF001 - as above
                await endpoint._subscription.drain()  # noqa: SLF001 - as above
        service._endpoints.clear()  # noqa: SLF001 - each has ended
        await service.stop()
        for turns in self._all_turns:
            await turns.ended()

    async def _take_leave(self) -> None:
        """What can be answered quickly still is."""
        if self._service is not None:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._stop(self._service)
        for turns in self._all_turns:
            await turns.cancel()

    @property
    def _all_turns(self) -> tuple[Turns, ...]:
        return self._turns, self._own_turns, self._desk_turns, self._resume_turns


def _resumes(data: bytes | None) -> bool:
    with suppress(ValidationError):  # which is said in the answer
        if data is not None and len(data) <= _QUICKLY_PARSED:
            return subscriptions.RenewRequest.model_validate_json(data).resume
    return False


def _handler(model: type[R], answer: Answer[R], turns: Turns) -> Handler:
    async def reply(request: Request) -> None:
        with suppress(nats.errors.Error, OSError):  # the connection is gone, and so is the caller
            try:
                body = await _answered(request, model, answer, turns)
            except ServiceError as error:
                await request.respond_error(error.code, error.description)
            else:
                await request.respond(body)

    async def handle(request: Request) -> None:
        # Only begun here: nats-py gives an endpoint the next request when this returns.
        try:
            turns.start(lambda: reply(request))
        except UnavailableError as error:
            raise _refusal(error) from error

    return handle


async def _answered(request: Request, model: type[R], answer: Answer[R], turns: Turns) -> bytes:
    try:
        return await turns.take(lambda: _answer(request.data or b"{}", model, answer))
    except ValidationError as error:
        raise _refusal(first_fault(error)) from error
    except PbscastError as error:
        raise _refusal(error) from error
    except Exception as error:
        # Its text, with whatever it holds, is not for the caller.
        _log.exception("service_bug", subject=request.subject)
        raise ServiceError("500", "PbscastError: internal error, see the server's log") from error


async def _answer(data: bytes, model: type[R], answer: Answer[R]) -> bytes:
    return await answer(await _parsed(data, model))


async def _parsed(data: bytes, model: type[R]) -> R:
    """Check a request; a large one (100,000 ids take a second) holds nothing up."""
    if len(data) <= _QUICKLY_PARSED:
        return model.model_validate_json(data)
    return await asyncio.to_thread(model.model_validate_json, data)


def _refusal(error: PbscastError) -> ServiceError:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "500")
    return ServiceError(code, f"{type(error).__name__}: {error}")
