from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from harness.auth import reach
from harness.fanning import (
    assert_published,
    client_of,
    draft,
    drafts,
    fanning,
    in_state,
    logged,
    published_to,
    status_of,
    stored,
    until,
    write,
)
from harness.servers import Databases
from nats.js.manager import JetStreamManager

from pbscast import wire
from pbscast.errors import FencedError
from pbscast.events import ChangePayload, Kind, Site
from pbscast.requests import PublisherState
from pbscast.subjects import job_filter, mark_subject
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout import publisher
from pbscast_fanout.batches import compose, mark_of, send_batch, send_mark
from pbscast_fanout.connection import Connection
from pbscast_fanout.fences import Fence, send_one
from pbscast_fanout.resume import Place, check_last, find_place
from pbscast_fanout.settings import NatsSettings
from pbscast_store.log import Log


async def test_what_is_logged_is_published_once_in_order_to_the_byte(
    log: Log, nats_url: str
) -> None:
    await write(log, "sitea", drafts(2_500))
    await write(log, "siteb", [draft("6[3].siteb", comment="ünïcode \\x00 %"), draft("6[].siteb")])
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", 2_500)
        await published_to(fanout, "siteb", 2)
    await assert_published(nats_url, log, "sitea")
    await assert_published(nats_url, log, "siteb")
    subjects = [message.subject for message in await stored(nats_url, "pbs.v1.siteb.>")]
    assert subjects[:3] == [
        "pbs.v1.siteb.mark",
        "pbs.v1.siteb.job.alice.6[]/siteb.3.state",
        "pbs.v1.siteb.job.alice.6[]/siteb.-.state",
    ]


async def test_events_follow_the_log_live_and_new_sites_join(log: Log, nats_url: str) -> None:
    async with fanning(log, nats_url) as fanout, client_of(nats_url) as client:
        live = await client.subscribe("pbs.v1.*.job.alice.>")
        await reach(client)
        for number in range(1, 4):
            await write(log, "sitea", [draft(comment=str(number))])
            message = await live.next_msg(timeout=30)
            assert message.data == (await logged(log, "sitea"))[-1].encode()
            assert message.headers is not None
            assert message.headers["Nats-Msg-Id"] == f"sitea:{number}"
        await write(log, "late", drafts(1))
        assert wire.decode((await live.next_msg(timeout=30)).data).site == "late"
        await until(lambda: fanout.status().sites[0].state is PublisherState.CURRENT)
        assert [item.lag for item in fanout.status().sites] == [0, 0]


async def test_a_mark_follows_soon(log: Log, nats_url: str) -> None:
    await log.register_site("sitea")
    async with client_of(nats_url) as client, AsyncExitStack() as stack:
        marks = await client.subscribe("pbs.v1.sitea.mark")
        await reach(client)
        await stack.enter_async_context(fanning(log, nats_url))
        assert wire.decode_mark((await marks.next_msg(timeout=30)).data).position == 0
        for number in (1, 2):
            await write(log, "sitea", drafts(1))
            assert wire.decode_mark((await marks.next_msg(timeout=30)).data).position == number
        await write(log, "sitea", drafts(2_000))
        positions = [wire.decode_mark((await marks.next_msg(timeout=30)).data).position]
        while positions[-1] < 2_002:
            positions.append(wire.decode_mark((await marks.next_msg(timeout=30)).data).position)
        assert positions[0] >= 999


@pytest.mark.parametrize("count", [1, 500])
async def test_a_restart_goes_on_after_events_or_marks(log: Log, nats_url: str, count: int) -> None:
    for total in range(count, 5 * count, count):
        await write(log, "sitea", drafts(count))
        async with fanning(log, nats_url) as fanout:
            await published_to(fanout, "sitea", total)
    await assert_published(nats_url, log, "sitea")


