"""Reading a log of many months: what is looked into, and what is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from harness.months import SITE, Months
from harness.servers import Databases

from pbscast.selection import Selection
from pbscast_store import search
from pbscast_store.bounds import EVER, NEVER
from pbscast_store.choice import at_any_time
from pbscast_store.log import Log
from pbscast_store.source import EventTable, LifeSpan, Window
from pbscast_store.statements import query

EVENTS = 15_000
LIVE = 100


@pytest.fixture(scope="module")
def filled(log_server: str, _log_template: str) -> Iterator[tuple[str, Months]]:
    """A log that no test changes."""
    databases = Databases(log_server)
    dsn = databases.create(_log_template)
    yield dsn, asyncio.run(_fill(dsn))
    databases.drop_all()


async def _fill(dsn: str) -> Months:
    connection = await asyncpg.connect(dsn)
    months = Months(connection, events=EVENTS, live=LIVE, span=timedelta(days=150))
    await months.prepare()
    await months.grow(EVENTS)
    await connection.close()
    return months


@pytest.fixture
def months(filled: tuple[str, Months]) -> Months:
    return filled[1]


@pytest.fixture
async def log(filled: tuple[str, Months]) -> AsyncIterator[Log]:
    async with Log.open(filled[0]) as log:
        yield log


@pytest.fixture
async def connection(filled: tuple[str, Months]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled[0])
    yield connection
    await connection.close()


async def plan(connection: asyncpg.Connection, name: str, *arguments: Any) -> str:
    """What is done for these arguments; parts that are never executed are left out."""
    rows = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {query(name)}", *arguments)
    lines = [row[0] for row in rows]
    return "\n".join(line for line in lines if "never executed" not in line)


async def test_searches_go_by_index(
    log: Log, months: Months, connection: asyncpg.Connection
) -> None:
    everybody = (await search.resolve(log._pool, Selection())).criteria
    queued = at_any_time(Selection(queues=("q",), projects=("p",), names=("n*",), states=("Q",)))
    assert (await search.resolve(log._pool, queued)).criteria == everybody
    somebody = (await search.resolve(log._pool, Selection(owners=("user7",)))).criteria
    then = months.now - timedelta(days=60)
    day = then, then + timedelta(days=1)
    asked: dict[str, tuple[str, str, tuple[object, ...]]] = {
        "live at a time": ("live_then", "life_span", (*everybody, SITE, then, None, False, 0, 50)),
        "live at a position": (
            "live_then",
            "life_first",
            (*everybody, SITE, None, months.position // 2, False, 0, 50),
        ),
        "of an owner": ("lives_newest", "life_owner", (*somebody, SITE, None, None, 2**40, 50)),
        "newest": ("lives_newest", "life_first", (*everybody, SITE, None, None, 2**40, 50)),
        "of a day": ("chosen_lives", "life_span", (*everybody, SITE, *day, 0, 2**40, 50)),
        "now": ("standing_now", "object_living", (*everybody, SITE, False, False, 0, 50)),
    }
    for what, (name, index, arguments) in asked.items():
        text = await plan(connection, name, *arguments)
        assert index in text, (what, text)
        assert not re.search(r"Seq Scan on (event|life|object)", text), (what, text)


async def test_a_job_is_looked_for_where_it_can_be(
    log: Log, months: Months, connection: asyncpg.Connection
) -> None:
    """In the months of its life: no other partition is read."""
    job = f"{months.ended // 2}.{SITE}"
    records = await log.history("job", job)
    assert [record.revision for record in records] == list(range(1, 11))
    [life] = (await log.lives(Selection(ids=(job,)))).lives
    span = LifeSpan(job, 1, life.first_position, life.last_position)
    table = EventTable(log._pool)
    [since], [until] = await table._bounds.logged(SITE, [span.first], [span.last])
    assert since <= records[0].logged <= records[-1].logged < until
    assert until - since < timedelta(days=63)
    columns = [[value] for value in span]
    arguments = ("job", SITE, *columns, 0, 2**40, None, None, 100, [since], [until])
    text = await plan(connection, "life_places_oldest", *arguments)
    read = set(re.findall(r"using (event_p\d+)", text))
    assert read == {f"event_p{record.logged:%Y%m}" for record in records}
    assert "Seq Scan" not in text


async def test_the_end_of_the_log_is_read_where_it_can_be(
    log: Log, months: Months, connection: asyncpg.Connection
) -> None:
    """Neither months that are over nor an index of theirs is looked into."""
    table = EventTable(log._pool)
    after = months.position - 20
    [since], [until] = await table._bounds.logged(SITE, [after + 1], [after + 100])
    text = await plan(connection, "read_events", SITE, after, 100, 10**6, since, until)
    read = set(re.findall(r"using (event_p\d+)", text))
    records = await log.read(SITE, after, 100)
    assert [record.position for record in records] == list(range(after + 1, months.position + 1))
    assert {f"event_p{record.logged:%Y%m}" for record in records} <= read
    assert all(name >= f"event_p{records[0].logged:%Y%m}" for name in read)


async def test_all_is_read_page_by_page(log: Log, months: Months) -> None:
    found: list[int] = []
    while page := await log.read(SITE, len(found), 1_999):
        found += [record.position for record in page]
    assert found == list(range(1, months.position + 1))


async def test_a_long_life_is_read_from_where_a_range_of_time_begins(
    log: Log, months: Months, connection: asyncpg.Connection
) -> None:
    table = EventTable(log._pool)
    span = LifeSpan(f"{months.ended}.{SITE}", 1, 1, months.position)
    begin = months.now - timedelta(days=10)
    for window in (Window(begin=begin), Window(begin=begin, newest_first=True)):
        [since], [_] = await table._logged(SITE, [span], window)
        assert begin - timedelta(days=2) <= since <= begin
    [since], [_] = await table._logged(SITE, [span], Window())
    assert since < months.now - timedelta(days=100)
    events = await log.events(Selection(), begin=begin, limit=10_000)
    every = await log.read(SITE, 0, 100_000, max_bytes=10**9)
    wanted = [record.position for record in every if record.time >= begin]
    assert [record.position for record in events.records] == wanted


async def test_bounds_hold_what_comes_after_they_were_looked_up(log: Log, months: Months) -> None:
    """Positions behind the last known beginning of a partition may be in any later one."""
    bounds = EventTable(log._pool)._bounds
    since, until = await bounds.logged(SITE, [1, months.position], [1, months.position + 1])
    assert until[0] < since[1]
    assert until[1] == EVER
    assert await bounds.logged("elsewhere", [1], [1]) == ([NEVER], [EVER])


async def test_those_live_at_any_moment_are_found(log: Log, months: Months) -> None:
    for days in (20, 60, 100):
        moment = months.now - timedelta(days=days)
        page = await log.at(Selection(), moment)
        assert len(page.rows) == pytest.approx(LIVE, abs=11)
        for _, standing in page.rows:
            assert standing.began <= moment
        by_id = await log.at(Selection(ids=tuple(row.id for _, row in page.rows)), moment)
        assert by_id.rows == page.rows


async def test_pages_of_many_lives_make_the_whole(log: Log, months: Months) -> None:
    found: list[int] = []
    positions: dict[str, int] = {}
    more = True
    while more:
        page = await log.events(
            Selection(names=("name7", "name8")), newest_first=True, positions=positions, limit=100
        )
        found += [record.position for record in page.records]
        positions, more = page.positions, page.more
    wanted = [f"user{number}" for number in range(1_000) if number % 50 in {7, 8}]
    by_owner = await log.events(Selection(owners=tuple(wanted)), newest_first=True, limit=10_000)
    assert found == [record.position for record in by_owner.records]
    assert len(found) > 400


async def test_a_window_is_read_in_both_orders(log: Log, months: Months) -> None:
    table = EventTable(log._pool)
    for newest_first in (False, True):
        window = Window(after=100, before=111, newest_first=newest_first)
        places = await table.scanned_places(SITE, "job", window, 100)
        found = [place.position for place in places]
        assert found == sorted(range(101, 111), reverse=newest_first)
