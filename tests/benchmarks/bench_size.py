"""Bytes an event takes: in the log, in an archive, and what plain rows of pgbench would take.

CHANGES sets how many the simulated PBS server saves (by default 5,000).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random

import asyncpg
import pytest
from harness.ingesting import as_reader, every_record, ingesting, is_resynced, wait_for
from harness.jobs import START

from pbscast.events import ChangePayload, EventName, Kind, Provenance
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import bundled_traces, read_trace
from pbscast_ingest.capture import install
from pbscast_store.archive.manifest import manifest_name
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.writing import Source, write
from pbscast_store.chain import GENESIS
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import Record

pytestmark = pytest.mark.benchmark

_CHANGES = int(os.environ.get("CHANGES", "5000"))
_PAGE = 1000
_QUIET_SECONDS = 3.0
_LONG = 40_000
_JOBS = 20
_ROUNDS = 100

_PLAIN_ROWS = 100_000

_SIZES = """
    SELECT
        coalesce(sum(pg_relation_size(oid)) FILTER (WHERE is_event), 0)::bigint AS rows,
        coalesce(sum(pg_relation_size(reltoastrelid)) FILTER (WHERE is_event), 0)::bigint AS toast,
        coalesce(sum(pg_indexes_size(oid)) FILTER (WHERE is_event), 0)::bigint AS indexes,
        coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE NOT is_event), 0)::bigint
            AS projection
    FROM (
        SELECT relid::oid AS oid, true FROM pg_partition_tree('pbscast_log.event') WHERE isleaf
        UNION ALL VALUES
            ('pbscast_log.object'::regclass::oid, false), ('pbscast_log.life'::regclass::oid, false)
    ) AS kept (oid, is_event)
    JOIN pg_class USING (oid)
"""
_PLAIN = """
    CREATE TEMPORARY TABLE plain (
        tid integer, bid integer, aid integer, delta integer, mtime timestamp, filler char(22)
    )
"""
_FILL = "INSERT INTO plain SELECT n, n, n, n, now() FROM generate_series(1, $1) AS n"
"""As the transactions of pgbench fill `pgbench_history`: no filler, and it has no index."""


async def _sizes(dsn: str) -> dict[str, int]:
    connection = await asyncpg.connect(dsn)
    try:
        (row,) = await connection.fetch(_SIZES)
        return dict(row)
    finally:
        await connection.close()


async def _plain(dsn: str) -> tuple[float, float]:
    """Bytes of a plain row, alone and with a primary key."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_PLAIN)
        await connection.execute(_FILL, _PLAIN_ROWS)
        bare = await connection.fetchval("SELECT pg_relation_size('plain')")
        await connection.execute("ALTER TABLE plain ADD PRIMARY KEY (tid)")
        index = await connection.fetchval("SELECT pg_indexes_size('plain')")
    finally:
        await connection.close()
    return bare / _PLAIN_ROWS, (bare + index) / _PLAIN_ROWS


async def _archive(directory: Path, records: list[Record]) -> None:
    site, partition = records[0].site, "event_p202611"
    (directory / manifest_name(site, partition)).parent.mkdir()
    last = records[-1].position
    source = Source(site, partition, 1, last, GENESIS, _pages(records), _mentions(records))
    await write(directory, source, "full")