async def test_a_restart_resumes_from_the_mark(log: Log, nats_url: str) -> None:
    for total in (1_500, 3_000):
        await write(log, "sitea", drafts(1_500))
        async with fanning(log, nats_url) as fanout:
            await published_to(fanout, "sitea", total)
        async with fanning(log, nats_url) as fanout:
            await published_to(fanout, "sitea", total)
        await assert_published(nats_url, log, "sitea")


async def test_a_worker_that_was_overtaken_cannot_write(log: Log, nats_url: str) -> None:
    await write(log, "sitea", drafts(10))
    zombie = Connection(NatsSettings(servers=(nats_url,)), name="zombie")
    await zombie.open()
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", 10)
        stale = await find_place(log, zombie, Site("sitea"), None)
        await write(log, "sitea", drafts(10))
        await published_to(fanout, "sitea", 20)
    batch = [compose(record, 10**6) for record in await log.read("sitea", 10, 10)]
    # Other message ids: as if the duplicate window were long over.
    forgotten = [
        compose(replace(item.record, position=item.record.position + 1_000), 10**6)
        for item in batch
    ]
    for messages in (batch, forgotten):
        mark = mark_of(messages[-1].record)
        with pytest.raises(FencedError):
            await send_batch(zombie, messages, mark, stale.fence)
        with pytest.raises(FencedError):
            await send_one(zombie, messages[0], stale.fence)
        with pytest.raises(FencedError):
            await send_mark(zombie, mark, stale.fence)
    await zombie.close()
    await assert_published(nats_url, log, "sitea")


async def published_five(log: Log, nats_url: str) -> tuple[Connection, Place]:
    """A worker's connection, and the place that it found when five events had been published."""
    await write(log, "sitea", drafts(5))
    connection = Connection(NatsSettings(servers=(nats_url,)), name="test")
    await connection.open()
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", 5)
    return connection, await find_place(log, connection, Site("sitea"), None)


async def assert_published_up_to(log: Log, nats_url: str, position: int) -> None:
    """Another worker publishes the rest, and each event is there once, in order."""
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", position)
    bodies = [item.body for item in await stored(nats_url, "pbs.v1.sitea.job.>")]
    assert bodies == [item.encode() for item in await logged(log, "sitea")]


async def test_what_slipped_in_before_the_first_mark_is_not_published_again(
    log: Log, nats_url: str
) -> None:
    connection, stale = await published_five(log, nats_url)
    await write(log, "sitea", drafts(1))
    (record,) = await log.read("sitea", 5, 1)
    await send_one(connection, compose(record, 10**6), stale.fence)
    # As if the server had taken both: with replicas it does not see all that is under way.
    (*_, last) = await stored(nats_url, mark_subject("sitea"))
    unaware = Fence(mark_subject("sitea"), last.sequence)
    fence = await send_mark(connection, stale.mark, unaware)
    with pytest.raises(FencedError):
        await check_last(log, connection, stale, fence)
    await write(log, "sitea", drafts(5))
    await assert_published_up_to(log, nats_url, 11)
    await connection.close()


@pytest.mark.parametrize("as_batch", [False, True])
async def test_a_mark_that_says_too_little_is_not_believed(
    log: Log, nats_url: str, *, as_batch: bool
) -> None:
    """Of a worker that died between its first mark and the look at what came in before it."""
    connection, stale = await published_five(log, nats_url)
    await write(log, "sitea", drafts(3))
    under_way = [compose(record, 10**6) for record in await log.read("sitea", 5, 3)]
    if as_batch:
        await send_batch(connection, under_way, mark_of(under_way[-1].record), stale.fence)
    else:
        await send_one(connection, under_way[0], stale.fence)
    (*_, last) = await stored(nats_url, mark_subject("sitea"))
    await send_mark(connection, stale.mark, Fence(mark_subject("sitea"), last.sequence))

    place = await find_place(log, connection, Site("sitea"), None)
    assert place.position == (8 if as_batch else 6)
    await assert_published_up_to(log, nats_url, 8)
    await connection.close()


