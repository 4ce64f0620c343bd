"""Answers requests: a NATS micro service, shared by all workers through its queue group.

Each is served under two subjects: ``pbscast.v1.<service>``, where nobody says who asks (in a NATS
open to all; in a secured one only the account of the services can send there, and the system
account what is for administrators), and ``pbscast.v1.as.<role>.<sites>.<name>.<service>``, where
nats-server says it (askers); what is not for persons under the first alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeAlias, TypeVar

import nats.errors
import structlog
from nats.micro import add_service
from nats.micro.request import ServiceError
from pydantic import BaseModel, ValidationError

from pbscast.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from pbscast.requests import SERVICE
from pbscast.selection import first_fault
from pbscast_fanout.askers import AS, Asker
from pbscast_fanout.rates import Rates

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.micro.request import Request
    from nats.micro.service import Service

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.turns import Turns

R = TypeVar("R", bound=BaseModel)
Answer = Callable[[R, Asker | None], Awaitable[bytes]]
"""What is answered to a request, and to whom: None asks where everybody may see everything."""
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
QUICKLY_PARSED: Final = 32 << 10
"""Bytes."""

AT_ONCE: Final = 200
"""Requests that one person may send to a worker in no time."""

PER_SECOND: Final = 100
"""And then each second, twice what somebody asks who reads pages one after the other."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Endpoint(Generic[R]):
    """One service."""

    subject: str
    """Its own, ``pbscast.v1.<service>``."""
    model: type[R]
    answer: Answer[R]
    turns: Callable[[bytes], Turns]
    """In which turns a request of these bytes is dealt with."""
    needs_log: bool = False
    is_for_persons: bool = True

    @property
    def name(self) -> str:
        return self.subject.rpartition(".")[2]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Where it listens."""
        asked_by_name = f"{AS}.*.*.*.{self.name}"
        return (self.subject, asked_by_name) if self.is_for_persons else (self.subject,)


class Services:
    """The endpoints of every worker.

    While its log is unusable a worker leaves what needs the log to the others.
    """

    def __init__(
        self,
        connection: Connection,
        endpoints: Sequence[Endpoint[Any]],
        is_log_usable: Callable[[], bool] = lambda: True,
    ) -> None:
        self._connection = connection
        self._endpoints = tuple(endpoints)
        self._is_log_usable = is_log_usable
        self._service: Service | None = None
        self._is_whole = False
        self._turns: set[Turns] = set()
        self._rates = Rates[str](AT_ONCE, PER_SECOND)

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
        for endpoint in self._endpoints:
            if whole or not endpoint.needs_log:
                await self._add(self._service, endpoint)

    async def _start(self, client: Client) -> Service:
        return await add_service(
            client,
            name=SERVICE,
            version=version("pbscast"),
            description="PBS sites: history, lives, standings, subscriptions; how publishing goes",
        )

    async def _add(self, service: Service, endpoint: Endpoint[Any]) -> None:
        handler = self._handler(endpoint)
        for subject in endpoint.subjects:
            await service.add_endpoint(name=endpoint.name, subject=subject, handler=handler)

    def _handler(self, endpoint: Endpoint[Any]) -> Handler:
        async def handle(request: Request) -> None:
            if not request._msg.reply:  # noqa: SLF001 - the library does not tell otherwise
                return  # nobody waits for an answer
            if not self._is_in_time(request.subject):
                return  # an answer would cost as much as what was asked
            asker = _asker(request)
            turns = endpoint.turns(request.data)
            self._turns.add(turns)
            # Only begun here: nats-py gives an endpoint the next request when this returns.
            try:
                turns.start(lambda: _reply(request, endpoint, asker, turns), _whose(asker))
            except UnavailableError as error:
                raise _refusal(error) from error

        return handle

    def _is_in_time(self, subject: str) -> bool:
        """Whether who asks has not asked too often: what comes beyond is passed over unread."""
        if not subject.startswith(f"{AS}."):
            return True
        return self._rates.take(subject.rpartition(".")[0])

    async def _stop(self, service: Service) -> None:
        """End a service, but answer the requests that have come; the library would drop them."""
        for endpoint in service._endpoints:  # noqa: SLF001 - nothing else drains it
            if endpoint._subscription is not None:  # noqa: SLF001 - as above
                await endpoint._subscription.drain()  # noqa: SLF001 - as above
        service._endpoints.clear()  # noqa: SLF001 - each has ended
        await service.stop()
        for turns in self._turns:
            await turns.ended()

    async def _take_leave(self) -> None:
        """What can be answered quickly still is."""
        if self._service is not None:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._stop(self._service)
        for turns in self._turns:
            await turns.cancel()


def _asker(request: Request) -> Asker | None:
    """Return who asks, None where nobody says it."""
    if not request.subject.startswith(f"{AS}."):
        return None
    asker = Asker.parse(request.subject)
    if asker is None:
        raise _refusal(AccessDeniedError("nobody is called so: nats-server has not let you in"))
    return asker


def _whose(asker: Asker | None) -> str | None:
    return None if asker is None else asker.owner


async def _reply(
    request: Request, endpoint: Endpoint[Any], asker: Asker | None, turns: Turns
) -> None:
    with suppress(nats.errors.Error, OSError):  # the connection is gone, and so is the caller
        try:
            body = await _answered(request, endpoint, asker, turns)
        except ServiceError as error:
            await request.respond_error(error.code, error.description)
        else:
            await request.respond(body)


async def _answered(
    request: Request, endpoint: Endpoint[Any], asker: Asker | None, turns: Turns
) -> bytes:
    async def answer() -> bytes:
        return await endpoint.answer(await _parsed(request.data or b"{}", endpoint.model), asker)

    try:
        return await turns.take(answer, _whose(asker))
    except ValidationError as error:
        raise _refusal(first_fault(error)) from error
    except PbscastError as error:
        raise _refusal(error) from error
    except Exception as error:
        # Its text, with whatever it holds, is not for the caller.
        _log.exception("service_bug", subject=request.subject)
        raise ServiceError("500", "PbscastError: internal error, see the server's log") from error


async def _parsed(data: bytes, model: type[R]) -> R:
    """Check a request; a large one (100,000 ids take a second) holds nothing up."""
    if len(data) <= QUICKLY_PARSED:
        return model.model_validate_json(data)
    return await asyncio.to_thread(model.model_validate_json, data)


def _refusal(error: PbscastError) -> ServiceError:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "500")
    return ServiceError(code, f"{type(error).__name__}: {error}")
