"""A log that takes some events as they are, some in part and some not at all: no site stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import asyncpg
import pytest
from harness.ingesting import as_reader, assert_gapless, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer
from prometheus_client import REGISTRY

from pbscast.events import Change, Finalize
from pbscast_ingest import retry
from pbscast_ingest.refusals import MOST_CHARACTERS, NOTE
from pbscast_ingest.status import WorkerState
from pbscast_store.log import Log
from pbscast_store.records import Record

_REFUSING = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF length(NEW.payload) > 20000 OR NEW.payload LIKE '%deadly%' THEN
        RAISE program_limit_exceeded USING MESSAGE = 'this is too much';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON pbscast_log.event
    FOR EACH ROW EXECUTE FUNCTION public.refuse()
"""
LARGE = "0123456789" * 2500


@pytest.fixture(autouse=True)
def _brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retry, "LAST_SECONDS", 0.1)


@pytest.fixture
def pbs(captured: str) -> Iterator[PbsServer]:
    with PbsServer(captured) as server:
        yield server


@pytest.fixture
async def administrator(log: Log, log_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Of a log that refuses some events."""
    connection = await asyncpg.connect(log_dsn)
    await connection.execute(_REFUSING)
    yield connection
    await connection.close()


def _refused() -> float:
    return REGISTRY.get_sample_value("pbscast_ingest_refused_events_total", {"site": "sitea"}) or 0


def _changes(records: list[Record], job: str) -> list[Change]:
    return [event for r in records if r.id == job and isinstance(event := r.decode(), Change)]


async def test_what_the_log_refuses_is_told_as_far_as_it_takes_it(
    log: Log, captured: str, pbs: PbsServer, administrator: asyncpg.Connection
) -> None:
    before = _refused()
    for number in range(20):
        pbs.submit(f"{number}.s")
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
    for number in range(20):
        pbs.save(f"{number}.s", "R/42", comment=f"c{number}")
    pbs.save("5.s", comment=LARGE, small="s")
    pbs.save("7.s", "E/50", comment="deadly")
    pbs.save(
        "7.s", "F/93", Exit_status="3", history_timestamp="1", **{"resources_used.x": "deadly"}
    )
    pbs.save("5.s", comment="again")
    pbs.submit("last.s")
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)) as worker:
        records = await wait_for(log, lambda records: any(r.id == "last.s" for r in records))
        assert worker.status.state is WorkerState.FOLLOWING
        assert worker.status.error is None
    assert_gapless(records)
    assert [r.event for r in records if r.kind == "site"] == ["up", "resync"]
    _, running, cut, again = _changes(records, "5.s")
    assert (running.changed["comment"], again.changed) == ("c5", {"comment": "again"})
    assert cut.changed["small"] == "s"
    assert len(cut.changed["comment"]) == MOST_CHARACTERS
    assert cut.changed["comment"].endswith("..." + sha256(LARGE.encode()).hexdigest())
    assert cut.changed[NOTE].startswith("cut: log of sitea: this is too much")
    *_, ending, ended = _changes(records, "7.s")
    for stripped, state in ((ending, "E"), (ended, "F")):
        assert (stripped.state, stripped.owner, [*stripped.changed]) == (state, "alice", [NOTE])
        assert "too much" in stripped.changed[NOTE]
    (end,) = [e for r in records if r.id == "7.s" and isinstance(e := r.decode(), Finalize)]
    assert (end.reason, end.exit_status, end.usage) == ("failed", 3, {})
    assert _refused() - before == 4


async def test_a_resync_passes_over_nothing_that_the_log_refuses(
    log: Log, captured: str, pbs: PbsServer, administrator: asyncpg.Connection
) -> None:
    for number in range(12):
        pbs.submit(f"{number}.s", **({"comment": LARGE} if number % 4 == 0 else {}))
    pbs.submit("deadly.s", comment="deadly")
    pbs.connection.execute("DELETE FROM pbscast.journal")
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)):
        records = await wait_for(log, is_resynced)
    assert_gapless(records)
    jobs = {r.id: r for r in records if r.kind == "job"}
    assert len(jobs) == 13
    assert [r.event for r in jobs.values()] == ["submit"] * 13
    assert all(record.revision == 1 for record in jobs.values())
    noted = {job for job in jobs if NOTE in _changes(records, job)[0].changed}
    assert noted == {"0.s", "4.s", "8.s", "deadly.s"}


async def test_what_is_refused_in_every_form_is_told_whole_once_it_is_taken(
    log: Log, captured: str, pbs: PbsServer, administrator: asyncpg.Connection
) -> None:
    await administrator.execute(
        "CREATE SEQUENCE public.refused;"
        "CREATE OR REPLACE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        " IF NEW.event = 'state' AND nextval('public.refused') < 8 THEN"
        " RAISE program_limit_exceeded USING MESSAGE = 'not now'; END IF; RETURN NEW; END$$"
    )
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit("1.s")
        pbs.save("1.s", "R/42", comment=LARGE)
        pbs.submit("2.s")
        records = await wait_for(log, lambda records: any(r.id == "2.s" for r in records))
    assert_gapless(records)
    assert _changes(records, "1.s")[-1].changed["comment"] == LARGE
