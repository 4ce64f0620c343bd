"""Keeping a registered subscription alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn

from pbscast.asking import ask
from pbscast.errors import GoneError, NotFoundError, UnavailableError
from pbscast.subscriptions import RENEW, RenewRequest, RenewResponse

if TYPE_CHECKING:
    from pbscast.connection import Connection

_TIMES: Final = 3
"""How often a lease is renewed before it would end."""
_RETRY: Final = 1.0


async def renew(connection: Connection, key: str, *, resume: bool = False) -> RenewResponse:
    """Renew a subscription's lease once; ``resume`` as in RenewRequest.

    Raises GoneError, UnavailableError, AccessDeniedError.
    """
    try:
        return await ask(connection, RENEW, RenewRequest(id=key, resume=resume), RenewResponse)
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
        except UnavailableError:
            await asyncio.sleep(_RETRY)
