"""The log's own cost: appends beside plain COPY of the same rows, and one event at a time."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import quantiles
from time import perf_counter, process_time

import asyncpg
import pytest
from harness.goals import goal
from harness.jobs import batches, interleaved_lives

from pbscast_deploy.embedded import PostgresServer
from pbscast_store.drafts import Draft
from pbscast_store.heads import Head, ObjectKey
from pbscast_store.log import Log
from pbscast_store.planning import EventRow, Plan, Tail, plan
from pbscast_store.writer import AppendResult, SiteWriter

pytestmark = pytest.mark.benchmark

_EVENTS = 60_000
_TURN = 12_000


@dataclass
class Spent:
    """Seconds that one side has taken, and those of processors here and in its server process."""

    time: float = 0.0
    client: float = 0.0
    server: float = 0.0

    @contextmanager
    def spending(self, connection: asyncpg.Connection) -> Iterator[None]:
        """Whatever is done meanwhile, by way of the connection."""
        server, client, time = _server_seconds(connection), process_time(), perf_counter()
        yield
        self.time += perf_counter() - time
        self.client += process_time() - client
        self.server += _server_seconds(connection) - server


def _server_seconds(connection: asyncpg.Connection) -> float:
    fields = Path(f"/proc/{connection.get_server_pid()}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


@pytest.mark.parametrize("size", [1000, 4000])
@pytest.mark.parametrize("in_flight", [1, 2])
async def test_append_beside_copy(own_postgres: PostgresServer, size: int, in_flight: int) -> None:
    """In turn, so that whatever else the machine does falls on both alike."""
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    copying = await asyncpg.connect(dsn)
    partition = await copying.fetchval("SELECT min(inhrelid::regclass::text) FROM pg_inherits")
    await copying.execute(f"CREATE TABLE floor (LIKE {partition} INCLUDING ALL)")
    copied, appended = Spent(), Spent()
    drafts = batches(interleaved_lives(), size)
    async with Log.open(dsn) as log:
        await log.register_site("sitea")
        writer = await log.acquire("sitea", "bench", 600)
        assert writer is not None
        heads: dict[ObjectKey, Head] = {}
        tail = Tail("sitea")
        while writer.position < _EVENTS:
            turn = list(islice(drafts, _TURN // size))
            plans = _plans(turn, heads, tail)
            tail = plans[-1].tail
            gc.collect()
            with copied.spending(copying):
                for planned in plans:
                    await _copy(copying, planned)
            with appended.spending(writer._connection):
                await _append(writer, turn, in_flight)
    await copying.close()
    print(f"\n{size} a batch, {in_flight} in flight; ratio {copied.time / appended.time:.2f}")
    for name, spent in ("append", appended), ("plain COPY", copied):
        print(
            f"{name}: {writer.position / spent.time:,.0f} events/s; processor time an event:"
            f" client {spent.client / writer.position * 1e6:.1f} µs,"
            f" server {spent.server / writer.position * 1e6:.1f} µs"
        )
    print(goal("events/s", writer.position / appended.time, ">=", 20_000))
    print(goal("of COPY", copied.time / appended.time, ">=", 0.6))


async def test_append_of_one_event(own_postgres: PostgresServer) -> None:
    """Beside the commit of a one-row INSERT, which waits for the same disk."""
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    inserting = await asyncpg.connect(dsn)
    await inserting.execute("CREATE TABLE floor (number int PRIMARY KEY)")
    appends, inserts = [], []
    async with Log.open(dsn) as log:
        await log.register_site("sitea")
        writer = await log.acquire("sitea", "bench", 600)
        assert writer is not None
        for number, batch in zip(range(2000), batches(interleaved_lives(), 1), strict=False):
            began = perf_counter()
            await inserting.execute("INSERT INTO floor VALUES ($1)", number)
            inserted = perf_counter()
            await writer.append(batch, {"seq": number})
            inserts.append(inserted - began)
            appends.append(perf_counter() - inserted)
    await inserting.close()
    print(f"\nappend of one event: {_spread(appends)}; INSERT of one row: {_spread(inserts)}")


def _plans(turn: list[list[Draft]], heads: dict[ObjectKey, Head], tail: Tail) -> list[Plan]:
    plans = []
    for batch in turn:
        plans.append(plan(batch, heads, tail, datetime.now(UTC)))
        heads |= plans[-1].heads
        tail = plans[-1].tail
    return plans


async def _append(writer: SiteWriter, turn: list[list[Draft]], in_flight: int) -> None:
    waiting: deque[asyncio.Task[AppendResult]] = deque()
    for number, batch in enumerate(turn):
        waiting.append(asyncio.create_task(writer.append(batch, {"seq": number})))
        await asyncio.sleep(0)
        if len(waiting) == in_flight:
            await waiting.popleft()
    await asyncio.gather(*waiting)


async def _copy(connection: asyncpg.Connection, planned: Plan) -> None:
    rows = [(*event, "sitea", planned.logged) for event in planned.events]
    async with connection.transaction():
        await connection.copy_records_to_table(
            "floor", records=rows, columns=[*EventRow._fields, "site", "logged"]
        )


def _spread(seconds: Sequence[float]) -> str:
    cuts = quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1000:.2f} ms, p99 {cuts[98] * 1000:.2f} ms"
