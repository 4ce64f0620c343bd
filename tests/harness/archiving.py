"""A log with months behind it, and what keeping does to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, cast

import asyncpg
import pyarrow as pa
from harness.jobs import interleaved_lives
from pyarrow import parquet

from pbscast.events import ChangePayload, EventName, Kind, Provenance
from pbscast_store.archive.files import sha256
from pbscast_store.archive.keeping import Kept, keep
from pbscast_store.archive.retention import Policy, Retention
from pbscast_store.archive.tables import EVENTS, OBJECTS
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import Record

DAY = timedelta(days=1)
KEEP_NOTHING = Policy(Retention(live=timedelta(0), usage=None))
THIN_ALL = Policy(Retention(live=timedelta(0), usage=timedelta(0)))


def months_ago(number: int) -> datetime:
    """The first moment of a month."""
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(number):
        month = (month - DAY).replace(day=1)
    return month


async def give_past(dsn: str, months: int) -> None:
    """Partitions for so many months before this one, instead of the first one without a limit."""
    connection = await asyncpg.connect(dsn)
    try:
        first = await connection.fetchval(
            "SELECT pg_class.oid::regclass::text"
            " FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'pbscast_log.event'::regclass"
            " AND pg_get_expr(relpartbound, inhrelid) LIKE '%(MINVALUE)%'"
        )
        await connection.execute(f"ALTER TABLE pbscast_log.event DETACH PARTITION {first}")
        await connection.execute(f"DROP TABLE {first}")
        for number in range(months + 1):
            await connection.execute(
                "SELECT pbscast_log.make_partition($1)", months_ago(number).replace(tzinfo=None)
            )
    finally:
        await connection.close()


async def write_at(
    log: Log, site: str, moment: datetime, drafts: Iterable[Draft], batch: int = 500
) -> int:
    """Append drafts as if it were `moment` now; returns the site's last position."""
    await log.register_site(site)
    writer = await log.acquire(site, "the past", 60)
    assert writer is not None
    writer._logged = moment
    writer._lease.clock.set(moment)
    rest = iter(drafts)
    while some := list(islice(rest, batch)):
        await writer.append(some, {})
    await writer.release()
    return writer.position


async def write_months(log: Log, dsn: str, *sites: str, each: int = 300, months: int = 3) -> None:
    """Lives of jobs in each month of the past and in this one, a fresh part of them each month."""
    await give_past(dsn, months)
    for site in sites:
        lives = dated(interleaved_lives(abreast=10, site=site), each, months)
        for number in range(months, -1, -1):
            moment = months_ago(number) + DAY
            await write_at(log, site, moment, islice(lives, each))


def dated(drafts: Iterator[Draft], each: int, months: int) -> Iterator[Draft]:
    """The drafts with times within the month in which they are logged; jobs span two months."""
    for number in range(months, -1, -1):
        for index, draft in enumerate(islice(drafts, each)):
            time = months_ago(number) + DAY + timedelta(seconds=index)
            yield replace(draft, time=time)


def commented_usage(job: str, time: datetime) -> Draft:
    """A usage event that says more than usage."""
    usage = {"resources_used.mem": "1kb", "comment": "kept"}
    payload = ChangePayload(owner="alice", state="R", changed=usage)
    return Draft(Kind.JOB, job, EventName.USAGE, time, Provenance.JOURNAL, payload)


async def archive(dsn: str, directory: Path, policy: Policy = KEEP_NOTHING) -> list[Kept]:
    """All that the policy lets go; the directory is made if need be."""
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    return [kept async for kept in keep(dsn, directory, policy, progress=lambda *_: None)]


async def whole(log: Log, site: str, limit: int = 700) -> list[Record]:
    """Every event that the log gives of a site."""
    records: list[Record] = []
    while page := await log.read(site, records[-1].position if records else 0, limit):
        records += page
    return records


async def kept_in_database(dsn: str) -> list[tuple[str, int]]:
    """Site and position of the events that PostgreSQL has."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT site, position FROM pbscast_log.event ORDER BY 1, 2")
    finally:
        await connection.close()
    return [(row["site"], row["position"]) for row in rows]


class Archived:
    """One archive, for who may write its directory: sizes and hashes are made to fit."""

    def __init__(self, path: Path) -> None:
        """`path` is the manifest's."""
        self.path = path

    @property
    def said(self) -> dict[str, Any]:
        """The manifest."""
        return cast("dict[str, Any]", json.loads(self.path.read_text()))

    def file(self, what: str) -> Path:
        """That with the `events` or the `objects`."""
        return self.path.with_name(self.said[what]["name"])

    def rows(self, what: str) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", parquet.read_table(self.file(what)).to_pylist())

    def write(self, what: str, rows: list[dict[str, Any]]) -> None:
        file = self.file(what)
        schema = {"events": EVENTS, "objects": OBJECTS}[what]
        parquet.write_table(pa.Table.from_pylist(rows, schema=schema), file)
        self.say(what, bytes=file.stat().st_size, sha256=sha256(file))

    def change(self, what: str, index: int, values: dict[str, Any]) -> None:
        """One row."""
        rows = self.rows(what)
        rows[index] |= values
        self.write(what, rows)

    def remove(self, what: str, is_removed: Callable[[dict[str, Any]], bool]) -> None:
        self.write(what, [row for row in self.rows(what) if not is_removed(row)])

    def say(self, part: str | None = None, **values: object) -> None:
        """Other values in the manifest, or in a part of it."""
        said = self.said
        (said[part] if part else said).update(values)
        self.path.write_text(json.dumps(said))

    def rename(self) -> None:
        """The files, as the manifest's `usage` wants them named."""
        for what in ("events", "objects"):
            file, usage = self.file(what), self.said["usage"]
            named = file.with_name(f"{self.said['partition']}.{usage}.{what}.parquet")
            file.rename(named)
            self.say(what, name=named.name)
