"""Ingest working off a backlog, beside plain COPY; three busy sites at once, and how far behind.

BACKLOG sets how many changes wait (by default 200,000; 1,000,000 takes several minutes to make).
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import linear_regression
from typing import NamedTuple

import asyncpg
import psycopg
import pytest
from harness.goals import goal

from pbscast_deploy.config import Role
from pbscast_deploy.simulator.load import LoadGenerator
from pbscast_deploy.stage import DaemonProcess, Stage, StageSite, open_stage
from pbscast_ingest.cursor import Cursor
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_SITE = "sitea"
_BACKLOG = int(os.environ.get("BACKLOG", "200000"))
_JOBS = 1000
_POLL_SECONDS = 0.2

_SITES = ("sitea", "siteb", "sitec")
_BUSY_SECONDS = 30.0
_LOOK_SECONDS = 1.0

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


def _processor_seconds(process: DaemonProcess) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Work(NamedTuple):
    seconds: float
    """From the first to the last event."""
    processor_seconds: float
    """Of the daemon, meanwhile."""
    early: float
    """Resident MB a quarter on."""
    most: float
    """The same at the most."""


async def _work_off(stage: Stage, changes: int) -> _Work:
    early = most = 0.0
    async with Log.open(stage.log_dsn) as log:
        await log.register_site(_SITE)
        daemon = stage.start_daemon(Role.INGEST)
        while await log.position(_SITE) < 1:  # noqa: ASYNC110 - another process's progress
            await asyncio.sleep(0.01)
        began, used = time.monotonic(), _processor_seconds(daemon)
        while (position := await log.position(_SITE)) < changes:
            most = max(most, _resident(daemon))
            early = early or (most if position > changes / 4 else 0.0)
            await asyncio.sleep(_POLL_SECONDS)
        used = _processor_seconds(daemon) - used
        return _Work(time.monotonic() - began, used, early, most)


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
        await log.execute(
            "CREATE TABLE floor"
            " (LIKE pbscast_log.event INCLUDING ALL, PRIMARY KEY (site, position))"
        )
        await log.copy_from_query(
            "SELECT * FROM pbscast_log.event", output=events, format="binary", timeout=600
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
        work = await _work_off(stage, changes)
        floor = await _copy_floor(stage, site)
    print(
        f"\ningest of a backlog of {changes:,}: {changes / work.seconds:,.0f} changes/s,"
        f" {work.processor_seconds / changes * 1e6:.0f} µs of the daemon's processor time each;"
        f" COPY out and in {changes / floor:,.0f}/s; ratio {floor / work.seconds:.2f};"
        f" resident {work.early:.0f} MB after a quarter, {work.most:.0f} MB at the most"
    )
    print(goal("changes/s", changes / work.seconds, ">=", 10_000))
    print(goal("of COPY", floor / work.seconds, ">=", 0.5))
    print(goal("MB resident", work.most, "<=", 200))


def _flush_nothing(site: StageSite) -> None:
    """Datastores of three sites share a disk in no real place: it must not be the limit."""
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


async def _keep_busy(site: StageSite) -> float:
    """As many changes as one connection commits; returns the rate."""
    arguments = ["-m", "pbscast_deploy", "simulate", "load", "--site", site.name]
    arguments += ["--dsn", site.dsn, "--seconds", str(_BUSY_SECONDS)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return float(said.split()[3])


class _Lag:
    """How many journaled changes of all sites the log does not have yet."""

    def __init__(self, log: Log, sites: Sequence[StageSite]) -> None:
        self._log = log
        self._stack = ExitStack()
        self._journals = {
            site.name: self._stack.enter_context(psycopg.connect(site.dsn, autocommit=True))
            for site in sites
        }

    async def look(self) -> int:
        tops = {site.name: Cursor.load(site.cursor).top for site in await self._log.sites()}
        lag = 0
        for name, journal in self._journals.items():
            row = journal.execute("SELECT last_value FROM pbscast.journal_seq").fetchone()
            assert row is not None
            lag += int(row[0]) - tops[name]
        return lag

    def close(self) -> None:
        self._stack.close()


async def test_three_sites_at_their_highest_rate() -> None:
    async with open_stage(*_SITES) as stage:
        sites = list(stage.sites.values())
        for site in sites:
            await asyncio.to_thread(_flush_nothing, site)
        stage.start_daemon(Role.INGEST)
        await stage.wait_until_followed()
        async with Log.open(stage.log_dsn) as log:
            lag = _Lag(log, sites)
            began = time.monotonic()
            loads = [asyncio.create_task(_keep_busy(site)) for site in sites]
            seen: list[tuple[float, int]] = []
            while not all(load.done() for load in loads):
                await asyncio.sleep(_LOOK_SECONDS)
                seen.append((time.monotonic() - began, await lag.look()))
            rates, ended = [load.result() for load in loads], time.monotonic()
            while await lag.look():  # noqa: ASYNC110 - another process's progress
                await asyncio.sleep(_POLL_SECONDS)
            behind = time.monotonic() - ended
            lag.close()
    half = seen[len(seen) // 2 :]
    slope = linear_regression(*zip(*half, strict=True)).slope
    print(
        f"\nthree sites at {', '.join(f'{rate:,.0f}' for rate in rates)} changes/s"
        f" for {_BUSY_SECONDS:.0f} s: not yet logged, each fifth second:"
        f" {', '.join(f'{rows:,}' for _, rows in seen[::5])}; in the second half it grew by"
        f" {slope:,.0f} rows/s ({slope / sum(rates):.1%} of the rate);"
        f" all logged {behind:.1f} s after the last commit"
    )
    print(goal("growth of what is not yet logged, of the rate", slope / sum(rates), "<=", 0.01))
