"""Archiving a log with months behind it: what leaves PostgreSQL is still told, and is the same."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from harness.archiving import (
    DAY,
    KEEP_NOTHING,
    THIN_ALL,
    Archived,
    archive,
    commented_usage,
    give_past,
    kept_in_database,
    months_ago,
    whole,
    write_at,
    write_months,
)
from harness.fanning import assert_published, fanning, published_to, stored
from harness.jobs import interleaved_lives
from harness.older_log import OlderLog
from harness.servers import Databases
from harness.suicide import Suicide
from typer.testing import CliRunner

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    ConflictError,
    DecodeError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from pbscast_deploy.cli import app
from pbscast_store import chain
from pbscast_store.archive import keeping
from pbscast_store.archive.archives import Archives
from pbscast_store.archive.keeping import keep
from pbscast_store.archive.manifest import manifest_name, read_manifest
from pbscast_store.archive.mentions import Mention
from pbscast_store.archive.retention import Policy, Retention
from pbscast_store.archive.thinning import Entry, Thinned, leaf_of
from pbscast_store.audit.verify import verify
from pbscast_store.log import Log
from pbscast_store.records import Record
from pbscast_store.source import Window

SITES = ("sitea", "siteb")
EACH = 80
MONTHS = 2
PAST = MONTHS * EACH
"""Events of a site that are older than this month."""


@pytest.fixture(scope="module")
def _past_template(log_server: str, _log_template: str) -> Iterator[str]:
    databases = Databases(log_server)
    dsn = databases.create(_log_template)
    asyncio.run(_write_past(dsn))
    yield urlsplit(dsn).path.removeprefix("/")
    databases.drop_all()


async def _write_past(dsn: str) -> None:
    async with Log.open(dsn) as log:
        await write_months(log, dsn, *SITES, each=EACH, months=MONTHS)


@pytest.fixture
def past_log(log_databases: Databases, _past_template: str) -> str:
    """A log with two months behind it."""
    return log_databases.create(_past_template)


@dataclass(frozen=True)
class KeptLog:
    """A log whose past is archived, for tests that only read."""

    dsn: str
    directory: Path
    before: dict[str, list[Record]]
    """All events of each site, as PostgreSQL gave them."""


@pytest.fixture(scope="module")
def kept_log(
    log_server: str, _past_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeptLog]:
    databases = Databases(log_server)
    dsn, directory = databases.create(_past_template), tmp_path_factory.mktemp("archive")
    before = asyncio.run(records_of(dsn))
    asyncio.run(archive(dsn, directory))
    yield KeptLog(dsn, directory, before)
    databases.drop_all()


@asynccontextmanager
async def archived(dsn: str, directory: Path) -> AsyncIterator[tuple[Log, Archives]]:
    async with Log.open(dsn, directory) as log:
        archives = Archives(log._pool, directory)
        await archives.look()
        yield log, archives


async def records_of(dsn: str, directory: Path | None = None) -> dict[str, list[Record]]:
    async with Log.open(dsn, directory) as log:
        return {site: await whole(log, site) for site in SITES}


async def mentioned(
    archives: Archives, ids: set[str], window: Window, kind: str = "job"
) -> list[Mention]:
    async with aclosing(archives.mentions("sitea", kind, ids, window)) as pages:
        return [mention async for page in pages for mention in page]


async def scanned(archives: Archives) -> AsyncIterator[Entry]:
    for row in archives.rows("sitea"):
        async with aclosing(archives.scan(row)) as pages:
            async for page in pages:
                for entry in page:
                    yield entry


async def test_what_was_archived_is_read_as_before(past_log: str, tmp_path: Path) -> None:
    before = await records_of(past_log)

    kept = await archive(past_log, tmp_path)

    assert [(one.site, one.last - one.first + 1) for one in kept] == [
        ("sitea", EACH),
        ("siteb", EACH),
    ] * MONTHS
    assert {position for _, position in await kept_in_database(past_log)} == set(
        range(PAST + 1, PAST + EACH + 1)
    )
    after = await records_of(past_log, tmp_path)
    assert after == before
    assert [one.encode() for one in after["sitea"]] == [one.encode() for one in before["sitea"]]


async def test_pages_of_archives_are_as_promised(kept_log: KeptLog) -> None:
    before = kept_log.before["sitea"]

    async with archived(kept_log.dsn, kept_log.directory) as (log, _):
        assert await log.read("sitea", 5, 3) == before[5:8]
        assert await log.read("sitea", 5, 100, max_bytes=1) == before[5:6]
        size = sum(len(record.payload.encode()) for record in before[:10])
        assert await log.read("sitea", 0, 100, max_bytes=size) == before[:10]
        assert await log.read("sitea", PAST + EACH, 10) == []
        assert await log.read("nowhere", 0, 10) == []


async def test_the_events_of_objects_are_found(kept_log: KeptLog) -> None:
    before = kept_log.before["sitea"]
    wanted = {"7.sitea", "12.sitea", "none"}
    expected = [one for one in before[:PAST] if one.kind == "job" and one.id in wanted]

    async with archived(kept_log.dsn, kept_log.directory) as (_, archives):
        found = await mentioned(archives, wanted, Window())
        assert [(one.position, one.id, one.event, one.bytes) for one in found] == [
            (one.position, one.id, one.event, len(one.payload.encode())) for one in expected
        ]
        back = Window(newest_first=True)
        assert await mentioned(archives, wanted, back) == found[::-1]
        records = await archives.at("sitea", [one.position for one in found])
        assert list(records.values()) == expected
        narrow = Window(after=8, before=51)
        some = await mentioned(archives, {"7.sitea"}, narrow)
        assert [one.position for one in some][:1] == [18]
        assert await mentioned(archives, {"7.sitea"}, Window(), "node") == []


async def test_without_its_directory_the_log_says_what_is_missing(kept_log: KeptLog) -> None:
    async with Log.open(kept_log.dsn) as log:
        with pytest.raises(ConfigError, match=r"events 1 to 80 of sitea .*\[archive\] directory"):
            await log.read("sitea", 0, 10)
        assert (await log.read("sitea", PAST, 1))[0].position == PAST + 1


async def test_a_log_that_was_open_before_finds_what_was_archived_since(
    past_log: str, tmp_path: Path
) -> None:
    async with archived(past_log, tmp_path) as (log, _):
        before = await log.read("sitea", 0, 10)
        await archive(past_log, tmp_path)
        assert await log.read("sitea", 0, 10) == before


async def test_a_partition_stays_until_the_longest_retention_of_its_sites_has_passed(
    past_log: str, tmp_path: Path
) -> None:
    year = Retention(timedelta(days=365), None)

    assert await archive(past_log, tmp_path, Policy(year)) == []
    assert await archive(past_log, tmp_path, Policy(KEEP_NOTHING.default, {"siteb": year})) == []
    assert files_in(tmp_path) == []


async def test_events_from_before_the_chain_are_archived_as_well(
    log_databases: Databases, tmp_path: Path
) -> None:
    dsn = log_databases.create()
    lives = interleaved_lives(abreast=5)
    connection = await asyncpg.connect(dsn)
    older = OlderLog(connection)
    await older.make()
    await older.acquire("sitea")
    await older.append("sitea", list(islice(lives, 30)))
    await connection.close()
    past, month = months_ago(1) + DAY, months_ago(0)
    await execute(
        dsn,
        "SET session_replication_role = replica",
        f"UPDATE pbscast_log.event SET logged = '{past}'",
        f"UPDATE pbscast_log.site SET logged = '{past}', holder = NULL",
    )
    await Log.migrate_at(dsn)
    first = f"pbscast_log.event_p{month:%Y%m}"
    await execute(
        dsn,
        f"ALTER TABLE pbscast_log.event DETACH PARTITION {first}",
        f"ALTER INDEX {first}_pkey RENAME TO event_before_pkey",
        f"ALTER INDEX {first}_history RENAME TO event_before_history",
        f"ALTER TABLE {first} RENAME TO event_before",
        "ALTER TABLE pbscast_log.event ATTACH PARTITION pbscast_log.event_before"
        f" FOR VALUES FROM (MINVALUE) TO ('{month}')",
        f"SELECT pbscast_log.make_partition('{month:%Y-%m-%d}')",
    )
    async with Log.open(dsn) as log:
        await write_at(log, "sitea", past, islice(lives, 20))
        await write_at(log, "sitea", month, islice(lives, 10))
        before = await whole(log, "sitea")
    assert [record.digest is None for record in before] == [True] * 30 + [False] * 30

    (kept,) = await archive(dsn, tmp_path, THIN_ALL)

    assert (kept.first, kept.last, kept.thinned) == (1, 50, 10)
    async with archived(dsn, tmp_path) as (log, _):
        left = [one for one in before if one.event != "usage" or one.position > 50]
        assert await whole(log, "sitea") == left
    (verdict,) = await verify(dsn, archives=tmp_path)
    assert verdict.finding is None
    assert verdict.chained_after == 30


async def test_this_month_is_never_archived(log_dsn: str, tmp_path: Path) -> None:
    moment = months_ago(0)
    async with Log.open(log_dsn) as log:
        await write_at(log, "sitea", moment, [commented_usage("1.sitea", moment)])

    assert await archive(log_dsn, tmp_path) == []


async def test_thinned_events_keep_their_place_in_the_chain(past_log: str, tmp_path: Path) -> None:
    before = (await records_of(past_log))["sitea"]
    await archive(past_log, tmp_path)

    kept = await archive(past_log, tmp_path, THIN_ALL)

    assert {(one.action, one.thinned > 0) for one in kept} == {("thinned", True)}
    thinned = {record.position for record in before[:PAST] if record.event == "usage"}
    async with archived(past_log, tmp_path) as (log, archives):
        left = [record for record in before if record.position not in thinned]
        assert await whole(log, "sitea") == left
        digest = chain.GENESIS
        async for entry in scanned(archives):
            assert isinstance(entry, Thinned) == (entry.position in thinned)
            digest = chain.link(digest, leaf_of(entry))
        assert digest == before[PAST - 1].digest
        found = await mentioned(archives, {"7.sitea"}, Window())
        assert not {one.position for one in found} & thinned
    assert await archive(past_log, tmp_path, THIN_ALL) == []


async def test_thinning_at_once_is_the_same(past_log: str, tmp_path: Path) -> None:
    kept = await archive(past_log, tmp_path, THIN_ALL)

    assert all(one.action == "archived" and one.thinned for one in kept)
    assert await archive(past_log, tmp_path, THIN_ALL) == []


async def test_a_usage_event_that_says_more_is_kept(log_dsn: str, tmp_path: Path) -> None:
    moment = months_ago(1) + DAY
    async with Log.open(log_dsn) as log:
        await give_past(log_dsn, 1)
        await write_at(log, "sitea", moment, [commented_usage("1.sitea", moment)])

    (kept,) = await archive(log_dsn, tmp_path, THIN_ALL)

    assert kept.thinned == 0
    async with archived(log_dsn, tmp_path) as (log, _):
        assert len(await log.read("sitea", 0, 10)) == 1


async def test_a_dry_run_changes_nothing(past_log: str, tmp_path: Path) -> None:
    before = await kept_in_database(past_log)

    told = [
        one
        async for one in keep(
            past_log, tmp_path, KEEP_NOTHING, dry_run=True, progress=lambda *_: None
        )
    ]

    assert len(told) == 2 * MONTHS
    assert await kept_in_database(past_log) == before
    assert files_in(tmp_path) == []


async def test_two_do_not_archive_at_once(past_log: str, tmp_path: Path) -> None:
    first = keep(past_log, tmp_path, KEEP_NOTHING, progress=lambda *_: None)
    await anext(first)
    with pytest.raises(ConflictError, match="somebody else is archiving"):
        await archive(past_log, tmp_path)
    await first.aclose()


async def test_a_changed_event_is_not_archived(past_log: str, tmp_path: Path) -> None:
    await execute(
        past_log,
        "SET session_replication_role = replica",
        "UPDATE pbscast_log.event SET owner = 'mallory' WHERE site = 'sitea' AND position = 120",
    )
    before = await kept_in_database(past_log)

    with pytest.raises(DecodeError, match="sitea:120 does not fit its digest"):
        await archive(past_log, tmp_path)

    # The month before was fine.
    assert await kept_in_database(past_log) == [place for place in before if place[1] > EACH]
    assert not [name for name in files_in(tmp_path) if name.endswith(".part")]


async def test_a_damaged_archive_is_named(kept_log: KeptLog, tmp_path: Path) -> None:
    parts = ["json", "full.events.parquet", "full.objects.parquet"]

    for part, damage in itertools.product(parts, ["missing", "truncated", "changed"]):
        directory = tmp_path / f"{damage}.{part}"
        shutil.copytree(kept_log.directory, directory)
        (file,) = (directory / "sitea").glob(f"*{months_ago(1):%Y%m}.{part}")
        _damage(file, damage)
        async with archived(kept_log.dsn, directory) as (log, _):
            with pytest.raises((NotFoundError, DecodeError)) as raised:
                await log.read("sitea", EACH, 10)
            assert str(file) in str(raised.value)
            assert "\n" not in str(raised.value)
            assert len(await log.read("sitea", 0, 10)) == 10


async def test_the_archive_of_another_log_is_refused(
    past_log: str, log_dsn: str, tmp_path: Path
) -> None:
    await archive(past_log, tmp_path)
    other = log_dsn
    async with Log.open(other) as log:
        await write_months(log, other, "sitea", each=EACH, months=MONTHS)
    before = await kept_in_database(other)

    with pytest.raises(ConflictError, match="holds other events than the log"):
        await archive(other, tmp_path)

    assert await kept_in_database(other) == before
    async with archived(past_log, tmp_path) as (log, _):
        assert len(await whole(log, "sitea")) == PAST + EACH


async def test_the_command_archives_no_log_that_fails_its_audit(
    past_log: str, tmp_path: Path
) -> None:
    config, directory = tmp_path / "pbscast.toml", tmp_path / "archive"
    directory.mkdir()
    config.write_text(
        f'[log]\ndsn = "{past_log}"\n[archive]\ndirectory = "{directory}"\n'
        '[retention]\nlive = "P0D"\n'
    )
    command = ["archive", "--config", str(config)]
    before = await kept_in_database(past_log)
    await execute(past_log, "UPDATE pbscast_log.life SET owner = 'mallory' WHERE id = '7.sitea'")

    refused = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert isinstance(refused.exception, ConflictError)
    assert "nothing was archived or thinned, for the audit fails: sitea:" in str(refused.exception)
    assert await kept_in_database(past_log) == before
    assert files_in(directory) == []

    await execute(past_log, "UPDATE pbscast_log.life SET owner = 'alice' WHERE id = '7.sitea'")
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert done.stdout.count(" archived, ") == 2 * MONTHS


async def test_what_is_dropped_is_archived_as_the_database_has_it(
    past_log: str, log_databases: Databases, tmp_path: Path
) -> None:
    """A database from before is restored, and what lies in the directory knows less of it."""
    before = await records_of(past_log)
    restored = log_databases.create(urlsplit(past_log).path.removeprefix("/"))
    await archive(past_log, tmp_path, THIN_ALL)

    await archive(restored, tmp_path)

    assert len(await kept_in_database(restored)) == 2 * EACH
    assert await records_of(restored, tmp_path) == before
    _only_named_files(tmp_path)


async def test_an_archive_that_says_other_things_than_the_database_stops_it(
    past_log: str, log_databases: Databases, tmp_path: Path
) -> None:
    restored = log_databases.create(urlsplit(past_log).path.removeprefix("/"))
    await archive(past_log, tmp_path)
    before = await kept_in_database(restored)
    archived = Archived(tmp_path / manifest_name("sitea", f"event_p{months_ago(2):%Y%m}"))
    archived.say("contents", thinnable=hashlib.sha256(b"2\n").hexdigest())

    with pytest.raises(ConflictError, match=r"says other things of its events .*thinnable"):
        await archive(restored, tmp_path)

    assert await kept_in_database(restored) == before


async def test_what_was_changed_is_not_thinned(past_log: str, tmp_path: Path) -> None:
    await archive(past_log, tmp_path)
    archived = Archived(tmp_path / manifest_name("sitea", f"event_p{months_ago(2):%Y%m}"))
    archived.remove("objects", lambda row: row["position"] == 5)
    content = archived.path.read_bytes()
    with pytest.raises(DecodeError, match="does not fit the events"):
        await archive(past_log, tmp_path, THIN_ALL)
    assert archived.path.read_bytes() == content


async def test_a_full_disk_leaves_nothing_half_written(past_log: str, tmp_path: Path) -> None:
    before = await kept_in_database(past_log)

    with (
        file_size_limit(2000),
        pytest.raises(UnavailableError, match=r"parquet: cannot be written"),
    ):
        await archive(past_log, tmp_path)

    assert await kept_in_database(past_log) == before
    assert files_in(tmp_path) == []
    assert len(await archive(past_log, tmp_path)) == 2 * MONTHS


async def test_a_reader_delays_the_drop_and_nobody_else(
    past_log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "LOCK_PAUSE", 0.05)
    reader = await asyncpg.connect(past_log)
    async with Log.open(past_log) as log:
        writer = await log.acquire("sitea", "daemon", 60)
        assert writer is not None
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM pbscast_log.event")
            archiving = asyncio.create_task(archive(past_log, tmp_path))
            waits: list[float] = []
            while len(waits) < 20 or not list((tmp_path / "siteb").glob("*.json")):
                started = asyncio.get_running_loop().time()
                await writer.append([commented_usage("1.sitea", months_ago(0))], {})
                waits.append(asyncio.get_running_loop().time() - started)
            assert not archiving.done()
        await archiving
    await reader.close()
    assert max(waits) < keeping.LOCK_MILLISECONDS / 1000 + 5
    assert await records_of(past_log, tmp_path)


async def test_a_role_that_does_not_own_the_log_cannot_archive(
    past_log: str, tmp_path: Path
) -> None:
    await execute(
        past_log,
        "DROP ROLE IF EXISTS pbscast_test_writer",
        "CREATE ROLE pbscast_test_writer LOGIN",
        "SELECT pbscast_log.grant_writer('pbscast_test_writer')",
    )
    role = past_log.replace("//postgres@", "//pbscast_test_writer@")
    before = await kept_in_database(past_log)
    try:
        with pytest.raises(AccessDeniedError):
            await archive(role, tmp_path)
    finally:
        await execute(
            past_log, "DROP OWNED BY pbscast_test_writer", "DROP ROLE pbscast_test_writer"
        )
    assert await kept_in_database(past_log) == before


async def test_only_what_is_archived_can_be_dropped(past_log: str) -> None:
    before = await kept_in_database(past_log)

    with pytest.raises(asyncpg.PostgresError, match="in no archive"):
        await execute(
            past_log,
            f"SELECT pbscast_log.drop_archived_partition('event_p{months_ago(MONTHS):%Y%m}')",
        )

    assert await kept_in_database(past_log) == before


async def test_what_was_put_there_is_not_dropped(past_log: str, tmp_path: Path) -> None:
    """A row of a site that the log does not know: it is evidence."""
    columns = "position, time, logged, incarnation, revision, kind, id, event, provenance, payload"
    await execute(
        past_log,
        f"INSERT INTO pbscast_log.event (site, {columns}, digest) SELECT 'ghost', {columns}, digest"
        " FROM pbscast_log.event WHERE site = 'sitea' AND position = 3",
    )
    before = await kept_in_database(past_log)

    with pytest.raises(ConflictError, match="events of ghost, a site that the log does not know"):
        await archive(past_log, tmp_path)
    partition = f"event_p{months_ago(MONTHS):%Y%m}"
    await execute(
        past_log,
        "INSERT INTO pbscast_log.archive (site, first_position, last_position, previous, digest,"
        " earliest, latest, first_logged, last_logged, partition, manifest, thinnable)"
        f" SELECT name, 1, {EACH}, '', '', now(), now(), now(), now(), '{partition}', '', ''"
        " FROM pbscast_log.site",
    )
    with pytest.raises(asyncpg.PostgresError, match="events of site ghost that are in no archive"):
        await execute(past_log, f"SELECT pbscast_log.drop_archived_partition('{partition}')")

    assert await kept_in_database(past_log) == before


async def test_nothing_is_archived_where_earlier_archives_are_not(
    past_log: str, tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    kept = keep(past_log, right, KEEP_NOTHING, progress=lambda *_: None)
    with pytest.raises(NotFoundError, match="right: there is none: make it, or mount"):
        await anext(kept)
    right.mkdir()
    kept = keep(past_log, right, KEEP_NOTHING, progress=lambda *_: None)
    await anext(kept)
    await kept.aclose()
    before = await kept_in_database(past_log)
    assert before[0] == ("sitea", EACH + 1)

    with pytest.raises(NotFoundError, match="has not all that was archived before"):
        await archive(past_log, wrong)
    assert files_in(wrong) == []
    shutil.copytree(right, wrong, dirs_exist_ok=True)
    (file,) = (wrong / "siteb").glob("*.objects.parquet")
    file.write_bytes(b"")
    with pytest.raises(DecodeError, match=r"0 bytes.*has not all that was archived before"):
        await archive(past_log, wrong)

    assert await kept_in_database(past_log) == before
    assert len(await archive(past_log, right)) == 2 * (MONTHS - 1)


async def test_a_log_of_another_release_is_not_archived(log_dsn: str, tmp_path: Path) -> None:
    await execute(log_dsn, "INSERT INTO pbscast_log.migration (number, name) VALUES (9999, 'x')")
    with pytest.raises(UnsupportedError):
        await archive(log_dsn, tmp_path)


@pytest.fixture(scope="module")
def suicide() -> Iterator[Suicide]:
    """Archives in a process that kills itself at a step."""
    with Suicide() as suicide:
        yield suicide


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("writing._write_objects", "before"),
        ("writing.verify", "before"),
        ("writing.write_manifest", "after"),
        ("catalog.drop_partition", "before"),
        ("keeping._kept", "before"),
    ],
)
async def test_killed_anywhere_it_goes_on(
    past_log: str, tmp_path: Path, suicide: Suicide, step: str, when: str
) -> None:
    before = await records_of(past_log)

    suicide.archive(past_log, tmp_path, "KEEP_NOTHING", step, when)
    assert await records_of(past_log, tmp_path) == before
    await archive(past_log, tmp_path)

    assert await records_of(past_log, tmp_path) == before
    assert len(await kept_in_database(past_log)) == 2 * EACH
    _only_named_files(tmp_path)


async def test_thinning_that_is_killed_goes_on(
    past_log: str, tmp_path: Path, suicide: Suicide
) -> None:
    before = (await records_of(past_log))["sitea"]
    await archive(past_log, tmp_path)
    for when in ("before", "after"):
        suicide.archive(past_log, tmp_path, "THIN_ALL", "writing.write_manifest", when)
        states = [one for one in before if one.event != "usage"]
        left = (await records_of(past_log, tmp_path))["sitea"]
        assert [one for one in left if one.event != "usage"] == states

    await archive(past_log, tmp_path, THIN_ALL)

    _only_named_files(tmp_path)
    async with archived(past_log, tmp_path) as (_, archives):
        digest = chain.GENESIS
        async for entry in scanned(archives):
            digest = chain.link(digest, leaf_of(entry))
    assert digest == before[PAST - 1].digest


async def test_a_stream_is_filled_anew_from_archives(kept_log: KeptLog, nats_url: str) -> None:
    async with (
        archived(kept_log.dsn, kept_log.directory) as (log, _),
        fanning(log, nats_url, max_age=None) as fanout,
    ):
        await published_to(fanout, "sitea", PAST + EACH)
        await assert_published(nats_url, log, "sitea")


async def test_a_stream_is_filled_anew_without_what_was_thinned(
    past_log: str, tmp_path: Path, nats_url: str
) -> None:
    await archive(past_log, tmp_path, THIN_ALL)

    async with (
        archived(past_log, tmp_path) as (log, _),
        fanning(log, nats_url, max_age=None) as fanout,
    ):
        await published_to(fanout, "sitea", PAST + EACH)
        bodies = [one.body for one in await stored(nats_url, "pbs.v1.sitea.>") if not one.is_mark]
        assert bodies == [one.encode() for one in await whole(log, "sitea")]


def files_in(directory: Path) -> list[str]:
    """All below it, by name."""
    return [path.name for path in directory.rglob("*") if path.is_file()]


def _only_named_files(directory: Path) -> None:
    """No leftovers: what is there is what the manifests name."""
    for manifest_path in directory.rglob("*.json"):
        manifest = read_manifest(manifest_path)
        month = set(manifest_path.parent.glob(f"*{manifest.partition}*"))
        assert {path.name for path in month} == {
            manifest_path.name,
            manifest.events.name,
            manifest.objects.name,
        }


def _damage(file: Path, how: str) -> None:
    text = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(text[: len(text) // 2])
    else:
        middle = len(text) // 2
        file.write_bytes(text[:middle] + bytes([text[middle] ^ 0x81]) + text[middle + 1 :])


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full once a file has grown so far."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
