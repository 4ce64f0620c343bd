from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psycopg
import pytest

from pbscast.errors import ConflictError, UnavailableError
from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import Change, bundled_traces, read_trace


@pytest.mark.parametrize("site", ["sitea", "siteb"])
async def test_each_change_leaves_the_recorded_row(datastore_dsn: str, site: str) -> None:
    changes = read_trace(bundled_traces()[site])
    async with Replay(changes, datastore_dsn) as replay:
        await replay.seed()
        compared = []

        def compare(change: Change) -> None:
            assert replay.read_back(change) == change.row, change.seq
            compared.append(change.seq)

        await replay.run(on_change=compare)
        assert compared == [change.seq for change in changes]
        assert replay.position == len(replay) == len(changes)


async def test_one_transaction_per_statement_and_scripts_go_with_their_jobs(
    datastore_dsn: str,
) -> None:
    changes = read_trace(bundled_traces()["siteb"])
    async with Replay(changes, datastore_dsn) as replay:
        await replay.seed()
        with psycopg.connect(datastore_dsn, autocommit=True) as observer:
            before = observer.execute("SELECT txid_current()").fetchone()
            await replay.run()
            after = observer.execute("SELECT txid_current()").fetchone()
            scripts = observer.execute("SELECT count(*) FROM pbs.job_scr").fetchone()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] - 1 == 116 + 12 + 12
    assert scripts == (0,)


async def test_the_recorded_pace_is_kept_at_any_speed(datastore_dsn: str) -> None:
    changes = read_trace(bundled_traces()["sitea"])[:60]
    recorded = (changes[-1].at - changes[0].at).total_seconds()
    async with Replay(changes, datastore_dsn) as replay:
        await replay.seed()
        started = time.monotonic()
        await replay.run(speed=recorded / 0.5)
        assert 0.5 <= time.monotonic() - started < min(20, recorded)


async def test_it_is_held_between_changes_and_goes_on(
    new_datastore: Callable[[], str],
) -> None:
    changes = read_trace(bundled_traces()["siteb"])
    async with Replay(changes, new_datastore()) as replay:
        await replay.seed()
        held = asyncio.Event()

        def hold(_: Change) -> None:
            if replay.position == 10:
                replay.pause()
                held.set()

        running = asyncio.create_task(replay.run(on_change=hold))
        await held.wait()
        await asyncio.sleep(0.05)
        assert replay.position == 10
        replay.resume()
        await running
        assert replay.position == len(changes)


async def test_a_change_of_a_row_that_is_not_there_ends_it(datastore_dsn: str) -> None:
    changes = read_trace(bundled_traces()["sitea"])
    async with Replay(changes, datastore_dsn) as replay:
        with pytest.raises(ConflictError, match="server_update_full sitea: no such row"):
            await replay.run()


async def test_a_datastore_that_goes_away_ends_it(own_postgres: PostgresServer) -> None:
    changes = read_trace(bundled_traces()["sitea"])
    async with Replay(changes, create_datastore(own_postgres.dsn())) as replay:
        await replay.seed()
        own_postgres.stop()
        with pytest.raises(UnavailableError, match="server_update_full sitea: lost the datastore"):
            await replay.run()


def test_a_datastore_out_of_reach_is_one_clear_line() -> None:
    with pytest.raises(UnavailableError, match="cannot reach the datastore") as caught:
        Replay([], "postgresql://postgres@127.0.0.1:1/pbs_datastore")
    assert "\n" not in str(caught.value)