async def test_many_subjects_make_publishing_no_slower(log: Log, nats_url: str) -> None:
    """To find a site's last message the server looks at all its subjects; a mark is one."""
    await write(log, "sitea", [draft(f"{number}.sitea") for number in range(1_000)])
    async with fanning(log, nats_url) as fanout, client_of(nats_url) as client:
        await published_to(fanout, "sitea", 1_000)
        live = await client.subscribe("pbs.v1.sitea.job.>")
        await write(log, "sitea", drafts(1))
        headers = (await live.next_msg(timeout=30)).headers or {}
        assert headers["Nats-Expected-Last-Subject-Sequence-Subject"] == "pbs.v1.sitea.mark"


async def test_of_two_workers_one_publishes_and_the_other_takes_over(
    log: Log, nats_url: str
) -> None:
    await log.register_site("sitea")
    async with fanning(log, nats_url) as second:
        async with fanning(log, nats_url) as first:
            total = 0
            for _ in range(20):
                total = await write(log, "sitea", drafts(100))
            await published_to(first, "sitea", total)
            await published_to(second, "sitea", total)
            states = {item.state for worker in (first, second) for item in worker.status().sites}
            assert PublisherState.RETRYING not in states
        total = await write(log, "sitea", drafts(100))
        await published_to(second, "sitea", total, seconds=30)
    await assert_published(nats_url, log, "sitea")


@pytest.mark.parametrize("count", [10, 500])
async def test_a_restored_log_stops_its_site_and_no_other(
    log: Log, log_databases: Databases, nats_url: str, count: int
) -> None:
    for site in ("sitea", "siteb"):
        await write(log, site, drafts(count))
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", count)
        await published_to(fanout, "siteb", count)
    restored_dsn = log_databases.create()
    await Log.migrate_at(restored_dsn)
    async with Log.open(restored_dsn) as restored:
        await write(restored, "sitea", drafts(count - 3))
        await write(restored, "siteb", drafts(count + 2))
        await write(restored, "sitec", drafts(3))
        async with fanning(restored, nats_url, duplicate_window=timedelta(seconds=1)) as fanout:
            await published_to(fanout, "sitec", 3)
            for site, words in (
                ("sitea", f"the log ends at {count - 3}"),
                ("siteb", "another event there"),
            ):
                await in_state(fanout, site, PublisherState.DIVERGED)
                error = status_of(fanout, site).error or ""
                assert words in error
                assert f"--subject 'pbs.v1.{site}.>'" in error
            assert len(await stored(nats_url, "pbs.v1.sitea.job.>")) == count
            async with client_of(nats_url) as client:
                await JetStreamManager(client).purge_stream("PBS", subject="pbs.v1.sitea.>")
            await published_to(fanout, "sitea", count - 3)
        await assert_published(nats_url, restored, "sitea")


async def test_a_lost_stream_is_made_and_filled_again(log: Log, nats_url: str) -> None:
    await write(log, "sitea", drafts(100))
    async with fanning(log, nats_url) as fanout:
        await published_to(fanout, "sitea", 100)
        async with client_of(nats_url) as client:
            await JetStreamManager(client).delete_stream("PBS")
        await write(log, "sitea", drafts(1))
        await published_to(fanout, "sitea", 101)
    await assert_published(nats_url, log, "sitea")


async def test_a_purged_stream_is_filled_again_though_the_site_is_idle(
    log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "RENEWAL_SECONDS", 0.5)
    await write(log, "sitea", drafts(20))
    async with fanning(log, nats_url) as fanout:
        await in_state(fanout, "sitea", PublisherState.CURRENT)
        async with client_of(nats_url) as client:
            await JetStreamManager(client).purge_stream("PBS")
        await in_state(fanout, "sitea", PublisherState.STANDBY)
        await in_state(fanout, "sitea", PublisherState.CURRENT)
        await published_to(fanout, "sitea", 20)
    await assert_published(nats_url, log, "sitea")


