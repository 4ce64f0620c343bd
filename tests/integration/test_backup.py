"""What deploy/BACKUP.md says of backing the log up and restoring it."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

from harness.archiving import archive, kept_in_database, whole, write_months
from harness.fanning import (
    assert_published,
    client_of,
    drafts,
    fanning,
    in_state,
    published_to,
    stored,
    write,
)
from harness.ingesting import as_reader, assert_gapless, every_record, ingesting, is_resynced
from harness.ingesting import wait_for as wait_for_log
from harness.pbs import PbsServer
from harness.servers import Databases
from nats.js.manager import JetStreamManager

from pbscast.events import EventName, Kind
from pbscast.requests import PublisherState
from pbscast_deploy.embedded import find_postgres
from pbscast_store.log import Log
from pbscast_store.records import Record

WINDOW = timedelta(seconds=1)
"""After a purge it has to pass before the same events are taken again."""


def back_up(dsn: str, directory: Path) -> Path:
    """As an administrator does."""
    file = directory / "log.dump"
    subprocess.run([_program("pg_dump"), "--format=custom", f"--file={file}", dsn], check=True)
    return file


def restore(file: Path, databases: Databases) -> str:
    """Into a new database; gives its URI."""
    dsn = databases.create()
    subprocess.run([_program("pg_restore"), "--exit-on-error", f"--dbname={dsn}", file], check=True)
    return dsn


def _program(name: str) -> Path:
    return max(find_postgres().items())[1] / name


async def test_the_fanout_finds_its_place_in_a_log_restored_up_to_date(
    log_dsn: str, log_databases: Databases, nats_url: str, tmp_path: Path
) -> None:
    async with Log.open(log_dsn) as log:
        await write(log, "sitea", drafts(30))
        async with fanning(log, nats_url) as fanout:
            await published_to(fanout, "sitea", 30)
    restored = restore(back_up(log_dsn, tmp_path), log_databases)

    async with Log.open(restored) as log:
        async with fanning(log, nats_url) as fanout:
            await published_to(fanout, "sitea", 30)
            await write(log, "sitea", drafts(5))
            await published_to(fanout, "sitea", 35)
        await assert_published(nats_url, log, "sitea")


async def test_the_fanout_stops_at_a_log_restored_from_before_until_it_is_told_to_go_on(
    log_dsn: str, log_databases: Databases, nats_url: str, tmp_path: Path
) -> None:
    async with Log.open(log_dsn) as log:
        await write(log, "sitea", drafts(30))
        backup = back_up(log_dsn, tmp_path)
        await write(log, "sitea", drafts(5))
        async with fanning(log, nats_url, duplicate_window=WINDOW) as fanout:
            await published_to(fanout, "sitea", 35)
    restored = restore(backup, log_databases)

    async with Log.open(restored) as log, fanning(log, nats_url, duplicate_window=WINDOW) as fanout:
        await in_state(fanout, "sitea", PublisherState.DIVERGED)
        (status,) = fanout.status().sites
        assert "nats stream purge PBS --subject 'pbs.v1.sitea.>'" in (status.error or "")
        # Also when the log has grown past the stream: these events have the positions of others.
        await write(log, "sitea", drafts(10, size=20))
        assert len([one for one in await stored(nats_url) if not one.is_mark]) == 35
        async with client_of(nats_url) as client:
            await JetStreamManager(client).purge_stream("PBS", subject="pbs.v1.sitea.>")
        await published_to(fanout, "sitea", 40)
        await assert_published(nats_url, log, "sitea")


async def test_ingest_goes_on_where_a_backup_was_up_to_date(
    log_dsn: str, log_databases: Databases, captured: str, tmp_path: Path
) -> None:
    with PbsServer(captured) as pbs:
        async with Log.open(log_dsn) as log, ingesting(log, as_reader(captured)):
            pbs.submit("1.s")
            await wait_for_log(log, lambda records: is_resynced(records) and _has(records, "1.s"))
        restored = restore(back_up(log_dsn, tmp_path), log_databases)
        pbs.submit("2.s")
        async with Log.open(restored) as log, ingesting(log, as_reader(captured)):
            records = await wait_for_log(log, lambda records: _has(records, "2.s"))

    assert_gapless(records)
    assert not [one for one in records if one.event == EventName.GAP]


async def test_ingest_tells_a_gap_where_the_journal_no_longer_has_what_the_backup_lacks(
    log_dsn: str, log_databases: Databases, captured: str, tmp_path: Path
) -> None:
    with PbsServer(captured) as pbs:
        async with Log.open(log_dsn) as log:
            async with ingesting(log, as_reader(captured)):
                pbs.submit("1.s")
                await wait_for_log(log, lambda found: is_resynced(found) and _has(found, "1.s"))
            backup = back_up(log_dsn, tmp_path)
            async with ingesting(log, as_reader(captured)):
                pbs.save("1.s", "R/42")
                pbs.submit("2.s")
                await wait_for_log(log, lambda records: _has(records, "2.s"))
        pbs.connection.execute(
            "DELETE FROM pbscast.journal WHERE seq < (SELECT max(seq) FROM pbscast.journal)"
        )  # as ingest trims it in time
        restored = restore(backup, log_databases)
        async with Log.open(restored) as log, ingesting(log, as_reader(captured)):
            records = await wait_for_log(
                log, lambda found: is_resynced(found) and _has(found, "2.s")
            )
            state = await log.object("sitea", Kind.JOB, "1.s")

    assert_gapless(records)
    assert EventName.GAP in [one.event for one in records]
    assert state is not None
    assert state.state == "R"


async def test_archives_and_the_database_are_one_backup(
    log_dsn: str, log_databases: Databases, tmp_path: Path
) -> None:
    archives = tmp_path / "archive"
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=60)
        before = await whole(log, "sitea")
    early = back_up(log_dsn, tmp_path)
    await archive(log_dsn, archives)

    later = restore(back_up(log_dsn, tmp_path / "archive"), log_databases)
    assert len(await kept_in_database(later)) == 60
    assert await _whole(later, archives) == before

    # From before they were archived: archiving again writes the same.
    older = restore(early, log_databases)
    assert len(await kept_in_database(older)) == 240
    written = {path: path.read_bytes() for path in archives.rglob("*.parquet")}
    await archive(older, archives)
    assert {path: path.read_bytes() for path in archives.rglob("*.parquet")} == written
    assert len(await kept_in_database(older)) == 60
    assert await _whole(older, archives) == before


async def _whole(dsn: str, archives: Path) -> list[Record]:
    async with Log.open(dsn, archives) as log:
        return await every_record(log)


def _has(records: list[Record], job: str) -> bool:
    return any(record.id == job for record in records)
