"""A person's rights have changed: what was made for him by those before ends, or goes on by these.

His account lets him at nothing of that any more (``Asker.pass_name``). But what he had asked of a
consumer before still comes, until that consumer is no more.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pbscast.deliveries import DELIVERIES
from pbscast.errors import NotFoundError, UsageError
from pbscast.messages import Request, Response
from pbscast_fanout.askers import SERVICES, Asker, named_in
from pbscast_fanout.jetstream import STREAM, call, consumers_on
from pbscast_fanout.subscriptions.owners import Owner

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.desk import Desk

SETTLE: Final = f"{SERVICES}.settle"


class SettleRequest(Request):
    """Let a person's rights of now hold for all that he has."""

    asker: str
    """``Asker.subject``: who, and with which rights."""


class SettleResponse(Response):
    """They do."""


class Settling:
    """Everything raises what JetStream refuses, and UnavailableError."""

    def __init__(self, connection: Connection, desk: Desk) -> None:
        self._connection = connection
        self._desk = desk

    async def settle(self, request: SettleRequest, _: Asker | None) -> bytes:
        """Raises UsageError for a subject that is nobody's."""
        person = Asker.parse(f"{request.asker}.settle")
        if person is None:
            raise UsageError(f"asker: {request.asker!r} is nobody: see Asker.subject")
        # First his subscriptions, so that those that go on keep their place.
        try:
            await self._desk.settle(Owner.of(person))
        finally:
            for stream in (STREAM, DELIVERIES):
                await self._end_others(stream, person)
        return SettleResponse().model_dump_json().encode()

    async def _end_others(self, stream: str, person: Asker) -> None:
        """Delete his consumers of other rights."""
        for name in await self._consumers_on(stream):
            found = named_in(name)
            if found and found.owner == person.owner and found.rights != person.rights:
                with suppress(NotFoundError):  # it went by itself
                    await call(self._connection, f"CONSUMER.DELETE.{stream}.{name}")

    async def _consumers_on(self, stream: str) -> list[str]:
        try:
            return await consumers_on(self._connection, stream)
        except NotFoundError:  # it is not there yet
            return []
