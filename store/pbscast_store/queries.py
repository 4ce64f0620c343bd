"""One function for each file of `sql/queries`: its parameters and rows, typed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pbscast_store.binary import Parcel, RowTypes
from pbscast_store.bounds import EVER, NEVER
from pbscast_store.heads import Head, ObjectKey
from pbscast_store.records import ObjectState, Record, SiteRow
from pbscast_store.statements import query

AnyConnection = asyncpg.Connection | PoolConnectionProxy
Executor = AnyConnection | asyncpg.Pool
LoggedSpan = tuple[datetime, datetime]
"""From when, included, to when, not included, events were logged."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a new lease gives."""

    epoch: int
    position: int
    digest: bytes
    logged: datetime
    cursor: dict[str, object] | None
    now: datetime
    """By the clock of the log database."""


async def append(
    executor: Executor,
    site: str,
    epoch: int,
    position: int,
    cursor: Mapping[str, object],
    parcel: Parcel,
) -> bool:
    """False: the epoch has passed, nothing was written. `take_rows` has prepared the connection."""
    row = await executor.fetchrow(
        query("append"),
        site,
        epoch,
        position,
        parcel.tail.position,
        parcel.tail.digest,
        parcel.logged,
        json.dumps(cursor),
        parcel.events,
        parcel.folds,
        parcel.superseded,
    )
    return row is not None


async def read_events(
    executor: Executor,
    site: str,
    after: int,
    limit: int,
    max_bytes: int,
    logged: LoggedSpan = (NEVER, EVER),
) -> list[Record]:
    """At least one if there is any; no more than `limit`, and `max_bytes` of payload."""
    rows = await executor.fetch(query("read_events"), site, after, limit, max_bytes, *logged)
    return [Record(**row) for row in rows]


async def heads(executor: Executor, site: str, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Head]:
    """The heads of those objects that the log knows."""
    kinds, ids = zip(*keys, strict=True)
    rows = await executor.fetch(query("heads"), site, kinds, ids)
    return {ObjectKey(kind, object_id): Head(*head) for kind, object_id, *head in rows}


async def object_state(
    executor: Executor, site: str, kind: str, object_id: str
) -> ObjectState | None:
    """None: the log never saw the object."""
    row = await executor.fetchrow(query("object"), site, kind, object_id)
    return None if row is None else _object_state(row)


async def object_states(
    executor: Executor, site: str, kind: str, ids: Sequence[str]
) -> dict[str, ObjectState]:
    """By id; those that the log never saw are not in it."""
    rows = await executor.fetch(query("objects_named"), site, kind, ids)
    return {row["id"]: _object_state(row) for row in rows}


async def present_ids(executor: Executor, site: str, kind: str, first: str, most: int) -> list[str]:
    """Of the objects that are not gone, in order."""
    rows = await executor.fetch(query("present_ids"), site, kind, first, most)
    return [row["id"] for row in rows]


async def sites(executor: Executor) -> list[SiteRow]:
    """All, by name."""
    return [_site_row(row) for row in await executor.fetch(query("sites"))]


async def site_position(executor: Executor, site: str) -> int | None:
    """None: no such site."""
    position: int | None = await executor.fetchval(query("site_position"), site)
    return position


async def register_site(executor: Executor, site: str) -> None:
    """Nothing if the site is there."""
    await executor.execute(query("register_site"), site)


async def acquire_lease(executor: Executor, site: str, holder: str, ttl: float) -> Grant | None:
    """None: somebody else's term lasts, or no such site."""
    row = await executor.fetchrow(query("acquire_lease"), site, holder, ttl)
    if row is None:
        return None
    cursor = row["cursor"] and json.loads(row["cursor"])
    return Grant(row["epoch"], row["position"], row["digest"], row["logged"], cursor, row["now"])


async def renew_lease(executor: Executor, site: str, epoch: int, ttl: float) -> datetime | None:
    """What time it is by the clock of the log database; None: the epoch has passed."""
    now: datetime | None = await executor.fetchval(query("renew_lease"), site, epoch, ttl)
    return now


async def release_lease(executor: Executor, site: str, epoch: int) -> None:
    """Nothing if the epoch has passed."""
    await executor.execute(query("release_lease"), site, epoch)


async def make_partitions(executor: Executor, ahead: timedelta) -> None:
    """Those of this month and the time ahead that are missing."""
    await executor.execute(query("make_partitions"), ahead)


async def require_durable_commits(connection: asyncpg.Connection) -> None:
    """Undoes `synchronous_commit = off` for this connection."""
    await connection.execute(query("require_durable_commits"))


async def row_types(connection: asyncpg.Connection) -> RowTypes:
    """What rows of an append are to PostgreSQL."""
    (row,) = await connection.fetch(query("row_types"))
    return RowTypes(*row)


async def has_migration_table(executor: Executor) -> bool:
    """Whether any migration has ever been applied."""
    return bool(await executor.fetchval(query("has_migration_table")))


async def schema_version(executor: Executor) -> int:
    """The number of the last migration."""
    return int(await executor.fetchval(query("schema_version")))


async def lock_beginning(connection: asyncpg.Connection) -> None:
    """For a log that has no schema, until the transaction ends."""
    await connection.execute(query("lock_beginning"))


async def lock_migrations(connection: asyncpg.Connection) -> None:
    """Until the transaction ends."""
    await connection.execute(query("lock_migrations"))


async def limit_lock_waits(connection: asyncpg.Connection) -> None:
    """Until the transaction ends."""
    await connection.execute(query("limit_lock_waits"))


async def fence_writers(connection: asyncpg.Connection) -> None:
    """Every lease that was given before the transaction ends is worth nothing afterwards."""
    await connection.execute(query("fence_writers"))


async def record_migration(connection: asyncpg.Connection, number: int, name: str) -> None:
    """Notes that a migration has been applied."""
    await connection.execute(query("record_migration"), number, name)


async def ping(connection: asyncpg.Connection, limit: float) -> None:
    """Raises if the server does not answer within `limit` seconds."""
    await connection.execute(query("ping"), timeout=limit)


def _object_state(row: asyncpg.Record) -> ObjectState:
    values: dict[str, Any] = dict(row)
    values["attributes"] = json.loads(values["attributes"])
    values["columns"] = json.loads(values["columns"])
    return ObjectState(**values)


def _site_row(row: asyncpg.Record) -> SiteRow:
    values: dict[str, Any] = dict(row)
    values["cursor"] = values["cursor"] and json.loads(values["cursor"])
    return SiteRow(**values)
