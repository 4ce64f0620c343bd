"""What the event log promises to those who write and read it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from harness.servers import Databases

from pbscast.errors import FencedError, NotFoundError, UnsupportedError, UsageError
from pbscast.events import (
    Change,
    ChangePayload,
    EventName,
    Finalize,
    FinalizePayload,
    Gap,
    GapPayload,
    Kind,
    Provenance,
    Reason,
)
from pbscast_deploy.embedded import PostgresServer
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import Record
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
    assert await log.objects_named("sitea", "job", ["none", "19.sitea"]) == {"19.sitea": state}
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


async def test_a_second_finalize_of_an_incarnation_is_dropped(log: Log, writer: SiteWriter) -> None:
    first = await writer.append([change(), finalize(), finalize()], {})
    second = await writer.append([finalize(), change(ends=True)], {})
    third = await writer.append([change(begins=True), finalize()], {})

    assert [result.dropped for result in (first, second, third)] == [1, 1, 0]
    assert [(r.event, r.incarnation, r.revision) for r in await log.read("sitea", 0, 10)] == [
        ("state", 1, 1),
        ("finalize", 1, 2),
        ("state", 1, 3),
        ("state", 2, 1),
        ("finalize", 2, 2),
    ]


async def test_a_new_incarnation_forgets_the_attributes_of_the_last(
    log: Log, writer: SiteWriter
) -> None:
    large = "x" * 50_000
    await writer.append([change(changed={"a": "1", "v": large}), change(changed={"b": "2"})], {})
    await writer.append([finalize(), change(ends=True)], {})
    await writer.append([change(begins=True, changed={"c": "3"})], {})

    state = await log.object("sitea", "job", "19.sitea")
    assert state is not None
    assert state.attributes == {"c": "3"}
    assert (state.incarnation, state.finalized, state.gone) == (2, False, False)


async def test_large_values_come_change_and_go(log: Log, writer: SiteWriter) -> None:
    large, larger = "x" * 5_000, "ü" * 1_000_000
    for changed, removed, expected in [
        ({"v": large, "a": "1"}, (), {"v": large, "a": "1"}),
        ({"v": larger}, (), {"v": larger, "a": "1"}),
        ({"a": "2"}, (), {"v": larger, "a": "2"}),
        ({"v": "small"}, (), {"v": "small", "a": "2"}),
        ({"a": large}, (), {"v": "small", "a": large}),
        ({}, ("a", "v"), {}),
        ({"v": large}, (), {"v": large}),
    ]:
        await writer.append([change(changed=changed, removed=removed)], {})
        state = await log.object("sitea", "job", "19.sitea")
        assert state is not None
        assert state.attributes == expected


async def test_a_large_value_is_not_written_again_by_later_events(
    log: Log, writer: SiteWriter, log_dsn: str
) -> None:
    random = "".join(f"{number * 7919 % 99991:05}" for number in range(200_000))
    await writer.append([change(changed={"Variable_List": random})], {})
    connection = await asyncpg.connect(log_dsn)
    before = await connection.fetchval("SELECT pg_table_size('pbscast_log.object')")

    for number in range(50):
        await writer.append([change(changed={"comment": str(number)})], {})

    after = await connection.fetchval("SELECT pg_table_size('pbscast_log.object')")
    await connection.close()
    assert before > 200_000
    assert after - before < 100_000


@pytest.mark.parametrize(
    "bad",
    [
        change(job="nul \0 here"),
        change(job="lone \ud800 surrogate"),
        change(job="1.sitea", changed={"a": "nul \0 here"}),
        change(changed={"nul \0 here": "a"}),
        change(columns={"a": "\\u0000 \0"}),
    ],
)
async def test_text_that_postgresql_cannot_hold_is_refused(
    log: Log, writer: SiteWriter, bad: Draft
) -> None:
    await writer.append([change()], {"seq": 1})
    with pytest.raises(UsageError):
        await writer.append([change(), bad], {"seq": 2})
    assert await log.position("sitea") == 1
    again = await acquire(log)
    assert again.cursor == {"seq": 1}
    await again.append([change(changed={"a": "\\u0000"})], {"seq": 2})


async def test_a_number_that_postgresql_cannot_hold_is_refused(
    log: Log, writer: SiteWriter
) -> None:
    with pytest.raises(UsageError, match="number"):
        await writer.append([change(substate=2**31)], {"seq": 1})
    assert await log.position("sitea") == 0
    again = await acquire(log)
    await again.append([change(substate=2**31 - 1)], {"seq": 1})
    state = await log.object("sitea", "job", "19.sitea")
    assert state is not None
    assert state.substate == 2**31 - 1


async def test_pages_end_early_by_bytes_but_never_empty(log: Log, writer: SiteWriter) -> None:
    large = {"v": "x" * 10_000}
    await writer.append([change(at=number, changed=large) for number in range(5)], {})

    assert len(await log.read("sitea", 0, 10, max_bytes=25_000)) == 2
    assert len(await log.read("sitea", 2, 10, max_bytes=1)) == 1
    assert len(await log.read("sitea", 0, 3)) == 3
    assert await log.read("sitea", 5, 10) == []
    assert len(await log.history("job", "19.sitea", max_bytes=25_000)) == 2
    assert len(await log.history("job", "19.sitea", max_bytes=1)) == 1


async def test_history_of_an_array_holds_its_subjobs(log: Log, writer: SiteWriter) -> None:
    jobs = ["6[].sitea", "6[1].sitea", "6[10].sitea", "6[1].siteb", "16[1].sitea", "6.sitea"]
    await writer.append([change(job=job) for job in [*jobs, *jobs]], {})

    array = await log.history("job", "6[].sitea")
    assert [record.id for record in array] == ["6[].sitea", "6[1].sitea", "6[10].sitea"] * 2
    assert [record.position for record in array] == sorted(record.position for record in array)
    assert [r.id for r in await log.history("job", "6[1].sitea")] == ["6[1].sitea"] * 2
    assert [r.id for r in await log.history("job", "6.sitea")] == ["6.sitea"] * 2


async def test_a_job_that_moved_is_one_history_in_pages(log: Log, writer: SiteWriter) -> None:
    await log.register_site("siteb")
    other = await log.acquire("siteb", "one", 60)
    assert other is not None
    await other.append([change(at=number) for number in (4, 5, 9)], {})
    await writer.append([change(at=number) for number in (1, 2, 3, 8)], {})

    pages: list[Record] = []
    seen: dict[str, int] = {}
    while page := await log.history("job", "19.sitea", after=seen, limit=2):
        pages += page
        seen |= {record.site: record.position for record in page}

    assert [(record.time - START).seconds for record in pages] == [1, 2, 3, 4, 5, 8, 9]
    assert [r.site for r in await log.history("job", "19.sitea", site="siteb")] == ["siteb"] * 3
    assert await log.history("job", "20.sitea") == []


async def test_the_ids_that_are_present_come_in_order(log: Log, writer: SiteWriter) -> None:
    ids = [f"{number}.sitea" for number in range(30)]
    await writer.append([change(job=job) for job in ids], {})
    await writer.append([change(job="7.sitea", ends=True)], {})
    present = await log.present_ids("sitea", "job", "", 1000)
    assert set(present) == set(ids) - {"7.sitea"}
    again = [""]
    while len(page := await log.present_ids("sitea", "job", again[-1], 7)) > 1:
        again += page[page[0] == again[-1] :]
    assert again[1:] == present
    assert await log.present_ids("sitea", "node", "", 7) == []


async def test_a_gap_is_an_event_of_the_site(log: Log, writer: SiteWriter) -> None:
    gap = Draft(
        kind=Kind.SITE,
        id="sitea",
        event=EventName.GAP,
        time=START,
        provenance=Provenance.JOURNAL,
        payload=GapPayload(cause="paused"),
    )
    await writer.append([gap, gap], {})

    second = (await log.read("sitea", 1, 1))[0]
    assert isinstance(second.decode(), Gap)
    assert second.subject == "pbs.v1.sitea.site.sitea.gap"
    assert (second.incarnation, second.revision) == (1, 2)


async def test_every_supported_postgresql_will_do(each_postgres: PostgresServer) -> None:
    databases = Databases(each_postgres.dsn())
    dsn = databases.create()
    if each_postgres_major(each_postgres) < 14:
        with pytest.raises(UnsupportedError, match="14 or newer"):
            await Log.migrate_at(dsn)
    else:
        await Log.migrate_at(dsn)
        async with Log.open(dsn) as log:
            writer = await acquire(log)
            await writer.append([change(), finalize()], {})
            assert len(await log.history("job", "19.sitea")) == 2
    databases.drop_all()


def each_postgres_major(server: PostgresServer) -> int:
    return int((server.directory / "data" / "PG_VERSION").read_text())


async def test_revisions_are_not_repeated_by_appends_that_overtake_the_cache(
    log: Log, log_dsn: str, writer: SiteWriter
) -> None:
    """The database works on the first while the last is planned, and the cache is too small."""
    writer._heads.capacity = 1
    blocker = await asyncpg.connect(log_dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM pbscast_log.site FOR UPDATE")

    jobs = ["1.sitea", "2.sitea", "1.sitea", "2.sitea"]
    appends = [asyncio.create_task(writer.append([change(job)], {})) for job in jobs]
    while writer._tail.position < len(jobs):  # noqa: ASYNC110 - nothing tells of plans
        await asyncio.sleep(0.005)
    await transaction.rollback()
    await blocker.close()
    await asyncio.gather(*appends)

    revisions = [(record.id, record.revision) for record in await log.read("sitea", 0, 10)]
    assert revisions == [("1.sitea", 1), ("2.sitea", 1), ("1.sitea", 2), ("2.sitea", 2)]
    assert len(writer._heads._heads) == 1
