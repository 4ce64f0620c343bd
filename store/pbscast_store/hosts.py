"""The hosts of a DSN: a primary and its standbys, of which the one that takes writes is used."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from pbscast_store.statements import query

_TARGET: Final = "target_session_attrs"
_FAILURES: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InternalClientError)
"""With which the next host is tried."""


def each(dsn: str) -> list[str]:
    """Return a DSN for each host in turn.

    Where there are several, only one that takes writes will do unless the DSN asks for another.
    """
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    wanted = urlencode({_TARGET: "read-write", **query}, quote_via=quote)
    return [
        urlunsplit(parts._replace(netloc=f"{login}{at}{host}", query=wanted))
        for host in hosts.split(",")
    ]


async def waits_for_none(dsn: str, *, timeout: float) -> bool:
    """Whether there are several hosts, and commits on the primary do not wait for a standby.

    Then a promotion may lose what has been published. Raises what the driver raises.
    """
    if len(each(dsn)) == 1:
        return False
    connection = await connect(dsn, timeout=timeout)
    try:
        return not await connection.fetchval(query("standby_names"), timeout=timeout)
    finally:
        await connection.close(timeout=timeout)


async def connect(dsn: str, *, timeout: float, **options: Any) -> Any:
    """Return an asyncpg connection to the first host that will do, within so many seconds.

    Each has its share of them: the driver itself would wait for a machine without power until time
    is up. Raises what the driver raises for the last of them.
    """
    *others, last = each(dsn)
    share = timeout / (len(others) + 1)
    for one in others:
        try:
            return await asyncpg.connect(one, timeout=share, **options)
        except _FAILURES:
            continue
    return await asyncpg.connect(last, timeout=share, **options)
