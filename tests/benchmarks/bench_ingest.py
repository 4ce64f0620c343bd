"""Ingest working off a backlog, beside the floor: plain COPY of the journal and of the events.

BACKLOG sets how many changes wait (by default 200,000; 1,000,000 takes several minutes to make).
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest

from pbscast_deploy.config import Role
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.stage import DaemonProcess, Stage, StageSite, open_stage
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_SITE = "sitea"
_BACKLOG = int(os.environ.get("BACKLOG", "200000"))
_JOBS = 1000
_POLL_SECONDS = 0.2

_CLONE = """
    INSERT INTO pbs.job
    SELECT (jsonb_populate_record(job, jsonb_build_object('ji_jobid', n || '.sitea'))).*
    FROM pbs.job, generate_series(5000001, 5000000 + %s) AS n
    WHERE ji_jobid = (SELECT min(ji_jobid) FROM pbs.job WHERE strpos(ji_jobid, '[') = 0)
"""
_SAVE = """
    UPDATE pbs.job SET ji_savetm = localtimestamp, attributes = attributes || hstore(ARRAY[
        'substate', CASE WHEN %s %% 2 = 0 THEN '11.42' ELSE '11.41' END,
        'mtime', '11.' || extract(epoch FROM now())::bigint, 'session_id', '11.' || %s])
    WHERE ji_jobid >= '5000001' AND ji_jobid < '6'
"""


async def _pile_up(site: StageSite) -> int:
    """Changes of a thousand jobs in turn, many rows a statement: making them is not measured."""
    async with LoadGenerator(site.dsn, site.name) as load:
        await load.run(changes=50)
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(_CLONE, [_JOBS])
        for number in range(_BACKLOG // _JOBS - 1):
            connection.execute(_SAVE, [number, number])
        row = connection.execute("SELECT count(*) FROM pbscast.journal").fetchone()
    assert row is not None
    return int(row[0])


def _resident(process: DaemonProcess) -> float:
    """MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def _work_off(stage: Stage, changes: int) -> tuple[float, float, float]:
    """Seconds from the first to the last event, and resident MB a quarter on and at the most."""
    early = most = 0.0
    async with Log.open(stage.log_dsn) as log:
        await log.register_site(_SITE)
        daemon = stage.start_daemon(Role.INGEST)
        while await log.position(_SITE) < 1:  # noqa: ASYNC110 - another process's progress
            await asyncio.sleep(0.01)
        began = time.monotonic()
        while (position := await log.position(_SITE)) < changes:
            most = max(most, _resident(daemon))
            early = early or (most if position > changes / 4 else 0.0)
            await asyncio.sleep(_POLL_SECONDS)
        return time.monotonic() - began, early, most


async def _copy_floor(stage: Stage, site: StageSite) -> float:
    """Seconds to COPY as many rows out of a journal, and the events into a table like the log's."""
    journal = io.BytesIO()
    with psycopg.connect(site.dsn) as connection, connection.cursor() as cursor:
        began = time.monotonic()
        with cursor.copy("COPY floor_journal TO STDOUT (FORMAT binary)") as copy:
            for piece in copy:
                journal.write(piece)
        reading = time.monotonic() - began
    events = io.BytesIO()
    log = await asyncpg.connect(stage.log_dsn)
    try:
        await log.execute("CREATE TABLE floor (LIKE pbscast_log.event INCLUDING ALL)")
        await log.copy_from_table(
            "event", schema_name="pbscast_log", output=events, format="binary", timeout=600
        )
        events.seek(0)
        began = time.monotonic()
        await log.copy_to_table("floor", source=events, format="binary", timeout=600)
        return reading + time.monotonic() - began
    finally:
        await log.close()


def _keep_journal(site: StageSite) -> None:
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE floor_journal AS SELECT * FROM pbscast.journal")


async def test_backlog_beside_copy() -> None:
    async with open_stage(_SITE) as stage:
        site = stage.sites[_SITE]
        changes = await _pile_up(site)
        await asyncio.to_thread(_keep_journal, site)
        seconds, early, most = await _work_off(stage, changes)
        floor = await _copy_floor(stage, site)
    print(
        f"\ningest of a backlog of {changes:,}: {changes / seconds:,.0f} changes/s;"
        f" COPY out and in {changes / floor:,.0f}/s; ratio {floor / seconds:.2f};"
        f" resident {early:.0f} MB after a quarter, {most:.0f} MB at the most"
    )