async def test_an_emptied_stream_gets_only_what_it_would_still_hold(
    log: Log, nats_url: str
) -> None:
    now = datetime.now(UTC)
    ages = [timedelta(hours=hours) for hours in (9, 8, 7, 3, 2, 0)]
    await write(log, "sitea", [draft(time=now - age) for age in ages])
    await write(log, "old", [draft(time=now - ages[0])] * 5)
    async with fanning(log, nats_url, max_age=timedelta(hours=4)) as fanout:
        await published_to(fanout, "sitea", 6)
        await published_to(fanout, "old", 5)
    messages = await stored(nats_url)
    positions = {
        site: [
            wire.decode(item.body).position
            for item in messages
            if not item.is_mark and item.subject.startswith(f"pbs.v1.{site}.")
        ]
        for site in ("sitea", "old")
    }
    assert positions == {"sitea": [4, 5, 6], "old": []}


async def test_an_idle_sites_mark_is_renewed_before_it_is_too_old(log: Log, nats_url: str) -> None:
    await write(log, "sitea", drafts(3))
    async with fanning(log, nats_url, max_age=timedelta(seconds=6)) as fanout:
        await published_to(fanout, "sitea", 3)
        async with client_of(nats_url) as client:
            marks = await client.subscribe("pbs.v1.sitea.mark")
            for _ in range(3):
                mark = wire.decode_mark((await marks.next_msg(timeout=6)).data)
                assert mark.position == 3
                assert mark.digest
        assert len(await stored(nats_url, "pbs.v1.sitea.mark")) >= 1


async def test_large_events_are_cut_and_hold_nothing_up(log: Log) -> None:
    with NatsServer(durable=False, config="max_payload: 65536") as server:
        await write(log, "sitea", drafts(5))
        big = draft("7.sitea", Variable_List="x" * 200_000, comment="kept")
        await write(log, "sitea", [big, *drafts(300, size=50_000), draft("8.sitea")])
        async with fanning(log, server.url) as fanout:
            await published_to(fanout, "sitea", 307)
            bodies = [item.body for item in await stored(server.url, "pbs.v1.sitea.job.>")]
            records = await logged(log, "sitea")
            whole = [record.encode() for record in records]
            assert bodies[:5] + bodies[6:] == whole[:5] + whole[6:]
            event = wire.decode(bodies[5])
            assert event.omitted == ("Variable_List",)
            assert getattr(event, "changed", None) == {"comment": "kept"}
        await write(log, "sitea", [big])
        for total in (308, 309):
            async with fanning(log, server.url) as fanout:
                await published_to(fanout, "sitea", total)
            await write(log, "sitea", [big])


async def test_a_burst_is_published_in_order_while_it_is_written(log: Log, nats_url: str) -> None:
    async with fanning(log, nats_url) as fanout:
        for _ in range(10):
            await asyncio.gather(*(write(log, f"site{n}", drafts(150)) for n in range(3)))
        for number in range(3):
            await published_to(fanout, f"site{number}", 1_500)
    for number in range(3):
        await assert_published(nats_url, log, f"site{number}")


async def test_names_of_any_length_and_characters_are_published(log: Log, nats_url: str) -> None:
    names = ["a" * 5_000, "ü" * 3_000, "a b\r\nPUB x 1\r\n.*>", "%2D", "-", "é"]
    items = [
        replace(draft(f"{number}.sitea"), payload=ChangePayload(owner=name))
        for number, name in enumerate(names)
    ]
    await write(log, "sitea", [*items, replace(draft("q" * 2_000), kind=Kind.QUEUE)])
    async with fanning(log, nats_url) as fanout, client_of(nats_url) as client:
        live = await client.subscribe(job_filter(owner=names[0]))
        await client.flush()
        await published_to(fanout, "sitea", len(names) + 1)
        assert wire.decode((await live.next_msg(timeout=30)).data).position == 1
    await assert_published(nats_url, log, "sitea")
    subjects = {item.subject for item in await stored(nats_url, "pbs.v1.sitea.>")}
    assert len(subjects) == len(names) + 2
