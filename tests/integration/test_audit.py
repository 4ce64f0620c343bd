"""Audits of whole logs: real traces, large ones, old ones, archived ones, forged ones."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random

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
    months_ago,
    write_at,
    write_months,
)
from harness.histories import History
from harness.ingesting import as_reader, ingesting, is_resynced, wait_for
from harness.older_log import OlderLog
from harness.servers import Databases
from structlog.testing import capture_logs

from pbscast.errors import ConfigError, NotFoundError
from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast_deploy.oracle import expect
from pbscast_deploy.signing import sign_regularly
from pbscast_deploy.simulator.record import commits_of
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import bundled_traces, read_trace
from pbscast_ingest.capture import install
from pbscast_store import chain
from pbscast_store.archive import keeping
from pbscast_store.archive.archives import Archives
from pbscast_store.archive.manifest import manifest_name
from pbscast_store.archive.retention import Policy
from pbscast_store.audit import narrator, story
from pbscast_store.audit.checkpoints import read_file, read_stored, sign, write_file
from pbscast_store.audit.keys import SigningKey, load_private_key, make_key
from pbscast_store.audit.verify import verify
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import Record


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    make_key(tmp_path / "key")
    return load_private_key(tmp_path / "key")


async def write(dsn: str, site: str = "sitea", seed: int = 0, events: int = 60) -> None:
    async with Log.open(dsn) as log:
        await log.register_site(site)
        writer = await log.acquire(site, "test", 600)
        assert writer is not None
        for batch in History(site, Random(seed)).grow(events):
            await writer.append(batch, {})
        await writer.release()


def _have_ended(ends: int, records: list[Record]) -> bool:
    return sum(record.event == EventName.FINALIZE for record in records) >= ends


async def tamper(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_recorded_traces_are_clean(
    log: Log, log_dsn: str, new_datastore: Callable[[], str]
) -> None:
    for site, path in bundled_traces().items():
        changes, datastore = read_trace(path), new_datastore()
        ends = sum(life.end is not None for life in expect(commits_of(changes)).lives.values())
        async with Replay(changes, datastore) as replay:
            await replay.seed()
            await asyncio.to_thread(install, datastore, site=site)
            async with ingesting(log, as_reader(datastore), site):
                await wait_for(log, is_resynced, site)
                await replay.run(speed=None)
                await wait_for(log, partial(_have_ended, ends), site)
    verdicts = await verify(log_dsn)
    assert [verdict.site for verdict in verdicts] == ["sitea", "siteb"]
    for verdict in verdicts:
        assert verdict.finding is None
        assert verdict.tale.oddities == {}
        assert verdict.tale.incarnations >= 18


async def test_a_large_log_is_told_by_another_process(
    log_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrator, "SMALL", 0)
    # What lies about where the command is given is not taken for a library.
    (tmp_path / "asyncpg.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    await write(log_dsn, "sitea")
    await write(log_dsn, "siteb", seed=1)
    await tamper(log_dsn, "UPDATE pbscast_log.object SET owner = 'mallory' WHERE kind = 'node'")
    await tamper(log_dsn, "DELETE FROM pbscast_log.object WHERE site = 'siteb'")
    seen: list[tuple[str, int, int]] = []
    sitea, siteb = await verify(log_dsn, progress=lambda *told: seen.append(told))
    assert "(node n1, incarnation 1): its row in object is not what its events tell: owner is" in (
        str(sitea.finding)
    )
    assert "its row in object was removed: events tell of it" in str(siteb.finding)
    assert {(site, done == total) for site, done, total in seen} == {
        ("sitea", True),
        ("siteb", True),
    }


async def test_a_log_rewritten_as_a_whole_does_not_agree_with_what_was_exported(
    log_dsn: str, log_databases: Databases, key: SigningKey, tmp_path: Path
) -> None:
    await write(log_dsn, seed=1)
    await sign(log_dsn, key)
    write_file(tmp_path / "kept.jsonl", await read_stored(log_dsn))
    exported = read_file(tmp_path / "kept.jsonl")
    assert exported == await read_stored(log_dsn)
    (verdict,) = await verify(log_dsn, keys=key.public, exported=exported)
    assert verdict.is_clean
    assert verdict.signed_up_to == verdict.position

    forged = log_databases.create()
    await Log.migrate_at(forged)
    await write(forged, seed=2, events=70)
    (verdict,) = await verify(forged, keys=key.public)
    assert verdict.is_clean
    assert verdict.checkpoints == 0
    (verdict,) = await verify(forged, keys=key.public, exported=exported)
    assert verdict.finding is not None
    assert verdict.finding.position == exported[0].position


async def test_a_checkpoint_by_another_key_is_refused(
    log_dsn: str, key: SigningKey, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    other = load_private_key(tmp_path / "other")
    await write(log_dsn)
    (made,) = await sign(log_dsn, other)
    assert await sign(log_dsn, other) == []
    (verdict,) = await verify(log_dsn, keys=key.public)
    assert str(verdict.finding) == (
        f"sitea:{made.position}: checkpoint 1 was signed with the key {other.key_id},"
        f" not with {key.key_id}"
    )
    (unchecked,) = await verify(log_dsn)
    assert unchecked.is_clean
    assert (unchecked.checkpoints, unchecked.is_signature_checked) == (1, False)


async def test_an_append_that_logs_nothing_leaves_the_last_event_the_last(log_dsn: str) -> None:
    """A finalize of what is finalized is dropped: no event, and none was logged at that moment."""
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    payload = FinalizePayload(state="F", reason=Reason.FINISHED, exit_status=0)
    end = Draft(Kind.JOB, "1.s", EventName.FINALIZE, moment, Provenance.JOURNAL, payload, ends=True)
    async with Log.open(log_dsn) as log:
        await log.register_site("sitea")
        writer = await log.acquire("sitea", "test", 600)
        assert writer is not None
        await writer.append([end], {})
        again = await writer.append([end], {"page": 2})
        assert (again.first, again.last, again.dropped) == (2, 1, 1)
        await writer.release()
    (verdict,) = await verify(log_dsn)
    assert verdict.finding is None


async def test_who_may_read_the_log_may_verify_it(log_dsn: str) -> None:
    await write(log_dsn)
    role = "pbscast_test_auditor"
    await tamper(
        log_dsn,
        f"DROP ROLE IF EXISTS {role}",
        f"CREATE ROLE {role} LOGIN",
        f"SELECT pbscast_log.grant_reader('{role}')",
    )
    try:
        (verdict,) = await verify(log_dsn.replace("//postgres@", f"//{role}@"))
    finally:
        await tamper(log_dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert verdict.finding is None


async def test_a_site_that_nobody_knows(log_dsn: str) -> None:
    with pytest.raises(NotFoundError, match="no such site: nowhere"):
        await verify(log_dsn, site="nowhere")


async def test_what_was_logged_before_the_chain_is_said_to_be_so(
    log_databases: Databases,
) -> None:
    dsn, history = log_databases.create(), History("sitea", Random(3))
    connection = await asyncpg.connect(dsn)
    older = OlderLog(connection)
    await older.make()
    await older.acquire("sitea")
    for batch in history.grow(80):
        assert await older.append("sitea", batch)
    await connection.close()
    await Log.migrate_at(dsn)
    (verdict,) = await verify(dsn)
    assert verdict.finding is None
    assert verdict.chained_after == verdict.position >= 80

    async with Log.open(dsn) as log:
        writer = await log.acquire("sitea", "older", 600)
        assert writer is not None
        for batch in history.grow(40):
            await writer.append(batch, {})
        await writer.release()
    (verdict,) = await verify(dsn)
    assert verdict.finding is None
    assert verdict.chained_after < verdict.position
    await tamper(dsn, "UPDATE pbscast_log.event SET provenance = 'status' WHERE position = 100")
    (verdict,) = await verify(dsn)
    assert verdict.finding is not None
    assert verdict.finding.position == 100


async def test_archives_are_part_of_the_log(log_dsn: str, tmp_path: Path) -> None:
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=120)
    (before,) = await verify(log_dsn)
    assert before.finding is None
    directory = tmp_path / "archives"
    directory.mkdir()
    await archive(log_dsn, directory, THIN_ALL)

    (verdict,) = await verify(log_dsn, archives=directory)
    assert verdict.finding is None
    assert verdict.position == before.position
    assert verdict.tale.thinned > 0
    assert verdict.tale.incarnations == before.tale.incarnations
    with pytest.raises(ConfigError, match="directory"):
        await verify(log_dsn)

    damaged = max(directory.rglob("*.parquet"), key=lambda file: file.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (verdict,) = await verify(log_dsn, archives=directory)
    assert verdict.finding is not None
    assert damaged.name in str(verdict.finding)


@pytest.mark.parametrize("hidden", ["modify", "usage"])
async def test_nothing_can_be_hidden_by_thinning_it(
    log_dsn: str, tmp_path: Path, hidden: str
) -> None:
    """The archive says of an event that it was a usage event, and that its payload is not kept."""
    moment = months_ago(1) + DAY
    async with Log.open(log_dsn) as log:
        await give_past(log_dsn, 1)
        events = [commented_usage("1.sitea", moment), commented_usage("1.sitea", moment)]
        events[1] = replace(events[1], event=EventName(hidden))
        await write_at(log, "sitea", moment, [replace(events[0], begins=True), *events])
    await archive(log_dsn, tmp_path)
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert verdict.finding is None

    archived = Archived(tmp_path / manifest_name("sitea", f"event_p{months_ago(1):%Y%m}"))
    row = archived.rows("events")[2]
    payload_sha256 = chain.hash_payload(row["payload"])
    thin = {"event": "usage", "payload": None, "digest": None, "payload_sha256": payload_sha256}
    archived.change("events", 2, thin)
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert "other events have lost their payload" in str(verdict.finding)
    archived.remove("objects", lambda one: one["position"] == 3)
    thinnable = hashlib.sha256(b"3\n")
    archived.say("contents", thinnable=thinnable.hexdigest())
    archived.say(usage="thinned", thinned=1)
    archived.rename()
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert "says that thinnable is" in str(verdict.finding)
    await tamper(log_dsn, "UPDATE pbscast_log.archive SET thinnable = sha256('3\n')")
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert "was thinned, and the log says that it was not" in str(verdict.finding)
    await tamper(
        log_dsn,
        "INSERT INTO pbscast_log.thinning SELECT site, first_position FROM pbscast_log.archive",
    )
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    # Who writes the database as well can hide what a usage event said, but no other event.
    assert (verdict.finding is not None) == (hidden == "modify")


@pytest.mark.parametrize("policy", [KEEP_NOTHING, THIN_ALL])
async def test_a_payload_that_says_it_was_thinned_was_not(
    log_dsn: str, tmp_path: Path, policy: Policy
) -> None:
    moment = months_ago(1) + DAY
    plain = ChangePayload(owner="alice", state="R", changed={"resources_used.mem": "1kb"})
    async with Log.open(log_dsn) as log:
        await give_past(log_dsn, 1)
        said = commented_usage("1.sitea", moment)
        drafts = [replace(said, begins=True), said, replace(said, payload=plain), said]
        await write_at(log, "sitea", moment, drafts)
    await archive(log_dsn, tmp_path, policy)
    archived = Archived(tmp_path / manifest_name("sitea", f"event_p{months_ago(1):%Y%m}"))
    payload = archived.rows("events")[1]["payload"]
    mark = f"#{chain.hash_payload(payload).hex()}"

    archived.change("events", 1, {"payload": mark})
    (at_first,) = await verify(log_dsn, archives=tmp_path)
    archived.change("objects", 1, {"bytes": len(mark)})
    (verdict,) = await verify(log_dsn, archives=tmp_path)

    assert verdict.finding == at_first.finding
    assert verdict.finding is not None
    assert verdict.finding.position == 2
    assert "its payload is the mark of a thinned event" in verdict.finding.text


async def test_who_has_only_the_directory_cannot_thin(log_dsn: str, tmp_path: Path) -> None:
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=60, months=1)
    await archive(log_dsn, tmp_path)
    whole = shutil.copytree(tmp_path, tmp_path.with_name("whole"))
    await archive(log_dsn, tmp_path, THIN_ALL)
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert verdict.finding is None
    assert verdict.tale.thinned
    await tamper(log_dsn, "DELETE FROM pbscast_log.thinning")
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert "was thinned, and the log says that it was not" in str(verdict.finding)
    (verdict,) = await verify(log_dsn, archives=whole)
    assert verdict.finding is None


async def test_an_event_of_postgresql_is_never_thinned(log_databases: Databases) -> None:
    """Before the chain no digest says what the payload was."""
    dsn, history = log_databases.create(), History("sitea", Random(3))
    connection = await asyncpg.connect(dsn)
    older = OlderLog(connection)
    await older.make()
    await older.acquire("sitea")
    for batch in history.grow(80):
        assert await older.append("sitea", batch)
    await connection.close()
    await Log.migrate_at(dsn)
    usage = "(SELECT max(position) FROM pbscast_log.event WHERE event = 'usage')"
    mark = f"UPDATE pbscast_log.event SET payload = '#{'0' * 64}' WHERE position = {usage}"
    await tamper(dsn, mark)
    (verdict,) = await verify(dsn)
    assert "its payload is the mark of a thinned event" in str(verdict.finding)


async def test_an_event_cut_out_of_the_index_of_objects_is_missed(
    log_dsn: str, tmp_path: Path
) -> None:
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=20, months=1)
    await archive(log_dsn, tmp_path)
    archived = Archived(tmp_path / manifest_name("sitea", f"event_p{months_ago(1):%Y%m}"))
    archived.remove("objects", lambda row: row["position"] == 7)
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert verdict.finding is not None
    assert verdict.finding.position == 1
    assert "objects.parquet: does not fit the events" in verdict.finding.text


async def test_what_is_archived_meanwhile_is_seen_before_or_after(
    log_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "LOCK_PAUSE", 0.05)
    async with Log.open(log_dsn) as log:
        await write_months(log, log_dsn, "sitea", each=20, months=1)
    archiving: list[asyncio.Task[object]] = []
    look = Archives.look

    async def late_look(self: Archives) -> None:
        archiving.append(asyncio.create_task(archive(log_dsn, tmp_path)))
        await asyncio.wait(archiving, timeout=0.5)
        await look(self)

    with monkeypatch.context() as patch:
        patch.setattr(Archives, "look", late_look)
        (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert verdict.finding is None
    assert await archiving[0]
    (verdict,) = await verify(log_dsn, archives=tmp_path)
    assert verdict.finding is None


async def test_the_memory_of_an_audit_is_not_that_of_what_lives(
    log_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of jobs that have not ended some hundred bytes are held each, and not what they say."""
    jobs, size = 3000, 4096
    monkeypatch.setattr(story, "HELD", 200)
    moment = datetime.now(UTC)

    def submitted(number: int) -> Draft:
        said = {"Variable_List": f"{number:06}".ljust(size, "x")}
        payload = ChangePayload(owner="alice", state="Q", changed=said)
        return Draft(
            *(Kind.JOB, f"{number}.s", EventName.SUBMIT, moment, Provenance.JOURNAL, payload),
            begins=True,
        )

    async with Log.open(log_dsn) as log:
        await write_at(log, "sitea", moment, map(submitted, range(jobs)))
    tracemalloc.start()
    (verdict,) = await verify(log_dsn)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdict.finding is None
    assert verdict.tale.incarnations == jobs
    assert peak < jobs * size


async def test_the_daemon_signs_once_it_has_its_key(log_dsn: str, tmp_path: Path) -> None:
    await write(log_dsn)
    path = tmp_path / "late.key"
    with capture_logs() as logs:
        signing = asyncio.create_task(sign_regularly(log_dsn, path, 0.01))
        await _until(lambda: len(logs) == 1)
        assert await read_stored(log_dsn) == []
        make_key(path)
        await _until(lambda: len(logs) == 2)
        signing.cancel()
    (made,) = await read_stored(log_dsn)
    assert (made.site, made.number) == ("sitea", 1)
    warned, signed = logs
    assert "cannot be read: No such file" in warned["error"]
    assert signed["event"] == "signed"


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
