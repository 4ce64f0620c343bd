"""Telling nats-servers of new and changed accounts, which they take up at once."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.aio.client import RawCredentials

from pbscast.driver import Driver
from pbscast.errors import AccessDeniedError, ConfigError, PbscastError, UnavailableError
from pbscast.settings import redacted
from pbscast_deploy.auth.layout import asker_in
from pbscast_deploy.auth.tokens import decode
from pbscast_fanout.settling import SETTLE, SettleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from pbscast_deploy.auth.realm import Realm

_UPDATE: Final = "$SYS.REQ.CLAIMS.UPDATE"
_AT_A_TIME: Final = 16
_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.2
_SETTLING_SECONDS: Final = 15.0
"""For a worker that is just starting, or leaving."""
_ANSWER_SECONDS: Final = 5.0
"""One server's; the others of a cluster have the account from it, at the latest in two minutes."""


async def tell(realm: Realm, servers: Iterable[str], accounts: Iterable[str] = ()) -> None:
    """Give each of these servers, and by it its cluster, what it lacks, and these tokens.

    Then what was made for somebody by rights that he has no more ends; where no worker runs, not
    what he had asked of it before. Raises UnavailableError, AccessDeniedError, or ConfigError if a
    server does not keep accounts, of all such servers and after the others were told.
    """
    troubles: list[PbscastError] = []
    for server in servers:
        tokens = {*accounts, *realm.lacking(realm.server(server)).values()}
        try:
            async with _connected(realm, server) as (client, place):
                await _each(tokens, lambda token: _update(client, token, place))
                await _each(tokens, lambda token: _settle(client, token, place))
        except PbscastError as error:
            troubles.append(error)
        else:
            realm.note_told(server, tokens)
    if troubles:
        raise type(troubles[0])("; ".join(map(str, troubles)))


@asynccontextmanager
async def _connected(realm: Realm, server: str) -> AsyncIterator[tuple[Driver, str]]:
    place = redacted(server)
    client = await _connect(realm, server, place)
    try:
        yield client, place
    finally:
        await client.abandon()


async def _each(accounts: Iterable[str], do: Callable[[str], Awaitable[None]]) -> None:
    """Several at a time: each is on the server's disk before it answers."""
    waiting = iter(accounts)

    async def work() -> None:
        for token in waiting:
            await do(token)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_A_TIME):
                tasks.create_task(work())
    except* PbscastError as group:
        raise group.exceptions[0] from None


async def _connect(realm: Realm, server: str, place: str) -> Driver:
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    client = Driver()
    try:
        async with asyncio.timeout(_SECONDS):
            await client.connect(
                server,
                user_credentials=RawCredentials(realm.system_credentials.read_text()),
                tls=ssl.create_default_context(cafile=realm.authority),
                name="pbscastd auth",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=note,
            )
    except (OSError, nats.errors.Error) as error:
        await client.abandon()
        raise _explain(errors[0] if errors else error, place) from error
    return client


def _explain(error: Exception, place: str) -> PbscastError:
    if "authorization" in str(error).lower():
        return AccessDeniedError(f"{place} does not know this authority: is its auth.conf ours?")
    return UnavailableError(
        f"{place}: {str(error) or type(error).__name__}: nothing is lost, later: pbscastd auth push"
    )


async def _update(client: Driver, token: str, place: str) -> None:
    try:
        answer = await client.request(_UPDATE, token.encode(), timeout=_ANSWER_SECONDS)
    except nats.errors.NoRespondersError as error:
        raise ConfigError(
            f"{place} keeps no accounts: it needs the resolver of auth.conf"
        ) from error
    except (OSError, nats.errors.Error) as error:
        raise _explain(error, place) from error
    content = json.loads(answer.data)
    if "error" in content:
        refusal = content["error"].get("description", "no reason given")
        raise AccessDeniedError(f"{place} refuses an account: {refusal}")


async def _settle(client: Driver, token: str, place: str) -> None:
    """Have a worker let his rights hold for all that somebody has."""
    asker = asker_in(decode(token))
    if asker is None:
        return
    request = SettleRequest(asker=asker.subject).model_dump_json().encode()
    refusal: str | None = None
    try:
        async with asyncio.timeout(_SETTLING_SECONDS):
            while refusal := await _refused(client, request):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(_RETRY_SECONDS)
    except nats.errors.NoRespondersError:
        return  # nor is anything published
    except TimeoutError as error:
        raise UnavailableError(
            f"{place}: what {asker.name} has opened may go on telling him what he may no longer"
            f" see: {refusal}: later: pbscastd auth push"
        ) from error
    except (OSError, nats.errors.Error) as error:
        raise _explain(error, place) from error


async def _refused(client: Driver, request: bytes) -> str | None:
    """Return why a worker could not do it."""
    try:
        answer = await client.request(SETTLE, request, timeout=_ANSWER_SECONDS)
    except nats.errors.TimeoutError:
        return "no answer"
    return (answer.headers or {}).get("Nats-Service-Error")
