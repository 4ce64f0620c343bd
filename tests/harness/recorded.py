"""Recorded traces in a log, told at the times at which they were recorded."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import psycopg
from harness.ingesting import as_reader, ingesting, is_resynced, wait_for

from pbscast.events import EventName
from pbscast_deploy.oracle import expect
from pbscast_deploy.simulator.record import commits_of
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import Change, bundled_traces, read_trace
from pbscast_ingest.capture import install
from pbscast_store.log import Log
from pbscast_store.records import ObjectState, Record


async def log_recording(log: Log, dsn: str, site: str) -> list[Record]:
    """Bring a site's trace through capture and ingest; gives the site's events.

    Everything is as on a site but for the clock of the datastore, which is the recorded one: the
    journal's times are put back to it before ingest reads them.
    """
    changes = read_trace(bundled_traces()[site])
    ends = sum(life.end is not None for life in expect(commits_of(changes)).lives.values())
    written: list[datetime] = []
    async with Replay(changes, dsn) as replay:
        await replay.seed()
        await asyncio.to_thread(install, dsn, site=site)
        async with ingesting(log, as_reader(dsn), site):
            await wait_for(log, is_resynced, site)
        await replay.run(speed=None, on_change=lambda _: written.append(datetime.now(UTC)))
    await asyncio.to_thread(_put_back, dsn, changes, written)
    async with ingesting(log, as_reader(dsn), site):
        return await wait_for(
            log,
            lambda found: sum(record.event == EventName.FINALIZE for record in found) >= ends,
            site,
        )


def _put_back(dsn: str, changes: list[Change], written: list[datetime]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute("SELECT seq, at FROM pbscast.journal WHERE op IN ('I', 'U', 'D')")
        times = [(changes[bisect_left(written, at)].at, seq) for seq, at in rows]
        with connection.cursor() as cursor:
            cursor.executemany("UPDATE pbscast.journal SET at = %s WHERE seq = %s", times)


class _Recording:
    """What reading a site's log gives, from memory."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    async def position(self, site: str) -> int:
        return self._records[-1].position

    async def read(self, site: str, after: int, limit: int) -> list[Record]:
        return self._records[after : after + limit]

    async def history(
        self, kind: str, name: str, *, site: str, after: Mapping[str, int] | None = None
    ) -> list[Record]:
        last = (after or {}).get(site, 0)
        return [r for r in self._records if r.kind == kind and r.id == name and r.position > last]

    async def object(self, site: str, kind: str, name: str) -> ObjectState | None:
        found = any(record.kind == kind and record.id == name for record in self._records)
        return cast("ObjectState", SimpleNamespace(id=name)) if found else None


def recording(records: list[Record]) -> Log:
    """A log for reading that holds one site's events."""
    return cast("Log", _Recording(records))
