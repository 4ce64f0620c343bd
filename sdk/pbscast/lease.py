"""Keeping a registered subscription alive."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from pbscast.asking import AWAY, ask
from pbscast.errors import GoneError, NotFoundError
from pbscast.subscriptions import RENEW, RenewRequest, RenewResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbscast.connection import Connection

_TIMES: Final = 3
"""How often a lease is renewed before it would end."""
_RETRY: Final = 1.0
_PROMPT: Final = 0.2
"""Seconds within which an answer is that to the first request."""


async def renew(connection: Connection, key: str) -> RenewResponse:
    """Renew a subscription's lease once. Raises GoneError, UnavailableError, AccessDeniedError."""
    with unless_gone(key):
        return await ask(connection, RENEW, RenewRequest(id=key), RenewResponse)


async def resume(
    connection: Connection, key: str, *, acknowledged: bool = False
) -> tuple[RenewResponse, bool]:
    """Renew, and have delivered again what was not acknowledged; see RenewRequest.

    Also tells whether that may have been asked for more than once: then a late worker does it when
    we are reading already. Raises as ``renew``.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    with unless_gone(key):
        asked = RenewRequest(id=key, resume=True, acknowledged=acknowledged)
        answer = await ask(connection, RENEW, asked, RenewResponse)
    return answer, clock() - begun > _PROMPT


@contextmanager
def unless_gone(key: str) -> Iterator[None]:
    """Tell as GoneError that the service does not know the subscription."""
    try:
        yield
    except NotFoundError as error:
        raise GoneError(
            f"subscription {key} is no more: its lease ran out, or it was ended; subscribe anew"
        ) from error


async def keep_alive(connection: Connection, key: str, lease: int) -> NoReturn:
    """Renew well before each end of the lease, through lost connections, until cancelled.

    Raises GoneError, and AccessDeniedError where the server has turned us away.
    """
    while True:
        await asyncio.sleep(lease / _TIMES)
        lease = await _renew_soon(connection, key)


async def _renew_soon(connection: Connection, key: str) -> int:
    while True:
        await connection.wait_up()
        try:
            return (await renew(connection, key)).lease
        except AWAY:
            await asyncio.sleep(_RETRY)
