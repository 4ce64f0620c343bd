"""What logs of three sizes answer with, asked in turn: history, searches, how all jobs stood once.

EVENTS=10000000 makes the largest so large; by default it is a million. Each is of a year.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from statistics import quantiles
from time import perf_counter
from typing import Final

import asyncpg
import pytest
from harness.goals import goal
from harness.months import SITE, Months

from pbscast.selection import Selection
from pbscast_deploy.embedded import PostgresServer
from pbscast_store.log import Log
from pbscast_store.standings import Spot

pytestmark = pytest.mark.benchmark

_EVENTS = int(os.environ.get("EVENTS", "1_000_000"))
_SIZES: Final = sorted({min(size, _EVENTS) for size in (100_000, 1_000_000, _EVENTS)})
_LIVE: Final = 10_000
_YEAR: Final = timedelta(days=365)


@dataclass
class _Asked:
    """A log, and what it is asked."""

    log: Log
    months: Months
    random: Random

    def _ended(self) -> str:
        return f"{self.random.randrange(max(1, self.months.ended))}.{SITE}"

    async def history(self) -> int:
        return len(await self.log.history("job", self._ended()))

    async def at_id(self) -> int:
        selection = Selection(ids=(self._ended(),))
        return len((await self.log.at(selection, self.months.now, attributes=True)).rows)

    async def owner(self) -> int:
        selection = Selection(owners=(f"user{self.random.randrange(1_000)}",))
        return len((await self.log.events(selection, newest_first=True, limit=100)).records)

    async def nothing(self) -> int:
        return len((await self.log.lives(Selection(names=("nothing",)), limit=100)).lives)

    async def newest(self) -> int:
        return len((await self.log.events(Selection(), newest_first=True, limit=1000)).records)

    async def day(self) -> int:
        begin = self.months.now - timedelta(days=30)
        end = begin + timedelta(days=1)
        return len((await self.log.events(Selection(), begin=begin, end=end)).records)

    async def live_now(self) -> int:
        return await self._live(self.months.now)

    async def live_then(self) -> int:
        return await self._live(self.months.now - _YEAR / 2)

    async def _live(self, moment: datetime) -> int:
        rows = 0
        after: Spot | None = None
        while True:
            page = await self.log.at(Selection(), moment, after=after, limit=5_000)
            rows += len(page.rows)
            if page.next is None:
                return rows
            after = page.next


_QUESTIONS: Final[tuple[tuple[str, Callable[[_Asked], Awaitable[int]], int], ...]] = (
    ("history of a job", _Asked.history, 500),
    ("a job with attributes at a moment", _Asked.at_id, 200),
    ("newest 100 events of an owner", _Asked.owner, 50),
    ("a search that finds nothing", _Asked.nothing, 20),
    ("newest 1000 events of all jobs", _Asked.newest, 20),
    ("1000 events of a day a month ago", _Asked.day, 20),
    ("all live jobs, now", _Asked.live_now, 10),
    ("all live jobs, half a year ago", _Asked.live_then, 10),
)

_LIMITS: Final = {"history of a job": 10.0, "all live jobs, half a year ago": 2000.0}
"""Milliseconds at ten million events (EVENTS=10000000)."""


async def test_reading_logs_of_three_sizes(own_postgres: PostgresServer) -> None:
    async with AsyncExitStack() as stack:
        asked = [await _make(own_postgres, size, stack) for size in _SIZES]
        for label, ask, times in _QUESTIONS:
            await _measure(label, ask, times, asked)
        print(f"load {os.getloadavg()[0]:.1f}")


async def _make(server: PostgresServer, size: int, stack: AsyncExitStack) -> _Asked:
    admin = await asyncpg.connect(server.dsn())
    await admin.execute(f"CREATE DATABASE log_{size}")
    await admin.close()
    dsn = server.dsn(f"log_{size}")
    await Log.migrate_at(dsn)
    connection = await asyncpg.connect(dsn)
    months = Months(connection, events=size, live=_LIVE, span=_YEAR)
    began = perf_counter()
    await months.prepare()
    await months.grow(size)
    bytes_ = await connection.fetchval("SELECT pg_database_size(current_database())")
    await connection.close()
    spent = perf_counter() - began
    print(f"\n{months.position:,} events, {bytes_ / 1e9:.2f} GB, written in {spent:.0f} s", end="")
    return _Asked(await stack.enter_async_context(Log.open(dsn)), months, Random(1))


async def _measure(
    label: str, ask: Callable[[_Asked], Awaitable[int]], times: int, logs: list[_Asked]
) -> None:
    """Ask all in turn, so that whatever else the machine does bears on each alike."""
    rows = [await ask(log) for log in logs]
    spent: list[list[float]] = [[] for _ in logs]
    for _ in range(times):
        for log, durations in zip(logs, spent, strict=True):
            began = perf_counter()
            await ask(log)
            durations.append((perf_counter() - began) * 1000)
    print(f"\n{label}")
    medians = [quantiles(durations, n=20)[9] for durations in spent]
    for size, found, durations, median in zip(_SIZES, rows, spent, medians, strict=True):
        print(
            f"  {size:>10,} events: least {min(durations):9.2f} ms, p50 {median:9.2f},"
            f" p95 {quantiles(durations, n=20)[18]:9.2f}, times the smallest"
            f" {median / medians[0]:5.2f}   ({found:,} rows)"
        )
    if limit := _LIMITS.get(label):
        print(goal(f"ms at {_SIZES[-1]:,} events", medians[-1], "<=", limit))