def _bytes_below(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


async def _pages(records: list[Record]) -> AsyncGenerator[list[Record], None]:
    for begin in range(0, len(records), _PAGE):
        yield records[begin : begin + _PAGE]


async def _mentions(records: list[Record]) -> AsyncGenerator[list[Mention], None]:
    by_object = sorted(records, key=lambda record: (record.id, record.kind, record.position))
    yield [_mention(record) for record in by_object]


def _mention(record: Record) -> Mention:
    return Mention(
        *(record.id, record.kind, record.position, record.time, record.logged),
        *(record.incarnation, record.revision, record.event, len(record.payload.encode())),
    )


async def _tell(
    what: str, log: Log, dsn: str, empty: dict[str, int], sites: Iterable[str], directory: Path
) -> None:
    by_site = [await every_record(log, site) for site in sites]
    events = sum(map(len, by_site))
    filled = await _sizes(dsn)
    parts = {name: (size - empty[name]) / events for name, size in filled.items()}
    payload = sum(len(record.payload.encode()) for site in by_site for record in site) / events
    lives = {(r.site, r.kind, r.id, r.incarnation) for records in by_site for r in records}
    bare, keyed = await _plain(dsn)
    of_event = parts["rows"] + parts["toast"] + parts["indexes"]
    for records in by_site:
        await _archive(directory, records)
    print(
        f"\n{what}: {events:,} events of {len(lives):,} lives, payload {payload:.0f} bytes each."
        f" Log: {of_event:.0f} bytes an event (rows {parts['rows']:.0f}, TOAST"
        f" {parts['toast']:.0f}, indexes {parts['indexes']:.0f}); projection:"
        f" {parts['projection'] * events / len(lives):,.0f} bytes a life; archive:"
        f" {_bytes_below(directory) / events:.0f} bytes an event; pgbench_history: {bare:.0f} bytes"
        f" a row, with a primary key {keyed:.0f}: ratio {of_event / bare:.1f},"
        f" {of_event / keyed:.1f}"
    )


@pytest.mark.timeout(0)
async def test_size_of_the_recorded_traces(
    log: Log, log_dsn: str, new_datastore: Callable[[], str], tmp_path: Path
) -> None:
    empty, sites = await _sizes(log_dsn), bundled_traces()
    for site, path in sites.items():
        datastore = new_datastore()
        async with Replay(read_trace(path), datastore) as replay:
            await replay.seed()
            await _capture(log, datastore, site, partial(replay.run, speed=None))
    await _tell("recorded traces", log, log_dsn, empty, sites, tmp_path)


@pytest.mark.timeout(0)
async def test_size_of_simulated_load(
    log: Log, log_dsn: str, new_datastore: Callable[[], str], tmp_path: Path
) -> None:
    empty, datastore = await _sizes(log_dsn), new_datastore()
    async with LoadGenerator(datastore, "sitea") as load:
        await _capture(log, datastore, "sitea", partial(load.run, changes=_CHANGES))
    await _tell("simulated load", log, log_dsn, empty, ["sitea"], tmp_path)


async def _capture(
    log: Log, datastore: str, site: str, run: Callable[[], Awaitable[object]]
) -> None:
    """Runs it, and waits until nothing more of it is logged."""
    await asyncio.to_thread(install, datastore, site=site)
    async with ingesting(log, as_reader(datastore), site):
        await wait_for(log, is_resynced, site)
        await run()
        before = -1
        while before != (before := await log.position(site)):  # noqa: ASYNC110 - an end, no event
            await asyncio.sleep(_QUIET_SECONDS)


@pytest.mark.timeout(0)
async def test_a_long_variable_list_is_kept_twice_whatever_follows(log: Log, log_dsn: str) -> None:
    """In the event that says it and in the projection: text that hardly compresses."""
    empty, random = await _sizes(log_dsn), Random(0)
    await log.register_site("sitea")
    writer = await log.acquire("sitea", "test", 60)
    assert writer is not None
    for number in range(_JOBS):
        variables = {"Variable_List": random.randbytes(_LONG // 2).hex()}
        await writer.append([_draft(number, EventName.SUBMIT, variables)], {})
    submitted = await _sizes(log_dsn)
    for round_ in range(_ROUNDS):
        used = {"resources_used.walltime": f"00:{round_ // 60:02}:{round_ % 60:02}"}
        drafts = [_draft(number, EventName.USAGE, used) for number in range(_JOBS)]
        await writer.append(drafts, {})
    filled = await _sizes(log_dsn)
    first = (sum(submitted.values()) - sum(empty.values())) / _JOBS
    later = (sum(filled.values()) - sum(submitted.values())) / (_JOBS * _ROUNDS)
    print(
        f"\nVariable_List of {_LONG:,} bytes: {first:,.0f} bytes for the job's first event, log and"
        f" projection; {later:,.0f} for each of {_ROUNDS} events after it"
    )
    assert later < _LONG / 20


def _draft(number: int, event: EventName, changed: dict[str, str]) -> Draft:
    payload = ChangePayload(owner="alice", queue="workq", state="R", substate=42, changed=changed)
    begins = event is EventName.SUBMIT
    job = f"{number}.sitea"
    return Draft(Kind.JOB, job, event, START, Provenance.JOURNAL, payload, begins, None, False)  # noqa: FBT003
