"""Telling nats-servers of new and changed accounts, which they take up at once."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import nats.errors
from nats.aio.client import RawCredentials

from pbscast.driver import Driver
from pbscast.errors import AccessDeniedError, ConfigError, PbscastError, UnavailableError
from pbscast.settings import redacted
from pbscast_deploy.auth.layout import asker_in
from pbscast_deploy.auth.tokens import decode
from pbscast_fanout.settling import SECONDS, SETTLE, SettleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from pbscast_deploy.auth.realm import Realm

_TROUBLES: Final = (OSError, ValueError, nats.errors.Error)
"""What the driver raises."""
_UPDATE: Final = "$SYS.REQ.CLAIMS.UPDATE"
_AT_A_TIME: Final = 16
_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.2
_SETTLING_SECONDS: Final = 45.0
"""For a worker that is just starting, or leaving, or has much to do."""
_SETTLED_ABREAST: Final = 200
"""People that a worker is told of at once."""
_ANSWER_SECONDS: Final = 5.0
"""One server's; the others of a cluster have the account from it, at the latest in two minutes."""


async def tell(
    realm: Realm, servers: Iterable[str], accounts: Iterable[str] = (), *, everybody: bool = False
) -> bool:
    """Give each of these servers, and by it its cluster, what it lacks, and these tokens.

    When all know, a worker ends what was made for somebody by rights that he has no more: of those
    whose accounts were lacking and not new, or of everybody. Returns False where none runs: then
    that is done the next time. Raises UnavailableError, AccessDeniedError, or ConfigError if a
    server does not keep accounts, of all such servers and after the others were told.
    """
    lacking = {server: realm.lacking(realm.server(server)) for server in servers}
    changed = [realm.accounts()] if everybody else list(lacking.values())
    concerned = {
        account
        for tokens in changed
        for account, token in tokens.items()
        if asker_in(decode(token)) is not None
    }
    realm.note_changed(concerned, even_new=everybody)
    troubles: list[PbscastError] = []
    async with AsyncExitStack() as stack:
        connections: list[_Connection] = []
        for server, tokens in lacking.items():
            try:
                connection = await stack.enter_async_context(_connected(realm, server))
                told = {*accounts, *tokens.values()}
                await _each(told, partial(_update, connection))
            except PbscastError as error:
                troubles.append(error)
            except Exception as error:  # noqa: BLE001 - the others have to be told all the same
                troubles.append(_explain(error, redacted(server)))
            else:
                realm.note_told(server, told)
                connections.append(connection)
        is_settled = True
        if connections:
            try:
                is_settled = await _settle(realm, connections)
            except PbscastError as error:
                troubles.append(error)
    if troubles:
        raise type(troubles[0])("; ".join(map(str, troubles)))
    return is_settled


class _Connection(NamedTuple):
    client: Driver
    place: str


@asynccontextmanager
async def _connected(realm: Realm, server: str) -> AsyncIterator[_Connection]:
    place = redacted(server)
    client = await _connect(realm, server, place)
    try:
        yield _Connection(client, place)
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
    except* Exception as group:  # noqa: BLE001 - as it would be without the group
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
    except _TROUBLES as error:
        await client.abandon()
        raise _explain(errors[0] if errors else error, place) from error
    return client


def _explain(error: Exception, place: str) -> PbscastError:
    if "authorization" in str(error).lower():
        return AccessDeniedError(f"{place} does not know this authority: is its auth.conf ours?")
    return UnavailableError(
        f"{place}: {str(error) or type(error).__name__}: nothing is lost, later: pbscastd auth push"
    )


async def _update(connection: _Connection, token: str) -> None:
    client, place = connection
    try:
        answer = await client.request(_UPDATE, token.encode(), timeout=_ANSWER_SECONDS)
    except nats.errors.NoRespondersError as error:
        raise ConfigError(
            f"{place} keeps no accounts: it needs the resolver of auth.conf"
        ) from error
    except _TROUBLES as error:
        raise _explain(error, place) from error
    try:
        refusal = json.loads(answer.data).get("error")
        reason = refusal and refusal.get("description", "no reason given")
    except (ValueError, AttributeError) as error:
        raise UnavailableError(f"{place}: its answer is not a nats-server's") from error
    if reason:
        raise AccessDeniedError(f"{place} refuses an account: {reason}")


async def _settle(realm: Realm, connections: Iterable[_Connection]) -> bool:
    """Have a worker let their rights hold for all that people have; False: none runs.

    Any server leads to the workers, but for one that is cut off from the others.
    """
    askers = {account: asker.subject for account, asker in realm.unsettled().items()}
    if not askers:
        return True
    trouble: PbscastError | None = None
    for connection in connections:
        try:
            if await _settle_by(realm, connection, askers):
                return True
        except PbscastError as error:
            trouble = error
    if trouble is not None:
        raise trouble
    return False


async def _settle_by(realm: Realm, connection: _Connection, askers: Mapping[str, str]) -> bool:
    waiting = list(askers)
    while waiting:
        some, waiting = waiting[:_SETTLED_ABREAST], waiting[_SETTLED_ABREAST:]
        request = SettleRequest(askers=tuple(askers[account] for account in some))
        if not await _settle_some(connection, request):
            return False
        realm.note_settled(some)
    return True


async def _settle_some(connection: _Connection, request: SettleRequest) -> bool:
    """Whether there is a worker."""
    refusal: str | None = None
    client, body = connection.client, request.model_dump_json().encode()
    try:
        async with asyncio.timeout(_SETTLING_SECONDS):
            while refusal := await _refused(client, body):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(_RETRY_SECONDS)
    except nats.errors.NoRespondersError:
        return False
    except TimeoutError as error:
        raise UnavailableError(
            f"{connection.place}: what was opened by rights of before may go on telling what may no"
            f" longer be seen: {refusal or 'no answer'}: later: pbscastd auth push"
        ) from error
    except _TROUBLES as error:
        raise _explain(error, connection.place) from error
    return True


async def _refused(client: Driver, request: bytes) -> str | None:
    """Return why a worker could not do it."""
    try:
        answer = await client.request(SETTLE, request, timeout=SECONDS)
    except nats.errors.TimeoutError:
        return "no answer"
    return (answer.headers or {}).get("Nats-Service-Error")
