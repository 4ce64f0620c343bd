"""Rights have changed: what was made for people by those before ends, or goes on by these.

Their accounts let them at nothing of that any more (``Asker.pass_name``). But what somebody had
asked of a consumer before still comes, until that consumer is no more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pbscast.deliveries import DELIVERIES
from pbscast.errors import NotFoundError, UnavailableError, UsageError
from pbscast.messages import Request, Response
from pbscast_fanout.abreast import each
from pbscast_fanout.askers import SERVICES, Asker, named_in
from pbscast_fanout.jetstream import STREAM, consumers_on, delete_consumer
from pbscast_fanout.subscriptions.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.desk import Desk

SETTLE: Final = f"{SERVICES}.settle"
SECONDS: Final = 30.0
"""For which a request may wait and be answered."""

_ABREAST: Final = 128
"""Deletions: those of a server that has died are waited for in vain."""
_PASSES: Final = 4


class SettleRequest(Request):
    """Let some people's rights of now hold for all that they have."""

    askers: tuple[str, ...]
    """``Asker.subject`` of each: who, and with which rights. Many cost little more than one."""


class SettleResponse(Response):
    """They do."""


class Settling:
    """Everything raises what JetStream refuses, and UnavailableError: then ask again."""

    def __init__(self, connection: Connection, desk: Desk) -> None:
        self._connection = connection
        self._desk = desk

    async def settle(self, request: SettleRequest, _: Asker | None) -> bytes:
        """Raises UsageError for a subject that is nobody's."""
        people = [_person(asker) for asker in request.askers]
        # First their subscriptions, so that those that go on keep their place.
        try:
            await self._desk.settle([Owner.of(person) for person in people])
        finally:
            await self._end_others({person.owner: person.rights for person in people})
        return SettleResponse().model_dump_json().encode()

    async def _end_others(self, rights: Mapping[str, str]) -> None:
        """Delete their consumers of other rights, on each stream whatever becomes of the other."""
        outcomes = await asyncio.gather(
            *(self._clear(stream, rights) for stream in (STREAM, DELIVERIES)),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _clear(self, stream: str, rights: Mapping[str, str]) -> None:
        """Delete until none is found any more: not every deletion is answered."""
        for _ in range(_PASSES):
            others = await self._others(stream, rights)
            if not others:
                return
            refused = await each(
                others, lambda name: delete_consumer(self._connection, stream, name), _ABREAST
            )
        reason = f": {refused[0]}" if refused else ""
        raise UnavailableError(f"{len(others)} consumers of {stream} have not ended yet{reason}")

    async def _others(self, stream: str, rights: Mapping[str, str]) -> list[str]:
        try:
            names = await consumers_on(self._connection, stream)
        except NotFoundError:  # it is not there yet
            return []
        return [name for name in names if _is_other(name, rights)]


def _is_other(name: str, rights: Mapping[str, str]) -> bool:
    """Whether a consumer was made for one of these people, by other rights."""
    found = named_in(name)
    return found is not None and rights.get(found.owner, found.rights) != found.rights


def _person(asker: str) -> Asker:
    person = Asker.parse(f"{asker}.settle")
    if person is None:
        raise UsageError(f"askers: {asker!r} is nobody: see Asker.subject")
    return person
