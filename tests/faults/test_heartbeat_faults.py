"""Silence is told from death: whatever keeps heartbeats from coming through is seen and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import pytest
import structlog.testing
from harness.ingesting import as_reader, assert_gapless, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer
from prometheus_client import REGISTRY

from pbscast.events import Gap, Liveness, Resync
from pbscast_ingest import condition, session
from pbscast_ingest.status import WorkerState
from pbscast_ingest.worker import SiteWorker
from pbscast_store.log import Log
from pbscast_store.records import Record

LATEST = "SELECT seq FROM pbscast.journal WHERE op = 'H' ORDER BY seq DESC LIMIT 1"


@pytest.fixture(autouse=True)
def _brief_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat each 0.1 s."""
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(condition, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(session, "TRIM_SECONDS", 0.1)


@pytest.fixture
def db(captured: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(captured, autocommit=True) as connection:
        yield connection


def _metric(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"pbscast_ingest_{name}", {"site": "sitea"})


def _site_events(records: list[Record]) -> list[str]:
    return [record.event for record in records if record.kind == "site"]


def _last_word(event: str) -> Callable[[list[Record]], bool]:
    return lambda records: _site_events(records)[-1:] == [event]


async def _reach(worker: SiteWorker, state: WorkerState) -> None:
    while worker.status.state is not state:  # noqa: ASYNC110 - a status has no event to wait for
        await asyncio.sleep(0.02)


UNHEARD = {
    "function dropped": (
        "ALTER FUNCTION pbscast.heartbeat() RENAME TO gone",
        "ALTER FUNCTION pbscast.gone() RENAME TO heartbeat",
        "does not exist",
    ),
    "right revoked": (
        "REVOKE EXECUTE ON FUNCTION pbscast.heartbeat() FROM pbscast_reader",
        "GRANT EXECUTE ON FUNCTION pbscast.heartbeat() TO pbscast_reader",
        "permission denied",
    ),
    "swallowed": (
        """
        CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RETURN NULL; END';
        CREATE TRIGGER swallow BEFORE INSERT ON pbscast.journal
            FOR EACH ROW WHEN (NEW.op = 'H') EXECUTE FUNCTION public.swallow()
        """,
        "DROP TRIGGER swallow ON pbscast.journal",
        "no room",
    ),
}


@pytest.mark.parametrize("fault", UNHEARD)
async def test_heartbeats_that_cannot_be_written(
    log: Log, captured: str, db: psycopg.Connection, fault: str
) -> None:
    breaking, mending, words = UNHEARD[fault]
    with structlog.testing.capture_logs() as logged:
        async with ingesting(log, as_reader(captured)) as worker:
            await wait_for(log, is_resynced)
            db.execute(breaking.encode())
            await _reach(worker, WorkerState.SILENT)
            assert words in (worker.status.error or "")
            assert (_metric("silent"), _metric("up")) == (1, 0)
            down = (await wait_for(log, _last_word("down")))[-1].decode()
            assert isinstance(down, Liveness)
            assert "heartbeat" in (down.cause or "")
            # What PBS saves comes all the same.
            with PbsServer(captured) as pbs:
                pbs.submit("1.s")
            await wait_for(log, lambda records: any(r.id == "1.s" for r in records))
            assert worker.status.state is WorkerState.SILENT
            db.execute(mending.encode())
            records = await wait_for(log, _last_word("up"))
            await _reach(worker, WorkerState.FOLLOWING)
            assert (worker.status.error, _metric("silent")) == (None, 0)
    assert_gapless(records)
    assert _site_events(records) == ["up", "resync", "down", "up"]
    warnings = [entry for entry in logged if entry["log_level"] == "warning"]
    assert [words in entry["error"] for entry in warnings] == [True]


async def test_heartbeats_that_are_written_and_hidden(
    log: Log, captured: str, db: psycopg.Connection
) -> None:
    """The connection that writes is answered, the one that reads sees nothing of it."""
    async with ingesting(log, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        (seq,) = db.execute(LATEST).fetchone() or (0,)
        db.execute(
            f"CREATE POLICY old ON pbscast.journal USING (seq <= {seq} + 2);"
            "ALTER TABLE pbscast.journal ENABLE ROW LEVEL SECURITY".encode()
        )
        await _reach(worker, WorkerState.SILENT)
        assert "not found" in (worker.status.error or "")
        with PbsServer(captured) as pbs:
            pbs.submit("1.s")
        db.execute("ALTER TABLE pbscast.journal DISABLE ROW LEVEL SECURITY")
        records = await wait_for(log, lambda records: any(r.id == "1.s" for r in records))
        await _reach(worker, WorkerState.FOLLOWING)
    assert "gap" not in _site_events(records)


async def test_rows_that_are_deleted_unread(
    log: Log, captured: str, db: psycopg.Connection
) -> None:
    async with ingesting(log, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        db.execute(
            "CREATE FUNCTION public.clean() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
            " 'BEGIN DELETE FROM pbscast.journal WHERE seq = NEW.seq; RETURN NULL; END';"
            "CREATE TRIGGER clean AFTER INSERT ON pbscast.journal"
            " FOR EACH ROW EXECUTE FUNCTION public.clean()"
        )
        with PbsServer(captured) as pbs:
            pbs.submit("1.s")
            await _reach(worker, WorkerState.SILENT)
            db.execute("DROP TRIGGER clean ON pbscast.journal")
            pbs.submit("2.s")
        records = await wait_for(log, lambda r: _site_events(r).count("resync") == 2)
        await _reach(worker, WorkerState.FOLLOWING)
    assert_gapless(records)
    (gap,) = [event for r in records if isinstance(event := r.decode(), Gap)]
    assert gap.cause == condition.DELETED
    (told,) = [r for r in records if r.id == "1.s"]
    assert gap.begin is not None
    assert gap.end is not None
    assert (told.event, told.provenance) == ("submit", "resync")
    mended = next(event for r in reversed(records) if isinstance(event := r.decode(), Resync))
    assert mended.appeared == 1


async def test_a_journal_that_is_emptied(log: Log, captured: str, db: psycopg.Connection) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        with db.transaction():
            db.execute("LOCK TABLE pbscast.journal IN ACCESS EXCLUSIVE MODE")
            db.execute("DELETE FROM pbscast.journal")
        records = await wait_for(log, lambda r: _site_events(r).count("resync") == 2)
    (gap,) = [event for r in records if isinstance(event := r.decode(), Gap)]
    assert "emptied" in (gap.cause or "")


async def test_triggers_disabled_behind_our_back(
    log: Log, captured: str, db: psycopg.Connection
) -> None:
    async with ingesting(log, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        db.execute("ALTER TABLE pbs.job DISABLE TRIGGER pbscast_row")
        with PbsServer(captured) as pbs:
            pbs.submit("1.s")
        await _reach(worker, WorkerState.BLIND)
        assert "pbs.job" in (worker.status.error or "")
        await wait_for(log, _last_word("down"))
        db.execute("ALTER TABLE pbs.job ENABLE ALWAYS TRIGGER pbscast_row")
        records = await wait_for(log, lambda r: _site_events(r).count("resync") == 2)
        await _reach(worker, WorkerState.FOLLOWING)
    assert _site_events(records)[-3:] == ["gap", "up", "resync"]
    assert [r.event for r in records if r.id == "1.s"] == ["submit"]


async def test_rows_that_may_not_be_deleted_are_read_all_the_same(
    log: Log, captured: str, db: psycopg.Connection
) -> None:
    async with ingesting(log, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        db.execute("REVOKE DELETE ON pbscast.journal FROM pbscast_reader")
        with PbsServer(captured) as pbs:
            pbs.submit("1.s")
        while "permission denied" not in (worker.status.error or ""):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        await wait_for(log, lambda records: any(r.id == "1.s" for r in records))
        db.execute("GRANT DELETE ON pbscast.journal TO pbscast_reader")
        while worker.status.error is not None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
    assert _site_events(await wait_for(log, is_resynced)) == ["up", "resync"]
