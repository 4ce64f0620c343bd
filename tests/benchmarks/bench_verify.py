"""How fast a log is audited: its chain, its story and its projection. EVENTS in the environment."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import asyncpg
import pytest
from harness.goals import goal
from harness.jobs import EVENTS_A_JOB, batches, interleaved_lives

from pbscast_deploy.embedded import PostgresServer
from pbscast_store.audit.verify import verify
from pbscast_store.folds import FoldRow
from pbscast_store.log import Log
from pbscast_store.planning import EventRow, Tail, plan

pytestmark = pytest.mark.benchmark

_EVENTS = int(os.environ.get("EVENTS", "1_000_000"))
_ABREAST = 300
_LIFE = {"last_position": "position", "gone": "gone_at"}
_LIFE_COLUMNS = (
    *("first_position", "last_position", "began", "ended", "gone", "incarnation", "exit_status"),
    *("kind", "id", "reason", "owner", "queue", "project", "name", "state", "reached"),
)


@pytest.mark.timeout(0)
async def test_audit_of_a_log(own_postgres: PostgresServer) -> None:
    """Jobs of ten events, all ended; loaded by COPY of what an append would write."""
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    began = perf_counter()
    connection = await asyncpg.connect(dsn)
    tail = await _load(connection)
    await connection.execute("VACUUM ANALYZE")
    loaded = perf_counter()
    (verdict,) = await verify(dsn)
    seconds = perf_counter() - loaded
    await connection.close()
    assert verdict.is_clean
    assert verdict.position == tail.position
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        f"\naudit of {tail.position:,} events: {tail.position / seconds:,.0f} events/s"
        f" ({seconds:.1f} s; loading took {loaded - began:.0f} s; peak memory of a process"
        f" {peak / 1024:.0f} MB)"
    )
    print(goal("events/s", tail.position / seconds, ">=", 100_000))


async def _load(connection: asyncpg.Connection) -> Tail:
    logged = datetime.now(UTC)
    tail = Tail("sitea")
    # A generation of jobs at a time, so that the fold of each job is complete in one plan.
    for drafts in batches(interleaved_lives(_ABREAST), _ABREAST * EVENTS_A_JOB):
        planned = plan(drafts, {}, tail, logged)
        tail = planned.tail
        events = [(*row, "sitea", logged) for row in planned.events]
        await _copy(connection, "event", (*EventRow._fields, "site", "logged"), events)
        folds = [(*row, "sitea") for row in planned.folds]
        await _copy(connection, "object", (*FoldRow._fields, "site"), folds)
        lives = [(*_life(row), "sitea") for row in planned.folds]
        await _copy(connection, "life", (*_LIFE_COLUMNS, "site"), lives)
        if tail.position >= _EVENTS:
            break
    await connection.execute(
        "INSERT INTO pbscast_log.site (name, position, digest, logged) VALUES ($1, $2, $3, $4)",
        *(tail.site, tail.position, tail.digest, logged),
    )
    return tail


def _life(row: FoldRow) -> tuple[Any, ...]:
    return tuple(getattr(row, _LIFE.get(name, name)) for name in _LIFE_COLUMNS)


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Iterable[Any]
) -> None:
    await connection.copy_records_to_table(
        table, schema_name="pbscast_log", columns=columns, records=rows
    )
