"""Ingest at work on a datastore and a log of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pbscast.events import Change, EventName, Finalize, Kind
from pbscast_deploy.oracle import End, Oracle
from pbscast_ingest.capture.script import DEFAULT_READER
from pbscast_ingest.worker import SiteWorker
from pbscast_store.log import Log
from pbscast_store.records import Record

Lives = dict[tuple[str, int], tuple[list[tuple[str, int]], End | None]]


def as_reader(dsn: str) -> str:
    """The same datastore for the role with the least rights."""
    assert dsn.startswith("postgresql://postgres@")
    return dsn.replace("//postgres@", f"//{DEFAULT_READER}@", 1)


@asynccontextmanager
async def ingesting(
    log: Log, dsn: str, site: str = "sitea", holder: str = "test", ttl: float = 10.0
) -> AsyncIterator[SiteWorker]:
    """A worker that runs meanwhile and stops in good order."""
    worker = SiteWorker(log, site, dsn, holder, ttl=ttl)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task


async def every_record(log: Log, site: str = "sitea") -> list[Record]:
    """The whole log of a site."""
    records: list[Record] = []
    while page := await log.read(site, records[-1].position if records else 0, 1000):
        records += page
    return records


async def wait_for(
    log: Log, condition: Callable[[list[Record]], bool], site: str = "sitea"
) -> list[Record]:
    """The log once the condition holds of it; the test's time limit bounds the wait."""
    async with log.watch() as bell:
        while not condition(records := await every_record(log, site)):
            await bell.wait(1.0)
    return records


def is_resynced(records: list[Record]) -> bool:
    """Whether the tables were compared since the last gap."""
    names = [record.event for record in records if record.kind == Kind.SITE]
    words = [name for name in names if name in (EventName.GAP, EventName.RESYNC)]
    return words[-1:] == [EventName.RESYNC]


def lives_of(records: list[Record]) -> Lives:
    """What the log says of every incarnation of a job, in the oracle's words."""
    lives: Lives = {}
    for record in records:
        if record.kind != Kind.JOB:
            continue
        visible, end = lives.setdefault((record.id, record.incarnation), ([], None))
        event = record.decode()
        if isinstance(event, Finalize):
            assert end is None, record
            lives[record.id, record.incarnation] = (
                visible,
                End(event.reason.value, event.exit_status),
            )
        elif isinstance(event, Change) and event.event != EventName.PURGE:
            state = (event.state or "", event.substate or 0)
            if not visible or visible[-1] != state:
                visible.append(state)
    return lives


def expected_lives(oracle: Oracle) -> Lives:
    """The same of what the datastore committed."""
    return {key: (life.visible, life.end) for key, life in oracle.lives.items()}


def assert_gapless(records: list[Record]) -> None:
    """Positions of the site and revisions of every incarnation are 1, 2, 3 …."""
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    revisions: dict[tuple[str, str, int], int] = {}
    for record in records:
        key = (record.kind, record.id, record.incarnation)
        assert record.revision == revisions.get(key, 0) + 1, record
        revisions[key] = record.revision
