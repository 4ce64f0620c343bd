"""Whatever becomes of capture, ingest tells of a gap, and the tables are compared afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from harness.damage import DAMAGE, HARMLESS, UNTOLD
from harness.ingesting import as_reader, assert_gapless, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer

from pbscast.events import Gap, Kind
from pbscast_ingest import condition, session
from pbscast_ingest.capture import install
from pbscast_ingest.status import WorkerState
from pbscast_store.log import Log
from pbscast_store.records import Record


@pytest.fixture(autouse=True)
def _brief_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat each 0.5 s."""
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(condition, "QUIET_SECONDS", 0.3)


SUFFERED = (*UNTOLD, "journal dropped", "journal without a column", "rights revoked")


@pytest.mark.timeout(300)
async def test_what_was_lost_is_told_and_mended(log: Log, new_datastore: Callable[[], str]) -> None:
    """A site for each damage, all at once."""
    dsns = {damage: await asyncio.to_thread(new_datastore) for damage in SUFFERED}
    told = await asyncio.gather(
        *(_suffer(log, damage, dsn) for damage, dsn in dsns.items()), return_exceptions=True
    )
    assert dict(zip(dsns, told, strict=True)) == dict.fromkeys(SUFFERED)


async def _suffer(log: Log, damage: str, dsn: str) -> None:
    site = damage.replace(" ", "-")
    await asyncio.to_thread(install, dsn, site=site)
    with PbsServer(dsn) as pbs:
        async with asyncio.timeout(240), ingesting(log, as_reader(dsn), site):
            await wait_for(log, is_resynced, site)
            pbs.submit("1.s")
            pbs.submit("2.s")
            await wait_for(log, lambda records: any(r.id == "2.s" for r in records), site)
            pbs.connection.execute(DAMAGE[damage].encode())
            pbs.connection.execute("SET search_path = public, aside")
            pbs.save("1.s", "R/42")
            pbs.delete("2.s")
            pbs.submit("3.s")
            await asyncio.to_thread(install, dsn, site=site)
            records = await wait_for(log, _is_told if damage in HARMLESS else _is_mended, site)
    assert_gapless(records)
    state = await log.object(site, Kind.JOB, "1.s")
    assert state is not None
    assert (state.state, state.substate) == ("R", 42)
    assert [r.event for r in records if r.id == "2.s"][-1] in ("finalize", "purge")
    assert [r.event for r in records if r.id == "3.s"] == ["submit"]


async def test_without_a_cap_the_site_is_followed_and_told_to_be_down(
    log: Log, captured: str
) -> None:
    with PbsServer(captured) as pbs:
        async with asyncio.timeout(60), ingesting(log, as_reader(captured)) as worker:
            await wait_for(log, is_resynced)
            pbs.connection.execute("DROP TABLE pbscast.control")
            pbs.submit("3.s")
            await wait_for(log, lambda records: any(r.event == "down" for r in records))
            assert worker.status.state is WorkerState.BLIND
            assert "its cap cannot be read" in (worker.status.error or "")
            await wait_for(log, _is_told)
            await asyncio.to_thread(install, captured, site="sitea")
            records = await wait_for(log, _is_mended)
    assert [r.event for r in records if r.kind == Kind.SITE][-3:] == ["gap", "up", "resync"]


def _is_told(records: list[Record]) -> bool:
    return any(record.id == "3.s" for record in records)


def _is_mended(records: list[Record]) -> bool:
    return is_resynced(records) and any(isinstance(r.decode(), Gap) for r in records)
