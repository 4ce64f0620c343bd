"""The table and the archives together answer what the table alone would have answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from harness.archiving import (
    DAY,
    THIN_ALL,
    Archived,
    archive,
    commented_usage,
    give_past,
    months_ago,
    whole,
    write_at,
    write_months,
)
from harness.servers import Databases

from pbscast.errors import DecodeError, NotFoundError
from pbscast.events import Site
from pbscast.lives import Standing
from pbscast.revisions import Revisions
from pbscast.selection import Selection
from pbscast_store.archive.archives import Archives
from pbscast_store.archive.keeping import Kept
from pbscast_store.archive.manifest import manifest_name
from pbscast_store.log import Log
from pbscast_store.records import Record
from pbscast_store.source import EventSource, EventTable, LifeSpan, Window
from pbscast_store.standings import Spot

SITES = ("sitea", "siteb")
EACH = 80
LAST = 4 * EACH


class Pair:
    """The same log twice: with all in PostgreSQL, and with three months of four archived."""

    def __init__(self, plain: Log, kept: Log, records: list[Record]) -> None:
        self.plain = plain
        self.kept = kept
        self.table: EventSource = EventTable(plain._pool)
        self.joined: EventSource = kept._source
        self.records = records
        """Of the first site."""
        self.random = Random(7)

    def window(self) -> Window:
        after, before = sorted(self.random.choices(range(LAST + 2), k=2))
        begin, end = sorted(self.moment() for _ in range(2))
        return Window(
            after=self.random.choice([0, after]),
            before=self.random.choice([LAST + 1, before]),
            begin=self.random.choice([None, begin]),
            end=self.random.choice([None, end]),
            newest_first=self.random.random() < 0.5,
        )

    def moment(self) -> datetime:
        days, seconds = self.random.choice([0, 1, 1, 1, 40, 70]), self.random.randrange(EACH)
        return months_ago(self.random.randrange(4)) + timedelta(days=days, seconds=seconds)

    def lives(self) -> list[LifeSpan]:
        jobs = self.random.sample(sorted({one.id for one in self.records}), k=12)
        return [self.life(job) for job in jobs]

    def life(self, job: str) -> LifeSpan:
        positions = [one.position for one in self.records if one.id == job]
        return LifeSpan(job, 1, positions[0], positions[-1])


@pytest.fixture(scope="module")
def twins(
    log_server: str, _log_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Path]]:
    """URIs of both logs, and where the archives of the second are."""
    databases = Databases(log_server)
    plain = databases.create(_log_template)
    asyncio.run(_write(plain))
    kept = databases.create(urlsplit(plain).path.removeprefix("/"))
    directory = tmp_path_factory.mktemp("archive")
    asyncio.run(archive(kept, directory))
    yield plain, kept, directory
    databases.drop_all()


async def _write(dsn: str) -> None:
    async with Log.open(dsn) as log:
        await write_months(log, dsn, *SITES, each=EACH)


@pytest.fixture
async def pair(twins: tuple[str, str, Path]) -> AsyncIterator[Pair]:
    plain, kept, directory = twins
    async with Log.open(plain) as one, Log.open(kept, directory) as two:
        records = await whole(one, "sitea")
        assert {record.event for record in records} >= {"usage", "finalize"}
        yield Pair(one, two, records)


async def test_places_are_the_same(pair: Pair) -> None:
    for _ in range(40):
        window, limit = pair.window(), pair.random.choice([1, 7, 1000])
        lives = pair.lives()
        for asked in (
            ("life_places", "sitea", "job", lives, window, limit),
            ("scanned_places", "sitea", "job", window, limit),
        ):
            name, *arguments = asked
            expected = await getattr(pair.table, name)(*arguments)
            found = await getattr(pair.joined, name)(*arguments)
            assert found == expected, asked
        assert await pair.joined.events_at(found) == await pair.table.events_at(found)


async def test_last_events_are_the_same(pair: Pair) -> None:
    told = 0
    for _ in range(25):
        lives = pair.lives()
        for moment in (pair.moment(), pair.random.randrange(LAST + 5)):
            asked = ("sitea", "job", lives, moment, pair.random.choice([3, 4096]))
            expected = await pair.table.last_events(*asked)
            assert await pair.joined.last_events(*asked) == expected
            told += len(expected)
    assert told


async def test_the_events_of_lives_are_the_same(pair: Pair) -> None:
    lives = [pair.life(job) for job in dict.fromkeys(one.id for one in pair.records)]
    pair.random.shuffle(lives)

    assert await _all_of(pair.joined, lives) == await _all_of(pair.table, lives)
    assert len(await _all_of(pair.joined, lives)) == LAST
    assert await _all_of(pair.joined, []) == []


async def test_reading_goes_from_one_to_the_other(pair: Pair) -> None:
    for after in (0, 50, 3 * EACH - 1, 3 * EACH, LAST - 1, LAST):
        page = await pair.joined.read("sitea", after, 10, 2**20)
        assert page == pair.records[after : after + len(page)]
        assert bool(page) == (after < LAST)


async def test_history_and_moments_are_the_same(pair: Pair) -> None:
    jobs = pair.random.sample(sorted({one.id for one in pair.records}), k=3)
    told = 0
    for selection in (
        Selection(ids=tuple(jobs)),
        Selection(owners=("alice",), sites=(Site("sitea"),)),
        Selection(states=("F",), reached=("R",)),
    ):
        for begin, end in [(None, None), (months_ago(3), months_ago(1)), (months_ago(1), None)]:
            for newest_first in (False, True):
                asked = {"begin": begin, "end": end, "newest_first": newest_first}
                expected = await _events(pair.plain, selection, **asked)
                assert await _events(pair.kept, selection, **asked) == expected
                told += len(expected)
        moments: list[datetime | dict[str, int]] = [{"sitea": 77}, {"sitea": LAST - 5}]
        moments += [record.time for record in pair.random.sample(pair.records, k=3)]
        for moment in moments:
            before = await _standings(pair.plain, selection, moment)
            assert await _standings(pair.kept, selection, moment) == before
            told += len(before)
    assert told > LAST


async def test_differences_are_the_same(pair: Pair) -> None:
    begin, end = months_ago(3) + timedelta(days=1, seconds=30), months_ago(2) + timedelta(days=2)
    spans: list[tuple[datetime | dict[str, int], datetime | dict[str, int]]]
    spans = [(begin, end), ({"sitea": 100}, {"sitea": LAST - 100})]
    for first, second in spans:
        expected = await pair.plain.difference(Selection(), first, second)
        assert expected.rows
        assert await pair.kept.difference(Selection(), first, second) == expected


async def _events(log: Log, selection: Selection, **asked: Any) -> list[Record]:
    found: list[Record] = []
    positions: dict[str, int] = {}
    while True:
        page = await log.events(selection, positions=positions, limit=100, **asked)
        found += page.records
        positions = page.positions
        if not page.more:
            return found


async def _standings(
    log: Log, selection: Selection, moment: datetime | dict[str, int]
) -> list[Standing]:
    found: list[Standing] = []
    after: Spot | None = None
    while True:
        page = await log.at(selection, moment, attributes=True, after=after, limit=50)
        found += [standing for _, standing in page.rows]
        after = page.next
        if after is None:
            return found


async def _all_of(source: EventSource, lives: list[LifeSpan]) -> list[Record]:
    async with aclosing(source.events_of("sitea", "job", lives)) as records:
        return [record async for record in records]


async def test_questions_about_today_need_no_archive(
    twins: tuple[str, str, Path], tmp_path: Path
) -> None:
    """Where the log begins is registered; archives that are over are not opened."""
    plain, kept, _ = twins
    moment = months_ago(0) + timedelta(days=1, seconds=5)
    async with Log.open(plain) as whole_log, Log.open(kept, archives=tmp_path) as log:
        now = datetime.now(UTC)
        assert (await log.at(Selection(), now)).rows == (await whole_log.at(Selection(), now)).rows
        position = await log.position_before("sitea", moment)
        assert position == await whole_log.position_before("sitea", moment)
        [last] = await whole_log.read("sitea", position, 1)
        assert last.time == moment
        with pytest.raises(NotFoundError, match="the log begins at"):
            await log.at(Selection(), months_ago(0) - timedelta(days=3000))


async def test_a_moment_is_told_while_archives_are_thinned(
    log_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=60, months=1)
        records = await whole(log, "sitea")
    moment = next(one.time for one in records if one.event == "usage")
    await archive(log_dsn, tmp_path / "archive")
    at = Archives.at
    thinned: list[Kept] = []

    async def late(self: Archives, site: str, positions: Collection[int]) -> dict[int, Record]:
        """Its index has been read."""
        if not thinned:
            thinned.extend(await archive(log_dsn, tmp_path / "archive", THIN_ALL))
        return await at(self, site, positions)

    async with Log.open(log_dsn, tmp_path / "archive") as log:
        before = (await log.at(Selection(), moment)).rows
        monkeypatch.setattr(Archives, "at", late)
        meanwhile = (await log.at(Selection(), moment)).rows
        assert thinned
        assert [one.id for _, one in meanwhile] == [one.id for _, one in before]
        assert [one.state for _, one in meanwhile] == [one.state for _, one in before]


async def test_a_history_shows_how_many_of_its_events_were_thinned(
    log_dsn: str, tmp_path: Path
) -> None:
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=60, months=1)
        before = await whole(log, "sitea")
    await archive(log_dsn, tmp_path / "archive", THIN_ALL)
    async with Log.open(log_dsn, tmp_path / "archive") as log:
        left = await whole(log, "sitea")
    ends = {(one.id, one.incarnation): one.revision for one in left}
    gone = {one.position for one in before} - {one.position for one in left}
    lost = [one for one in before if one.position in gone]
    between = [one for one in lost if one.revision < ends.get((one.id, one.incarnation), 0)]
    counted = Revisions()
    for record in left:
        counted.observe(record.decode())
    assert counted.missing == len(between) > 0


async def test_an_index_that_names_what_was_thinned_is_an_error(
    log_dsn: str, tmp_path: Path
) -> None:
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=60, months=1)
        [used, *_] = [one for one in await whole(log, "sitea") if one.event == "usage"]
    directory = tmp_path / "archive"
    path = directory / manifest_name("sitea", f"event_p{months_ago(1):%Y%m}")
    await archive(log_dsn, directory)
    mentioned = Archived(path).rows("objects")
    await archive(log_dsn, directory, THIN_ALL)
    Archived(path).write("objects", mentioned)
    async with Log.open(log_dsn, directory) as log:
        with pytest.raises(DecodeError, match="tells of this event, which is not there"):
            await log.at(Selection(), used.time)


async def test_a_clock_that_is_days_ahead_hides_the_same_before_and_after(
    log_dsn: str, tmp_path: Path
) -> None:
    logged = months_ago(1) + DAY
    async with Log.open(log_dsn) as log:
        await give_past(log_dsn, 1)
        drafts = [commented_usage("1.sitea", logged + n * DAY / 2) for n in range(10)]
        await write_at(log, "sitea", logged, [replace(drafts[0], begins=True), *drafts[1:]])
    selections = (Selection(), Selection(ids=("1.sitea",)), Selection(owners=("alice",)))
    asked = [(one, n * DAY) for one in selections for n in range(5)]

    async def answers(directory: Path | None) -> list[list[Record]]:
        async with Log.open(log_dsn, directory) as log:
            return [await _events(log, one, begin=logged + ahead) for one, ahead in asked]

    before = await answers(None)
    await archive(log_dsn, tmp_path / "archive")
    assert await answers(tmp_path / "archive") == before
