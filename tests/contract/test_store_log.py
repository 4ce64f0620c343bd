"""What the event log promises to those who write and read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pbscast.errors import FencedError, NotFoundError
from pbscast.events import (
    Change,
    ChangePayload,
    EventName,
    Finalize,
    FinalizePayload,
    Kind,
    Provenance,
    Reason,
)
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.writer import SiteWriter

START = datetime(2026, 11, 22, 9, 36, 57, 263000, UTC)


def change(job: str = "19.sitea", at: int = 0, **fields: object) -> Draft:
    begins, ends = bool(fields.pop("begins", False)), bool(fields.pop("ends", False))
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=EventName.STATE,
        time=START + timedelta(seconds=at),
        provenance=Provenance.JOURNAL,
        payload=ChangePayload.model_validate({"owner": "alice", "state": "Q", **fields}),
        begins=begins,
        ends=ends,
    )


def finalize(job: str = "19.sitea", at: int = 0) -> Draft:
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=EventName.FINALIZE,
        time=START + timedelta(seconds=at),
        provenance=Provenance.JOURNAL,
        payload=FinalizePayload(owner="alice", state="F", reason=Reason.FINISHED, exit_status=0),
    )


@pytest.fixture
async def writer(log: Log) -> SiteWriter:
    return await acquire(log)


async def acquire(log: Log, holder: str = "one", ttl: float = 60) -> SiteWriter:
    await log.register_site("sitea")
    writer = await log.acquire("sitea", holder, ttl)
    assert writer is not None
    return writer


async def test_events_are_read_back_as_they_were_written(log: Log, writer: SiteWriter) -> None:
    result = await writer.append(
        [change(changed={"comment": 'ä\\n"✓'}), finalize(at=1)], {"seq": 2}
    )

    assert (result.first, result.last, result.dropped) == (1, 2, 0)
    first, second = [record.decode() for record in await log.read("sitea", 0, 10)]
    assert isinstance(first, Change)
    assert first.changed == {"comment": 'ä\\n"✓'}
    assert (first.position, first.incarnation, first.revision) == (1, 1, 1)
    assert first.time == START
    assert isinstance(second, Finalize)
    assert (second.position, second.revision, second.reason) == (2, 2, Reason.FINISHED)
    assert first.subject == "pbs.v1.sitea.job.alice.19/sitea.-.state"


async def test_the_projection_holds_what_the_events_left(log: Log, writer: SiteWriter) -> None:
    await writer.append([change(changed={"a": "1", "b": "2"}, columns={"ji_substate": "10"})], {})
    await writer.append([change(changed={"a": "3"}, removed=("b",), state="R", queue="workq")], {})

    state = await log.object("sitea", "job", "19.sitea")
    assert state is not None
    assert state.attributes == {"a": "3"}
    assert state.columns == {"ji_substate": "10"}
    assert (state.state, state.queue, state.owner) == ("R", "workq", "alice")
    assert (state.incarnation, state.revision, state.position) == (1, 2, 2)
    assert not state.finalized
    assert not state.gone


async def test_the_cursor_moves_with_the_events_and_alone(log: Log, writer: SiteWriter) -> None:
    await writer.append([change()], {"snapshot": "7:9:", "floor": 7})
    result = await writer.append([], {"snapshot": "9:9:", "floor": 9})

    assert (result.first, result.last) == (2, 1)
    again = await acquire(log)
    assert again.cursor == {"snapshot": "9:9:", "floor": 9}
    assert again.position == await log.position("sitea") == 1


async def test_one_site_has_one_writer(log: Log, writer: SiteWriter) -> None:
    assert await log.acquire("sitea", "two", 60) is None

    await writer.release()
    second = await log.acquire("sitea", "two", 60)
    assert second is not None
    assert second.epoch == writer.epoch + 1
    await second.append([change()], {})


async def test_a_writer_whose_lease_was_taken_over_cannot_write(log: Log) -> None:
    first = await acquire(log, ttl=0)
    second = await acquire(log, holder="two")

    with pytest.raises(FencedError):
        await first.append([change()], {})
    with pytest.raises(FencedError):
        await first.renew()
    assert await log.position("sitea") == 0
    await second.append([change()], {})


async def test_a_site_that_nobody_registered_is_not_found(log: Log) -> None:
    with pytest.raises(NotFoundError):
        await log.acquire("nowhere", "one", 1)
    with pytest.raises(NotFoundError):
        await log.position("nowhere")


async def test_the_doorbell_names_the_site_with_news(log: Log, writer: SiteWriter) -> None:
    async with log.watch() as bell:
        assert await bell.wait(10) == {"sitea"}
        assert await bell.wait(0.01) == set()
        await writer.append([change()], {})
        assert await bell.wait(10) == {"sitea"}
