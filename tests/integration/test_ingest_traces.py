"""The recorded traces, written as PBS wrote them, come out of the log as the oracle expects."""

from __future__ import annotations

import asyncio

import pytest
from harness.ingesting import (
    as_reader,
    assert_gapless,
    expected_lives,
    ingesting,
    is_resynced,
    lives_of,
    wait_for,
)

from pbscast.events import EventName, Kind
from pbscast_deploy.oracle import Oracle, expect
from pbscast_deploy.simulator.record import commits_of
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import bundled_traces, read_trace
from pbscast_ingest.capture import install
from pbscast_store.log import Log
from pbscast_store.records import Record


def _has_ended(oracle: Oracle, records: list[Record]) -> bool:
    wanted = sum(life.end is not None for life in oracle.lives.values())
    ends = sum(record.event == EventName.FINALIZE for record in records)
    return ends >= wanted


@pytest.mark.parametrize("site", ["sitea", "siteb"])
async def test_a_trace_is_told_as_it_was(site: str, log: Log, datastore_dsn: str) -> None:
    changes = read_trace(bundled_traces()[site])
    oracle = expect(commits_of(changes))
    async with Replay(changes, datastore_dsn) as replay:
        await replay.seed()
        await asyncio.to_thread(install, datastore_dsn, site=site)
        async with ingesting(log, as_reader(datastore_dsn), site):
            await wait_for(log, is_resynced, site)
            await replay.run(speed=None)
            records = await wait_for(log, lambda found: _has_ended(oracle, found), site)
    assert_gapless(records)
    assert lives_of(records) == expected_lives(oracle)
    assert not [record for record in records if record.event == EventName.GAP]


@pytest.mark.parametrize("site", ["sitea", "siteb"])
async def test_a_trace_that_was_over_before_ingest_came(
    site: str, log: Log, datastore_dsn: str
) -> None:
    changes = read_trace(bundled_traces()[site])
    oracle = expect(commits_of(changes))
    async with Replay(changes, datastore_dsn) as replay:
        await replay.seed()
        await asyncio.to_thread(install, datastore_dsn, site=site)
        await replay.run(speed=None)
    async with ingesting(log, as_reader(datastore_dsn), site):
        await wait_for(log, is_resynced, site)
        records = await wait_for(log, lambda found: _has_ended(oracle, found), site)
    assert_gapless(records)
    assert lives_of(records) == expected_lives(oracle)


async def test_the_log_ends_where_the_datastore_ends(log: Log, datastore_dsn: str) -> None:
    changes = read_trace(bundled_traces()["sitea"])
    async with Replay(changes, datastore_dsn) as replay:
        await replay.seed()
        await asyncio.to_thread(install, datastore_dsn, site="sitea")
        async with ingesting(log, as_reader(datastore_dsn)):
            await wait_for(log, is_resynced)
            await replay.run(speed=None)
            last = changes[-1]
            await wait_for(log, lambda found: any(r.id == last.key for r in found[-20:]))
        rows = {change.key: change for change in changes if change.table == "job"}
        for key, change in rows.items():
            state = await log.object("sitea", Kind.JOB, key)
            assert state is not None
            row = replay.read_back(change)
            if row is None:
                assert state.gone
