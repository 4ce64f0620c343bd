"""Ids that PBS's own keys hold and the log's indexes do not."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Iterator

import pytest
from harness.ingesting import (
    as_reader,
    assert_gapless,
    ingesting,
    is_resynced,
    wait_for,
)
from harness.pbs import PbsServer

from pbscast.events import Change, Kind
from pbscast_ingest.rows import shortened
from pbscast_store.log import Log

LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=2680))


@pytest.fixture
def pbs(captured: str) -> Iterator[PbsServer]:
    with PbsServer(captured) as server:
        yield server


async def test_a_row_with_an_id_beyond_the_index_stops_nothing(
    log: Log, captured: str, pbs: PbsServer
) -> None:
    early, late = f"{LONG}.early", f"{LONG}.late"
    pbs.submit(early)
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)):
        await wait_for(log, is_resynced)
        pbs.submit(late, Job_Owner=f"{LONG}@host")
        pbs.save(late, "R/42")
        pbs.submit("2.s")
        records = await wait_for(log, lambda records: any(r.id == "2.s" for r in records))
    async with asyncio.timeout(60), ingesting(log, as_reader(captured)):
        pbs.delete(late)
        pbs.submit("3.s")
        records = await wait_for(log, lambda records: any(r.id == "3.s" for r in records))
    assert_gapless(records)
    first, *_ = [r for r in records if r.id == shortened(late)]
    event = first.decode()
    assert isinstance(event, Change)
    assert event.columns["ji_jobid"] == late
    assert (event.owner, event.changed["Job_Owner"]) == (shortened(LONG), f"{LONG}@host")
    assert [r.event for r in records if r.id == shortened(late)][:2] == ["submit", "state"]
    assert [r.event for r in records if r.id == shortened(early)] == ["submit"]
    assert [r.event for r in records if r.kind == Kind.SITE] == ["up", "resync"]
