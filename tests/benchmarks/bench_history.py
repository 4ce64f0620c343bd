"""What the log answers with, as it grows: one job's history, all live jobs of a moment, searches.

EVENTS=10000000 makes the log so large; by default it is a million, over a year.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from statistics import quantiles
from time import perf_counter

import asyncpg
import pytest
from harness.months import SITE, Months

from pbscast.selection import Selection
from pbscast_deploy.embedded import PostgresServer
from pbscast_store.log import Log
from pbscast_store.standings import Spot

pytestmark = pytest.mark.benchmark

_EVENTS = int(os.environ.get("EVENTS", "1_000_000"))
_LIVE = 10_000
_JOBS = 200


async def test_reading_as_the_log_grows(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    connection = await asyncpg.connect(dsn)
    live = min(_LIVE, _EVENTS // 100)
    months = Months(connection, events=_EVENTS, live=live, span=timedelta(days=365))
    await months.prepare()
    async with Log.open(dsn) as log:
        first: float | None = None
        for events in _sizes():
            began = perf_counter()
            await months.grow(events)
            size = await connection.fetchval("SELECT pg_database_size(current_database())")
            print(
                f"\n{months.position:,} events, {size / 1e9:.2f} GB"
                f" (written in {perf_counter() - began:.0f} s)"
            )
            spent = await _report(log, months)
            first = first or spent
            print(f"  history of a job, times that of {_sizes()[0]:,} events: {spent / first:.2f}")
    await connection.close()


def _sizes() -> list[int]:
    return [size for size in (100_000, 1_000_000, 10_000_000) if size < _EVENTS] + [_EVENTS]


async def _report(log: Log, months: Months) -> float:
    """What each question takes; gives the p50 of a job's history in milliseconds."""
    random = Random(1)
    ended = max(1, months.ended)

    async def history() -> int:
        return len(await log.history("job", f"{random.randrange(ended)}.{SITE}"))

    async def at_id() -> int:
        selection = Selection(ids=(f"{random.randrange(ended)}.{SITE}",))
        return len((await log.at(selection, months.now, attributes=True)).rows)

    async def owner() -> int:
        selection = Selection(owners=(f"user{random.randrange(1_000)}",))
        return len((await log.events(selection, newest_first=True, limit=100)).records)

    async def rare() -> int:
        page = await log.lives(Selection(names=("nothing",)), limit=100)
        return len(page.lives)

    async def newest() -> int:
        return len((await log.events(Selection(), newest_first=True, limit=1000)).records)

    async def day() -> int:
        begin = months.now - timedelta(days=30)
        page = await log.events(Selection(), begin=begin, end=begin + timedelta(days=1))
        return len(page.records)

    spent = await _measure("history of a job", history, _JOBS)
    await _measure("a job with attributes at a moment", at_id, _JOBS)
    await _measure("newest 100 events of an owner", owner, 20)
    await _measure("a search that finds nothing", rare, 3)
    await _measure("newest 1000 events of all jobs", newest, 3)
    await _measure("1000 events of a day a month ago", day, 3)
    for label, back in (("now", 0.0), ("half way back", 0.5)):
        moment = months.now - timedelta(days=365) * back * months.position / _EVENTS
        began = perf_counter()
        rows, pages = await _all_at(log, moment)
        seconds = perf_counter() - began
        print(f"  {'all live jobs, ' + label:40} {seconds:9.2f} s   ({rows:,} in {pages} pages)")
    return spent


async def _all_at(log: Log, moment: object) -> tuple[int, int]:
    rows = pages = 0
    after: Spot | None = None
    while True:
        page = await log.at(Selection(), moment, after=after, limit=5_000)  # type: ignore[arg-type]
        rows += len(page.rows)
        pages += 1
        if page.next is None:
            return rows, pages
        after = page.next


async def _measure(label: str, ask: Callable[[], Awaitable[int]], times: int) -> float:
    found = await ask()
    spent = []
    for _ in range(times):
        began = perf_counter()
        found = await ask()
        spent.append((perf_counter() - began) * 1000)
    cuts = quantiles(spent, n=20)
    print(f"  {label:40} p50 {cuts[9]:9.2f} ms, p95 {cuts[18]:9.2f} ms   ({found} rows)")
    return cuts[9]
