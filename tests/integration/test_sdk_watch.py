"""Watches on a real nats-server: filters, starts, resuming, holes, endings."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from harness.openings import serving_openings
from harness.stream import BEGIN, STREAM, Message, Publisher, SiteLog, publishing, serve_history

import pbscast
from pbscast import (
    Boundary,
    Change,
    Client,
    Finalize,
    Item,
    Missed,
    Unreadable,
    Watch,
    pulling,
    wire,
)
from pbscast_deploy.embedded import NatsServer


@pytest.fixture
async def client(nats_url: str, publisher: Publisher) -> AsyncIterator[Client]:
    async with pbscast.connect(nats_url, connect_timeout=2) as client:
        yield client


async def take(watch: Watch, count: int) -> list[Item]:
    async with asyncio.timeout(20):
        return [await anext(watch) for _ in range(count)]


async def take_bodies(watch: Watch, count: int) -> list[bytes | None]:
    async with asyncio.timeout(20):
        return [(await watch.receive()).body for _ in range(count)]


async def take_history(watch: Watch) -> list[Item]:
    """Everything before the boundary."""
    items: list[Item] = []
    async with asyncio.timeout(20):
        async for item in watch:
            if isinstance(item, Boundary):
                break
            items.append(item)
    return items


def bodies(*messages: Message) -> list[bytes]:
    return [message.body for message in messages]


def events(*messages: Message) -> list[Item]:
    return [wire.decode(message.body) for message in messages]


async def test_who_stopped_waiting_can_wait_again(publisher: Publisher, client: Client) -> None:
    log = SiteLog("sitea")
    async with client.watch() as watch:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(watch)
        message = log.job("1.sitea")
        await publisher.publish(message)
        assert await take(watch, 1) == events(message)


async def test_tells_what_is_published_after_it_began(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    await publisher.publish(*site.life("1.sitea"), site.mark())
    async with client.watch() as watch:
        messages = [*site.life("2.sitea")]
        await publisher.publish(*messages, site.mark())
        assert await take_bodies(watch, 5) == bodies(*messages)


async def test_from_the_beginning_marks_where_history_ends(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    old = [*site.life("1.sitea")]
    await publisher.publish(*old, site.mark())
    async with client.watch(start=pbscast.beginning()) as watch:
        assert await take_bodies(watch, 5) == bodies(*old)
        assert await take(watch, 1) == [Boundary({"sitea": 5})]
        new = site.job("2.sitea", "submit")
        await publisher.publish(new)
        assert await take_bodies(watch, 1) == [new.body]


async def test_an_empty_history_has_its_boundary_too(client: Client) -> None:
    async with client.watch(start=pbscast.beginning()) as watch:
        assert await take(watch, 1) == [Boundary({})]


MIXED = SiteLog("sitea")
OTHER = SiteLog("siteb")
MESSAGES = [
    *MIXED.life("19.sitea"),
    MIXED.job("6[].sitea", "submit", owner="bob", state="Q"),
    MIXED.job("6[1].sitea", "submit", owner="bob", queue="long"),
    MIXED.job("6[2].sitea", "submit", owner="bob", queue="long"),
    MIXED.node("node1.example.org"),
    MIXED.capture("gap"),
    *OTHER.life("19.siteb", owner="o'brien.x"),
    OTHER.capture("up"),
]


def is_job(event: Any) -> bool:
    return bool(event.kind == "job")


@pytest.mark.parametrize(
    ("criteria", "wanted"),
    [
        ({}, lambda _: True),
        ({"job_ids": "19.sitea"}, lambda event: event.id == "19.sitea"),
        ({"job_ids": "19"}, lambda event: event.id.startswith("19.")),
        ({"job_ids": "19", "sites": "siteb"}, lambda event: event.id == "19.siteb"),
        ({"job_ids": "6[].sitea"}, lambda event: event.id.startswith("6[")),
        ({"job_ids": "6[]"}, lambda event: event.id.startswith("6[")),
        ({"job_ids": "6[1].sitea"}, lambda event: event.id == "6[1].sitea"),
        ({"job_ids": ["6[1].sitea", "6[].sitea"]}, lambda event: event.id.startswith("6[")),
        ({"owners": "bob"}, lambda event: is_job(event) and event.owner == "bob"),
        ({"owners": ["o'brien.x"]}, lambda event: event.id == "19.siteb"),
        ({"queues": "long"}, lambda event: is_job(event) and event.queue == "long"),
        ({"states": ["Q", "F"]}, lambda event: is_job(event) and event.state in "QF"),
        ({"kinds": ["node"]}, lambda event: event.kind == "node"),
        ({"events": "finalize"}, lambda event: event.event == "finalize"),
        ({"events": ["gap", "submit"]}, lambda event: event.event in ("gap", "submit")),
        (
            {"owners": "bob", "kinds": ["job", "site"]},
            lambda event: event.kind == "site" or (is_job(event) and event.owner == "bob"),
        ),
        (
            {"job_ids": [f"{number}.sitea" for number in range(300)], "events": ["state"]},
            lambda event: event.id == "19.sitea" and event.event == "state",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "so",
)
async def test_tells_exactly_what_matches(
    publisher: Publisher,
    client: Client,
    criteria: dict[str, Any],
    wanted: Callable[[Any], bool],
) -> None:
    await publisher.publish(*MESSAGES)
    async with client.watch(**criteria, start=pbscast.beginning()) as watch:
        told = await take_history(watch)
    assert told == [event for event in events(*MESSAGES) if wanted(event)]
    assert told


async def test_many_ids_do_not_make_many_filters(publisher: Publisher, client: Client) -> None:
    async with client.watch([f"{number}.sitea" for number in range(5000)]):
        (info,) = await publisher.jetstream.consumers_info(STREAM)
        assert info.config.filter_subjects == ["pbs.v1.*.job.*.*.*.*"]


async def test_leaving_gives_everything_back(publisher: Publisher, client: Client) -> None:
    async with client.watch(), client.watch("1.sitea"):
        assert len(await publisher.consumers()) == 2
    assert await publisher.consumers() == []


async def test_the_end_of_the_client_ends_its_watches(nats_url: str, publisher: Publisher) -> None:
    async with pbscast.connect(nats_url) as client:
        watch = await client.watch().open()
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert await publisher.consumers() == []


async def test_a_watch_needs_no_context_manager(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    await publisher.publish(*site.life("1.sitea"))
    async for event in client.watch(start=pbscast.beginning()):
        assert isinstance(event, Change)
        break
    gc.collect()
    async with asyncio.timeout(20):
        while await publisher.consumers():  # noqa: ASYNC110 - the server forgets it soon
            await asyncio.sleep(0.01)


async def test_last_tells_the_newest_event_of_each_object_and_then_all(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    first, second = [*site.life("1.sitea")], [*site.life("2.sitea")]
    purge = site.job("1.sitea", "purge")
    running = [site.job("3.sitea", "submit"), site.job("3.sitea", "modify")]
    node = site.node("node1")
    await publisher.publish(*first, *second, purge, *running, node, site.mark())
    async with client.watch(start=pbscast.last()) as watch:
        told = await take_history(watch)
        assert told == events(first[-1], second[-1], running[-1], node)
        assert watch.positions == {"sitea": node.position}
        new = [site.job("3.sitea"), site.job("1.sitea", "submit")]
        await publisher.publish(*new)
        assert await take(watch, 2) == events(*new)


async def test_last_filters_by_the_newest_state(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    await publisher.publish(*site.life("1.sitea"), running := site.job("2.sitea", state="R"))
    async with client.watch(states="R", start=pbscast.last()) as watch:
        assert await take_history(watch) == events(running)


async def test_since_a_time(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("1.sitea")]
    await publisher.publish(*messages)
    start = pbscast.since(BEGIN + timedelta(seconds=3))
    # The stream stored everything just now, long after the events' own time.
    async with client.watch(start=start) as watch:
        assert await take_history(watch) == events(*messages[2:])


async def test_after_positions_of_several_sites(publisher: Publisher, client: Client) -> None:
    logs = [SiteLog("sitea"), SiteLog("siteb"), SiteLog("sitec")]
    messages: list[Message] = []
    for number in range(40):
        log = logs[number % 3]
        messages += [*log.life(f"{number}.pbs"), log.mark()]
    await publisher.publish(*messages)
    done = {"sitea": 33, "siteb": 20}
    async with client.watch(start=pbscast.after(done), sites=["sitea", "siteb"]) as watch:
        told = await take_history(watch)
    expected = [
        event
        for event in events(*(item for item in messages if not item.subject.endswith("mark")))
        if isinstance(event, Change | Finalize) and event.position > done.get(event.site, 999)
    ]
    assert told == expected
    assert len(told) == site_positions(logs) - sum(done.values())


def site_positions(logs: list[SiteLog]) -> int:
    return sum(log.position for log in logs[:2])


async def test_resumes_where_another_watch_stopped(publisher: Publisher, client: Client) -> None:
    site, other = SiteLog("sitea"), SiteLog("siteb")
    messages = []
    for number in range(10):
        messages += [*site.life(f"{number}.sitea"), site.mark(), other.job(f"{number}.siteb")]
    await publisher.publish(*messages)
    expected = [message.body for message in messages if not message.subject.endswith("mark")]
    seen: list[bytes | None] = []
    positions: dict[Any, Any] = {}
    while len(seen) < len(expected):
        async with client.watch(start=pbscast.after(positions)) as watch:
            seen += await take_bodies(watch, 6)
            positions = watch.positions
    assert seen == expected


@pytest.mark.parametrize("criteria", [{}, {"kinds": "job"}], ids=str)
async def test_says_what_the_stream_no_longer_holds(
    publisher: Publisher, client: Client, criteria: dict[str, Any]
) -> None:
    site = SiteLog("sitea")
    for number in range(4):
        await publisher.publish(*site.life(f"{number}.sitea"), site.mark())
    await publisher.jetstream.purge_stream(STREAM, keep=6)
    async with client.watch(start=pbscast.after({"sitea": 7}), **criteria) as watch:
        items = await take_history(watch)
    assert items[0] == Missed("sitea", 7, 16)
    assert [item.position for item in items[1:]] == [16, 17, 18, 19, 20]  # type: ignore[union-attr]


async def test_a_consumer_deleted_under_it_costs_nothing(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("1.sitea"), *site.life("2.sitea")]
    async with client.watch() as watch:
        await publisher.publish(*messages[:4])
        assert await take_bodies(watch, 4) == bodies(*messages[:4])
        waiting = asyncio.create_task(take_bodies(watch, 6))
        await asyncio.sleep(0)
        for name in await publisher.consumers():
            await publisher.jetstream.delete_consumer(STREAM, name)
        await publisher.publish(*messages[4:])
        assert await waiting == bodies(*messages[4:])


async def test_a_consumer_deleted_before_the_first_event_costs_nothing(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    await publisher.publish(*site.life("1.sitea"))
    async with client.watch() as watch:
        for name in await publisher.consumers():
            await publisher.jetstream.delete_consumer(STREAM, name)
        message = site.job("2.sitea", "submit")
        await publisher.publish(message)
        assert await take_bodies(watch, 1) == [message.body]


async def test_repeats_on_the_stream_are_told_once(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("1.sitea")]
    async with client.watch("1.sitea") as watch:
        await publisher.publish(*messages[:3], *messages[1:3], *messages)
        assert await take_bodies(watch, 5) == bodies(*messages)
        assert watch.positions == {"sitea": 5}


async def test_a_hole_is_said_where_nobody_can_fill_it(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("1.sitea")]
    async with client.watch("1.sitea") as watch:
        await publisher.publish(messages[0], messages[3], messages[4])
        missed = Missed("sitea", 1, 4, "job", "1.sitea")
        assert await take(watch, 4) == [
            *events(messages[0]),
            missed,
            *events(messages[3], messages[4]),
        ]
    assert str(missed).startswith("missed: events of job 1.sitea of site sitea after position 1")


async def test_a_hole_is_filled_from_the_log(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("1.sitea"), *site.life("2.sitea")]
    await serve_history(publisher, messages)
    async with client.watch(["1.sitea", "2.sitea"]) as watch:
        await publisher.publish(messages[0], messages[3], *messages[4:])
        assert await take_bodies(watch, 10) == bodies(*messages)


async def test_a_hole_of_which_the_stream_holds_a_part_is_filled_from_the_log(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    messages = [
        site.job("1.sitea", "submit"),
        site.job("1.sitea", "modify"),
        site.job("1.sitea", "modify", owner=""),
        site.job("1.sitea"),
    ]
    await serve_history(publisher, messages)
    async with client.watch(owners="alice") as watch:
        await publisher.publish(messages[0], *messages[2:], site.mark())
        assert await take(watch, 3) == events(messages[0], messages[1], messages[3])


async def test_a_hole_that_the_filter_makes_is_filled_from_the_stream(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    messages = [
        site.job("1.sitea", "submit"),
        site.job("1.sitea", "modify", owner=""),
        site.job("1.sitea"),
    ]
    async with client.watch(owners="alice") as watch:
        await publisher.publish(*messages, site.mark())
        # The one without an owner is not alice's: no event, but no Missed either.
        assert await take(watch, 2) == events(messages[0], messages[2])


async def test_a_filter_for_some_events_shows_no_holes(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    async with client.watch(events="finalize") as watch:
        await publisher.publish(*site.life("1.sitea"), *site.life("2.sitea"))
        assert [type(item) for item in await take(watch, 2)] == [Finalize, Finalize]


async def test_what_cannot_be_read_is_told_and_stops_nothing(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    good, strange, after = site.job("1.sitea"), site.job("1.sitea"), site.job("1.sitea")
    strange = Message(strange.subject, strange.body.replace(b'"state"', b'"teleport"'), 2)
    async with client.watch() as watch:
        await publisher.publish(good, strange, after)
        told = await take(watch, 3)
    assert isinstance(told[1], Unreadable)
    assert told[1].body == strange.body
    assert [told[0], told[2]] == events(good, after)


async def test_a_slow_caller_stops_only_itself(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    messages = [message for number in range(400) for message in site.life(f"{number}.sitea")]
    async with client.watch() as slow, client.watch() as quick:
        await publisher.publish(*messages)
        assert await take_bodies(slow, 1) == bodies(messages[0])
        assert await take_bodies(quick, 2000) == bodies(*messages)
        infos = await publisher.jetstream.consumers_info(STREAM)
        assert sorted(info.num_pending or 0 for info in infos) == [0, 1500]
        assert await take_bodies(slow, 1999) == bodies(*messages[1:])


async def test_a_message_larger_than_a_batch_holds_nothing_up() -> None:
    site = SiteLog("sitea")
    messages = [
        site.job("1.sitea"),
        site.job("1.sitea", changed={"Variable_List": "x" * (9 << 20)}),
    ]
    with NatsServer(durable=False, config="max_payload: 16777216") as server:
        async with (
            publishing(server.url) as publisher,
            serving_openings(server.url),
            pbscast.connect(server.url) as client,
            client.watch() as watch,
        ):
            await publisher.publish(*messages, last := site.job("1.sitea"))
            assert await take_bodies(watch, 3) == bodies(*messages, last)


async def test_until_finished_follows_a_job_to_the_other_site(
    publisher: Publisher, client: Client
) -> None:
    here, there = SiteLog("sitea"), SiteLog("siteb")
    messages = [
        here.job("19.sitea", "submit", state="Q"),
        there.job("19.sitea", "submit", state="Q"),
        here.job("19.sitea", state="M"),
        here.job("19.sitea", "finalize", reason="moved", destination="workq@siteb"),
        there.job("19.sitea", state="R"),
        there.job("19.sitea", "finalize", reason="finished", exit_status=0),
    ]
    after_the_last_word = there.job("19.sitea", "purge")
    async with client.watch("19.sitea", until_finished=True) as watch:
        await publisher.publish(*messages, after_the_last_word)
        async with asyncio.timeout(20):
            items = [item async for item in watch]
    assert [item for item in items if not isinstance(item, Boundary)] == events(*messages)


async def test_until_finished_knows_jobs_that_have_ended(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    ended, going_on = [*site.life("1.sitea")], site.life("2.sitea")
    begun = next(going_on)
    await publisher.publish(*ended, begun, site.job("1.sitea", "purge"))
    async with client.watch(["1.sitea", "2"], until_finished=True) as watch:
        assert await take_history(watch) == events(ended[-1], begun)
        assert watch.pending == ["2"]
        rest = [*going_on]
        await publisher.publish(*rest)
        async with asyncio.timeout(20):
            assert [item async for item in watch] == events(*rest)


async def test_until_finished_where_all_has_ended_long_ago(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    ended = [*site.life("6[1].sitea"), *site.life("6[].sitea")]
    await publisher.publish(*ended)
    async with asyncio.timeout(20), client.watch("6[]", until_finished=True) as watch:
        told = [item async for item in watch]
    assert told == [*events(ended[4], ended[9]), Boundary({"sitea": 10})]


async def test_history_pages_through_the_service(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    messages = [*site.life("1.sitea")]
    await serve_history(publisher, messages, page=2)
    told = [item async for item in client.history_with_bodies("1.sitea")]
    assert [item.body for item in told] == bodies(*messages)
    assert [item async for item in client.history("1.sitea")] == events(*messages)
    with pytest.raises(pbscast.NotFoundError, match=r"no job 2\.sitea"):
        _ = [item async for item in client.history("2.sitea")]


async def test_history_without_a_service(client: Client) -> None:
    with pytest.raises(pbscast.UnavailableError, match="nobody serves"):
        _ = [item async for item in client.history("1.sitea")]


async def test_a_server_without_our_stream_and_one_without_service(nats_url: str) -> None:
    async with pbscast.connect(nats_url) as client:
        with pytest.raises(pbscast.UnavailableError, match="is pbscastd running"):
            await client.watch().open()
        async with serving_openings(nats_url):
            with pytest.raises(pbscast.NotFoundError, match="stream not found"):
                await client.watch().open()


async def test_of_a_job_whose_finalize_has_expired_the_purge_is_the_last_word(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    *before, purge = *site.life("1.sitea"), site.job("1.sitea", "purge", state="F")
    ended, live = site.capture("resync"), site.job("2.sitea", "submit")
    await publisher.publish(*before, purge, ended, live)
    await publisher.jetstream.purge_stream(STREAM, keep=3)
    for start in (None, pbscast.beginning()):
        for kinds in (None, ("job", "site")):
            watch = client.watch("1", kinds=kinds, start=start, until_finished=True)
            async with watch, asyncio.timeout(20):
                told = [item async for item in watch if not isinstance(item, Boundary)]
            assert told == events(purge, *([ended] if kinds else []))
            assert watch.pending == []


async def test_until_finished_beside_capture_s_own_events_and_the_same_number_elsewhere(
    publisher: Publisher, client: Client
) -> None:
    here, there = SiteLog("sitea"), SiteLog("siteb")
    first = [here.capture("up"), *here.life("1.sitea"), here.capture("gap"), here.mark()]
    *rest, last = there.capture("gap"), *there.life("1.siteb")
    await publisher.publish(*first, *rest)
    watch = client.watch("1", kinds=("site", "job"), start=pbscast.beginning(), until_finished=True)
    async with watch:
        assert await take_history(watch) == events(*first[:-1], *rest)
        # 1 is two jobs: as long as one is there nothing has ended.
        assert watch.pending == ["1"]
        await publisher.publish(there.mark(), last)
        async with asyncio.timeout(20):
            assert [item async for item in watch] == events(last)


async def test_needs_no_right_but_to_ask_and_to_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    config = """
authorization {
  users = [
    {user: tier, password: x}
    {user: alice, password: x, permissions: {
      publish: {allow: ["pbscast.v1.*", "$JS.API.CONSUMER.MSG.NEXT.PBS.*"]}
      subscribe: {allow: ["_INBOX.>"]}
    }}
    {user: mallory, password: x, permissions: {
      publish: {allow: ["pbscast.v1.*"]}, subscribe: {allow: ["_INBOX.>"]}
    }}
  ]
}
"""
    monkeypatch.setattr(pulling, "SILENCE", 0.5)
    site = SiteLog("sitea")
    with NatsServer(durable=False, config=config) as server:

        def url(user: str) -> str:
            return server.url.replace("nats://", f"nats://{user}:x@")

        async with (
            publishing(url("tier")) as publisher,
            serving_openings(url("tier")),
            pbscast.connect(url("alice")) as client,
            pbscast.connect(url("mallory")) as confined,
        ):
            lost, *found = site.life("1.sitea")
            await publisher.publish(lost, *found[:1], site.mark(), *found[1:])
            async with client.watch("1.sitea", start=pbscast.after({"sitea": 1})) as watch:
                assert await take_bodies(watch, 5) == [*bodies(*found), None]
                # What is refused elsewhere is not what a silent server has refused to the watch.
                await client._connection.nats.publish("others.subject", b"")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(2 * pulling.SILENCE):
                        await anext(watch)
                assert client._connection.denials == 1
                await publisher.publish(more := site.job("1.sitea", "purge"))
                assert await take_bodies(watch, 1) == [more.body]
            with pytest.raises(pbscast.AccessDeniedError, match="refused the stream PBS"):
                await take(confined.watch(), 1)
