"""What was missed and what was not: lives stay whole around a gap, and a gap is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from harness.ingesting import (
    as_reader,
    assert_gapless,
    every_record,
    ingesting,
    is_resynced,
    lives_of,
    wait_for,
)
from harness.pbs import PbsServer
from prometheus_client import REGISTRY

from pbscast.events import EventName, Gap, Reason
from pbscast_ingest import condition, reader, session
from pbscast_ingest.capture import pause, resume
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.faults import DatastoreUnavailableError
from pbscast_ingest.resync import Resync
from pbscast_ingest.status import WorkerState
from pbscast_ingest.worker import SiteWorker
from pbscast_store.log import Log
from pbscast_store.records import Record


@pytest.fixture(autouse=True)
def _brief_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat each 0.1 s."""
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(condition, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(session, "TRIM_SECONDS", 0.1)


@pytest.fixture
def pbs(captured: str) -> Iterator[PbsServer]:
    with PbsServer(captured) as server:
        yield server


def _names(records: list[Record], name: str) -> list[str]:
    return [record.event for record in records if record.id == name]


def _count(event: EventName, number: int) -> Callable[[list[Record]], bool]:
    return lambda records: sum(record.event == event for record in records) >= number


def _told(job: str, event: EventName = EventName.SUBMIT) -> Callable[[list[Record]], bool]:
    return lambda records: event in _names(records, job)


def _gaps(records: list[Record]) -> list[Gap]:
    return [event for record in records if isinstance(event := record.decode(), Gap)]


def _reasons(records: list[Record], job: str) -> list[str | None]:
    lives = [(life, end) for (name, life), (_, end) in lives_of(records).items() if name == job]
    return [end and end.reason for _, end in sorted(lives, key=lambda item: item[0])]


def _slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """A resync takes this long for each kind of object."""
    present_ids = Log.present_ids

    async def slowly(self: Log, site: str, kind: str, first: str, most: int) -> list[str]:
        await asyncio.sleep(seconds)
        return await present_ids(self, site, kind, first, most)

    monkeypatch.setattr(Log, "present_ids", slowly)


def _hold_up(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """A resync goes on until the event."""
    present_ids, go_on = Log.present_ids, asyncio.Event()

    async def held(self: Log, site: str, kind: str, first: str, most: int) -> list[str]:
        await go_on.wait()
        return await present_ids(self, site, kind, first, most)

    monkeypatch.setattr(Log, "present_ids", held)
    return go_on


async def test_lives_on_both_sides_of_a_marker_in_one_page(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s", "R/42")
        await wait_for(log, _told("1.s"))
    pause(captured, "maintenance")
    pbs.delete("1.s")
    pbs.submit("5.s")
    resume(captured)
    pbs.submit("1.s")
    pbs.save("5.s", "R/42")
    pbs.finish("5.s")
    pbs.delete("5.s")
    async with ingesting(log, as_reader(captured)):
        records = await wait_for(log, _count(EventName.RESYNC, 2))
    assert_gapless(records)
    assert _reasons(records, "1.s") == [Reason.VANISHED, None]
    assert _names(records, "5.s") == ["submit", "state", "state", "finalize", "purge"]


async def test_lives_that_go_on_after_a_truncate_in_one_page(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s", "R/42")
        await wait_for(log, _told("1.s"))
    pbs.connection.execute("TRUNCATE pbs.job")
    pbs.submit("1.s")
    pbs.delete("1.s")
    async with ingesting(log, as_reader(captured)):
        records = await wait_for(log, _count(EventName.RESYNC, 2))
    assert _reasons(records, "1.s") == [Reason.VANISHED, Reason.DELETED]


async def test_a_gap_in_the_life_of_a_worker_that_began_with_an_empty_log(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s", "R/42")
        await wait_for(log, _told("1.s"))
        with psycopg.connect(captured) as other:
            other.execute("SELECT txid_current()")  # the resync waits for it
            await asyncio.to_thread(pause, captured, "maintenance")
            pbs.delete("1.s")
            await asyncio.to_thread(resume, captured)
            await wait_for(log, _count(EventName.GAP, 1))
            pbs.submit("1.s")
            await wait_for(log, lambda records: len(_names(records, "1.s")) > 2)
        records = await wait_for(log, _count(EventName.RESYNC, 2))
    assert _reasons(records, "1.s") == [Reason.VANISHED, None]


async def test_what_is_journaled_after_the_end_of_a_gap_is_told(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a restored journal, rows from before are passed over, those from after are not."""
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s")
        await wait_for(log, _told("1.s"))
    # As a backup would have it: an older row, and none of the last that were read.
    pbs.connection.execute("DELETE FROM pbscast.journal")
    pbs.connection.execute(
        "INSERT INTO pbscast.journal (seq, xid, at, op) VALUES (1, 1, clock_timestamp(), 'H')"
    )
    pbs.save("1.s", "R/42")
    _slow_down(monkeypatch, 0.3)
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, _count(EventName.GAP, 1))
        pbs.submit("9.s", "R/42")
        pbs.finish("9.s")
        pbs.delete("9.s")
        records = await wait_for(log, _count(EventName.RESYNC, 2))
    assert_gapless(records)
    assert _names(records, "1.s") == ["submit", "state"]
    assert _names(records, "9.s") == ["submit", "state", "finalize", "purge"]


async def test_an_emptied_journal_holds_nothing_old(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    """Nor does a journal whose log was restored."""
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s")
        await wait_for(log, _told("1.s"))
    pbs.connection.execute("DELETE FROM pbscast.journal")
    pbs.submit("9.s", "R/42")
    pbs.finish("9.s")
    pbs.delete("9.s")
    async with ingesting(log, as_reader(captured)):
        records = await wait_for(log, _count(EventName.RESYNC, 2))
    assert _names(records, "9.s") == ["submit", "state", "finalize", "purge"]
    assert [gap.cause for gap in _gaps(records)] == [session.STRANGE]


async def _marker_may_be_written(pbs: PbsServer) -> None:
    """A session that lost a save tries no other for a second."""
    due = "split_part(current_setting('pbscast.owed'), ' ', 3)::numeric"
    sql = f"SELECT pg_sleep(greatest(0, {due} - extract(epoch FROM clock_timestamp()))::float)"
    await asyncio.to_thread(pbs.connection.execute, sql.encode())


async def test_a_loss_and_its_marker_are_one_gap(log: Log, captured: str, pbs: PbsServer) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s")
        with psycopg.connect(captured) as other:
            other.execute("LOCK TABLE pbscast.journal IN EXCLUSIVE MODE")
            pbs.save("1.s", "R/42")
        await wait_for(log, _count(EventName.RESYNC, 2))
        await _marker_may_be_written(pbs)
        pbs.submit("2.s")
        marker = pbs.connection.execute("SELECT FROM pbscast.journal WHERE op = 'G'")
        assert marker.rowcount == 1
        pbs.submit("3.s")
        await wait_for(log, _told("3.s"))
        await asyncio.sleep(1)
        records = await every_record(log)
    assert _names(records, "sitea") == ["up", "resync", "down", "gap", "up", "resync"]


async def test_losses_that_go_on_are_one_gap(log: Log, captured: str, pbs: PbsServer) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s")
        marker = (
            "SELECT pbscast.mark_gap('error', 'point', NULL, ARRAY['message', 'x']);"
            "SELECT pbscast.ring()"
        )
        for _ in range(20):
            pbs.connection.execute(marker.encode())
            await asyncio.sleep(0.02)
        records = await wait_for(log, _count(EventName.RESYNC, 2))
    assert _names(records, "sitea") == ["up", "resync", "down", "gap", "up", "resync"]
    (gap,) = _gaps(records)
    assert gap.begin is not None
    assert gap.end is not None
    (row,) = pbs.connection.execute(
        "SELECT extract(epoch FROM max(at) - min(at)) FROM pbscast.journal WHERE op = 'G'"
    ).fetchall()
    assert (gap.end - gap.begin).total_seconds() >= float(row[0] or 0)


async def test_a_full_journal_is_one_gap(log: Log, captured: str, pbs: PbsServer) -> None:
    connection = pbs.connection
    owes = "SELECT coalesce(current_setting('pbscast.owed', true), '') <> ''"
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        connection.execute("UPDATE pbscast.control SET cap_bytes = 200000")
        pbs.submit("1.s")
        for number in range(3000):
            pbs.save("1.s", "R/42" if number % 2 else "Q/10")
            if connection.execute(owes).fetchone() == (True,):
                break
        pbs.save("1.s", "E/50")
        await wait_for(log, _count(EventName.GAP, 1))
        await asyncio.sleep(1.1)  # the session tries again
        pbs.submit("2.s")
        records = await wait_for(log, _told("2.s"))
        await asyncio.sleep(0.5)
        records = await wait_for(log, _count(EventName.RESYNC, 2))
    assert _names(records, "sitea") == ["up", "resync", "down", "gap", "up", "resync"]


async def test_heartbeats_read_in_a_resync_that_is_cut_short(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        _slow_down(monkeypatch, 0.2)
        compare, cut = Resync._compare, asyncio.Event()

        async def once(self: Resync, *args: Any) -> None:
            if not cut.is_set():
                cut.set()
                raise DatastoreUnavailableError("datastore: cut")
            await compare(self, *args)

        monkeypatch.setattr(Resync, "_compare", once)
        pbs.connection.execute("TRUNCATE pbs.node")
        await wait_for(log, _count(EventName.RESYNC, 2))
        await asyncio.sleep(1)
        records = await every_record(log)
    assert [gap.cause for gap in _gaps(records)] == [condition.TRUNCATED]


async def test_a_gap_does_not_end_a_silence(log: Log, captured: str, pbs: PbsServer) -> None:
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.connection.execute("REVOKE EXECUTE ON FUNCTION pbscast.heartbeat() FROM pbscast_reader")
        await wait_for(log, _told("sitea", EventName.DOWN))
        pbs.connection.execute("TRUNCATE pbs.node")
        records = await wait_for(log, _count(EventName.RESYNC, 2))
        assert _names(records, "sitea") == ["up", "resync", "down", "gap", "resync"]
        pbs.connection.execute("GRANT EXECUTE ON FUNCTION pbscast.heartbeat() TO pbscast_reader")
        await wait_for(log, _count(EventName.UP, 2))


async def test_a_heartbeat_deleted_before_capture_ever_worked(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    pause(captured, "maintenance")
    pbs.connection.execute(
        "CREATE FUNCTION public.clean() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'BEGIN DELETE FROM pbscast.journal WHERE seq = NEW.seq; RETURN NULL; END';"
        "CREATE TRIGGER clean AFTER INSERT ON pbscast.journal"
        " FOR EACH ROW EXECUTE FUNCTION public.clean()"
    )
    async with ingesting(log, as_reader(captured)) as worker:
        while worker.status.error is None:  # noqa: ASYNC110 - a status has no event to wait for
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        pbs.connection.execute("DROP TRIGGER clean ON pbscast.journal")
        await asyncio.to_thread(resume, captured)
        await wait_for(log, _told("sitea", EventName.UP))


async def test_the_lag_is_measured_while_a_resync_goes_on(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ingesting(log, as_reader(captured)) as worker:
        await wait_for(log, is_resynced)
        measured = _hold_up(monkeypatch)
        pbs.connection.execute("TRUNCATE pbs.node")
        while worker.status.state is not WorkerState.RESYNCING:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        pbs.submit("1.s")
        while not worker.status.lag_rows:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        assert worker.status.state is WorkerState.RESYNCING
        assert _lag() == worker.status.lag_rows
        measured.set()
    assert _lag() is None


def _lag() -> float | None:
    return REGISTRY.get_sample_value("pbscast_ingest_lag_rows", {"site": "sitea"})


def more_than(count: int) -> Callable[[list[Record]], bool]:
    return lambda records: len(records) > count


async def test_a_backlog_full_of_holes_gathers_none_in_the_cursor(
    log: Log, captured: str, pbs: PbsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As saves leave them that are rolled back.

    They are kept while somebody's snapshot is older, were it of autovacuum: so more than one try.
    """
    async with ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
    pbs.submit("1.s")
    holes: list[int] = []
    dump = Cursor.dump

    def note(cursor: Cursor) -> dict[str, object]:
        holes.append(len(cursor.holes))
        return dump(cursor)

    monkeypatch.setattr(Cursor, "dump", note)
    monkeypatch.setattr(reader, "PAGE_ROWS", 40)
    for saved in range(400, 2400, 400):
        for number in range(400):
            pbs.connection.execute("SELECT nextval('pbscast.journal_seq')")
            pbs.save("1.s", comment=f"{saved} {number}")
        holes.clear()
        async with ingesting(log, as_reader(captured)):
            records = await wait_for(log, more_than(saved))
        assert_gapless(records)
        if max(holes) < 100:
            break
    assert 38 <= max(holes) < 100


async def test_who_stands_by_measures_nothing(log: Log, captured: str) -> None:
    first = SiteWorker(log, "sitea", as_reader(captured), "first")
    working = asyncio.create_task(first.run())
    await wait_for(log, is_resynced)
    first.stop()
    await working
    assert _lag() is None
