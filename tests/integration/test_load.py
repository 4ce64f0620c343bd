from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import psycopg
import pytest

from pbscast.errors import UnavailableError
from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.oracle import Saved, expect, read_record
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.simulator.record import Record

KINDS = {
    "job_insert",
    "job_update_full",
    "job_update_quick",
    "job_update_attributes",
    "job_remove_attributes",
    "job_delete",
    "job_scr_insert",
    "job_scr_delete",
    "node_update_full",
}
AUDIT = Path(__file__).with_name("audit.sql").read_bytes()


def install_audit(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(AUDIT)


def audited(dsn: str) -> list[tuple[object, ...]]:
    """What a trigger of the test's own saw committed."""
    with psycopg.connect(dsn, client_encoding="utf8") as connection:
        return connection.execute(
            "SELECT op, job, coalesce(state, ''), coalesce(substate, '0')::int,"
            " coalesce(svrflags, 0), coalesce(history, false) FROM audit ORDER BY n"
        ).fetchall()


def told(commits: list[Saved]) -> list[tuple[object, ...]]:
    return [(s.op, s.job, s.state, s.substate, s.svrflags, s.history) for s in commits]


@pytest.mark.parametrize("history", [True, False])
async def test_it_tells_exactly_what_it_commits(datastore_dsn: str, *, history: bool) -> None:
    install_audit(datastore_dsn)
    commits: list[Saved] = []
    async with LoadGenerator(
        datastore_dsn, "sitea", history=history, on_commit=commits.append
    ) as load:
        pace = await load.run(changes=4000)
    assert pace.changes == 4000
    assert told(commits) == audited(datastore_dsn)
    lives = expect(commits).lives.values()
    assert sum(life.end is not None for life in lives) > 100
    assert any(not life.present for life in lives) or history


@pytest.mark.timeout(300)
async def test_every_kind_of_statement_is_used_and_rows_stay_bounded(datastore_dsn: str) -> None:
    async with LoadGenerator(datastore_dsn, "sitea") as load:
        await load.run(changes=9_000)
        assert load._connection._prepared >= KINDS
        with psycopg.connect(datastore_dsn) as connection:
            rows = connection.execute("SELECT count(*) FROM pbs.job").fetchone()
            scripts = connection.execute("SELECT count(*) FROM pbs.job_scr").fetchone()
    assert rows is not None
    assert scripts is not None
    assert 500 < rows[0] < 1500
    assert scripts[0] <= rows[0]


async def test_the_rate_is_kept_on_an_absolute_schedule(datastore_dsn: str) -> None:
    """What holds it up is made up for: it would be 3.6 seconds otherwise."""
    held_up: list[Saved] = []

    def hold_up(saved: Saved) -> None:
        if len(held_up) < 8:
            held_up.append(saved)
            time.sleep(0.2)

    async with LoadGenerator(datastore_dsn, "sitea", on_commit=hold_up) as load:
        pace = await load.run(rate=20, changes=40)
        assert 1.9 <= pace.seconds < 3.3
        pace = await load.run(rate=100, seconds=0.5)
    assert 0 < pace.changes <= 51
    assert len(held_up) == 8


async def test_it_stops_when_told_and_when_cancelled(datastore_dsn: str) -> None:
    async with LoadGenerator(datastore_dsn, "sitea") as load:

        async def committed(count: int) -> None:
            while load.committed < count:  # noqa: ASYNC110 - another thread commits
                await asyncio.sleep(0.01)

        running = asyncio.create_task(load.run())
        await committed(load.committed + 1)
        load.stop()
        assert (await running).changes > 0
        # The next but one would be due in an hour.
        running = asyncio.create_task(load.run(rate=1 / 3600))
        await committed(load.committed + 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(30):
                await running


async def test_the_record_is_right_after_each_crash_of_the_datastore(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """The statement in flight may have committed or not; the record must say which."""
    dsn = create_datastore(own_postgres.dsn())
    install_audit(dsn)
    record = Record(tmp_path / "record.jsonl")
    pauses = random.Random(1)
    async with LoadGenerator(dsn, "sitea", history=False, on_commit=record) as load:
        for _ in range(5):
            running = asyncio.create_task(load.run())
            await asyncio.sleep(pauses.uniform(0.05, 0.2))
            await asyncio.to_thread(own_postgres.kill)
            with pytest.raises(UnavailableError, match="lost the datastore"):
                await running
            await asyncio.to_thread(own_postgres.start)
            await load.reconnect()
        await load.run(changes=200)
    record.close()
    commits = list(read_record(tmp_path / "record.jsonl"))
    assert told(commits) == audited(dsn)
    assert expect(commits) == record.oracle


async def test_reconnecting_in_vain_is_an_error_and_may_be_repeated(
    own_postgres: PostgresServer,
) -> None:
    dsn = create_datastore(own_postgres.dsn())
    async with LoadGenerator(dsn, "sitea") as load:
        await asyncio.to_thread(own_postgres.stop)
        with pytest.raises(UnavailableError):
            await load.run(changes=10)
        with pytest.raises(UnavailableError, match="cannot reach the datastore"):
            await load.reconnect()
        await asyncio.to_thread(own_postgres.start)
        await load.reconnect()
        assert (await load.run(changes=10)).changes == 10
