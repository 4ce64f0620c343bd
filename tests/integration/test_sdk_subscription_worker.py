"""The client's subscriptions with a worker, a log and a nats-server as they are."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from harness.fanning import client_of, fanning, write

import pbscast
from pbscast import (
    Begin,
    Boundary,
    Client,
    Complete,
    Finalize,
    Matched,
    Passage,
    Standing,
    Subscription,
    SubscriptionItem,
)
from pbscast.deliveries import DELIVERIES, EventMessage, decode, delivery_subject
from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast_store.drafts import Draft
from pbscast_store.log import Log


def job(name: str, state: str = "R", owner: str = "alice", **changed: str) -> Draft:
    payload = ChangePayload(owner=owner, queue="workq", state=state, changed=changed)
    return Draft(
        kind=Kind.JOB,
        id=name,
        event=EventName.SUBMIT if state == "Q" else EventName.STATE,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=payload,
    )


def end(name: str, reason: Reason = Reason.FINISHED, destination: str | None = None) -> Draft:
    payload = FinalizePayload(
        owner="alice",
        queue="workq",
        state="F",
        reason=reason,
        destination=destination,
        exit_status=None if destination else 0,
    )
    return Draft(
        kind=Kind.JOB,
        id=name,
        event=EventName.FINALIZE,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=payload,
    )


@pytest.fixture
async def client(log: Log, nats_url: str) -> AsyncIterator[Client]:
    """Of a worker that serves."""
    async with fanning(log, nats_url), pbscast.connect(nats_url) as client:
        await served(client)
        yield client


async def served(client: Client) -> None:
    """Return once a worker answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.unsubscribe("0" * 32)
            except pbscast.UnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


async def until_boundary(subscription: Subscription, sites: int = 1) -> list[SubscriptionItem]:
    items: list[SubscriptionItem] = []
    async with asyncio.timeout(30):
        while sum(isinstance(item, Boundary) for item in items) < sites:
            items.append(await anext(subscription))
    return items


async def take(subscription: Subscription, count: int) -> list[Matched]:
    async with asyncio.timeout(30):
        items = [await anext(subscription) for _ in range(count)]
    assert all(isinstance(item, Matched) for item in items), items
    return [item for item in items if isinstance(item, Matched)]


async def rest(subscription: Subscription) -> list[SubscriptionItem]:
    async with asyncio.timeout(30):
        return [item async for item in subscription]


def said(items: list[SubscriptionItem]) -> list[tuple[object, ...]]:
    """What matters of each."""
    return [
        (item.event.id, item.event.event, item.passage) if isinstance(item, Matched) else (item,)
        for item in items
    ]


async def test_jobs_are_followed_to_another_site_until_all_have_ended(
    log: Log, client: Client
) -> None:
    await write(log, "sitea", [job("1.sitea", "Q"), job("2.sitea"), end("2.sitea"), job("9.sitea")])
    await write(log, "siteb", [job("5.siteb")])
    async with client.subscribe(["1.sitea", "2.sitea"]) as subscription:
        begun = await until_boundary(subscription, sites=2)
        stood = {item.id: item for item in begun if isinstance(item, Standing)}
        assert set(stood) == {"1.sitea", "2.sitea"}
        assert stood["2.sitea"].reason is Reason.FINISHED
        assert {item for item in begun if isinstance(item, Begin)} == {
            Begin("sitea", 4),
            Begin("siteb", 1),
        }
        assert subscription.pending == ["1.sitea"]
        moved = end("1.sitea", Reason.MOVED, "workq@siteb")
        await write(log, "sitea", [job("1.sitea"), moved, job("9.sitea")])
        ran, left = await take(subscription, 2)
        assert (ran.event.id, ran.passage) == ("1.sitea", Passage.STAYED)
        assert isinstance(left.event, Finalize)
        assert left.to == "siteb"
        await write(log, "siteb", [job("1.sitea", "Q"), end("1.sitea")])
        assert said(await rest(subscription)) == [
            ("1.sitea", EventName.SUBMIT, Passage.JOINED),
            ("1.sitea", EventName.FINALIZE, Passage.ENDED),
            (Complete(),),
        ]
        assert subscription.positions == {"sitea": 6, "siteb": 3}
    assert [item async for item in client.subscriptions()] == []


async def test_filters_of_the_service_and_changes_of_them(log: Log, client: Client) -> None:
    await write(log, "sitea", [job("1.sitea", ncpus="4"), job("2.sitea", ncpus="128")])
    with pytest.raises(pbscast.UsageError, match="expression, column"):
        await client.subscribe(where="ncpus >=")
    many = client.subscribe(where="ncpus >= 64", attributes=["ncpus", "comment"])
    named = client.subscribe("1.sitea", delivery="at-most-once")
    async with many, named:
        assert [
            (item.id, item.attributes)
            for item in await until_boundary(many)
            if isinstance(item, Standing)
        ] == [("2.sitea", {"ncpus": "128"})]
        await until_boundary(named)
        changes = [
            job("1.sitea", ncpus="64"),
            job("1.sitea", comment="x"),
            job("1.sitea", ncpus="1"),
        ]
        await write(log, "sitea", [*changes, job("2.sitea", noise="x"), end("2.sitea")])
        joined, *then = await take(many, 4)
        assert joined.passage is Passage.JOINED
        assert joined.standing is not None
        assert joined.standing.attributes == {"ncpus": "64"}
        assert said([*then]) == [
            ("1.sitea", EventName.STATE, Passage.STAYED),
            ("1.sitea", EventName.STATE, Passage.LEFT),
            ("2.sitea", EventName.FINALIZE, Passage.ENDED),
        ]
        assert [item.passage for item in await take(named, 3)] == [Passage.STAYED] * 3

        await named.modify(add_ids="3.sitea", remove_ids="1.sitea")
        assert named.pending == ["3.sitea"]
        await until_boundary(named)
        await write(log, "sitea", [job("1.sitea"), job("3.sitea", "Q"), end("3.sitea")])
        assert said(await rest(named)) == [
            ("3.sitea", EventName.SUBMIT, Passage.JOINED),
            ("3.sitea", EventName.FINALIZE, Passage.ENDED),
            (Complete(),),
        ]


async def test_as_many_ids_as_there_may_be(log: Log, client: Client) -> None:
    ids = [f"{number}.a-server-with-a-long-name" for number in range(100_000)]
    await write(log, "sitea", [job(ids[0]), job(ids[-1])])
    async with client.subscribe(ids) as subscription:
        begun = await until_boundary(subscription)
        assert {item.id for item in begun if isinstance(item, Standing)} == {ids[0], ids[-1]}
        await write(log, "sitea", [end(ids[-1])])
        assert said([*await take(subscription, 1)]) == [
            (ids[-1], EventName.FINALIZE, Passage.ENDED)
        ]
        assert len(subscription.pending or ()) == 99_999


async def test_back_after_the_worker_was_replaced_and_nothing_is_missing(
    log: Log, nats_url: str
) -> None:
    await write(log, "sitea", [job("1.sitea")])
    async with pbscast.connect(nats_url) as client:
        async with fanning(log, nats_url):
            await served(client)
            made = await client.subscribe(owners="alice", keep=True)
            await until_boundary(made)
            await write(log, "sitea", [job("1.sitea") for _ in range(20)])
            assert len(await take(made, 15)) == 15
            await made.close()
            place = made.place
        await write(log, "sitea", [job("1.sitea") for _ in range(20)])
        async with fanning(log, nats_url):
            await served(client)
            again = await client.attach(made.id, place=place)
            items = await take(again, 25)
            assert [item.event.position for item in items] == list(range(17, 42))
            await again.unsubscribe()


async def test_who_comes_back_without_a_place_is_told_of_a_missed_window_and_of_no_other(
    log: Log, nats_url: str, client: Client
) -> None:
    await write(log, "sitea", [job("1.sitea")])
    await write(log, "siteb", [job("1.siteb")])
    made = await client.subscribe(owners="alice", keep=True)
    await until_boundary(made, sites=2)
    await write(log, "siteb", [job("1.siteb")])
    assert len(await take(made, 1)) == 1
    await made.close()
    await write(log, "siteb", [job("1.siteb")])
    again = await client.attach(made.id)
    assert [item.event.position for item in await take(again, 2)] == [2, 3]
    await again.close()
    await keep_at_most(nats_url, 20)
    await write(log, "sitea", [job("1.sitea") for _ in range(50)])
    async with asyncio.timeout(30):
        while await last_told(nats_url, made.id, "sitea") != 51:  # noqa: ASYNC110 - nothing rings
            await asyncio.sleep(0.02)
    async with client.attach(made.id) as back, asyncio.timeout(30):
        while not isinstance(item := await anext(back), pbscast.Missed):
            assert isinstance(item, Matched)
            assert item.event.site == "siteb"
        assert item == pbscast.Missed("sitea", None, 32)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pbscast", "subscribe", "--attach", made.id),
        *("--servers", nats_url),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stderr is not None
    missed = b"pbscast: missed: events of site sitea before position 32"
    assert (await process.stderr.readline()).startswith(missed)
    process.kill()
    await process.communicate()


async def keep_at_most(url: str, count: int) -> None:
    """Of each subject; what is more goes, the oldest first."""
    async with client_of(url) as plain:
        jetstream = plain.jetstream()
        config = (await jetstream.stream_info(DELIVERIES)).config
        await jetstream.update_stream(config.evolve(max_msgs_per_subject=count))


async def last_told(url: str, key: str, site: str) -> int | None:
    """The position of the last event that is stored for a subscription."""
    async with client_of(url) as plain:
        raw = await plain.jetstream().get_last_msg(DELIVERIES, delivery_subject(site, key))
    message = decode(raw.data or b"")
    return message.event.position if isinstance(message, EventMessage) else None


async def test_the_command_says_what_nobody_knows(log: Log, nats_url: str, client: Client) -> None:
    await write(log, "sitea", [job("1.sitea")])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pbscast", "subscribe", "1.sitea", "99999.sitea"),
        *("--site", "sitea", "--site", "nosuch", "--servers", nats_url),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        site, unknown = [await process.stderr.readline() for _ in range(2)]
    assert b"nosuch" in site
    assert b"99999.sitea" in unknown
    assert unknown.endswith(b"; waiting for it\n")
    process.terminate()
    await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert [item async for item in client.subscriptions()] == []


async def test_the_command(log: Log, nats_url: str, client: Client) -> None:
    await write(log, "sitea", [job("1.sitea")])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pbscast", "subscribe", "1.sitea", "--servers", nats_url),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    assert b"stands" in await process.stdout.readline()
    await write(log, "sitea", [end("1.sitea")])
    out, err = await process.communicate()
    assert b"finished exit 0" in out
    assert err == b"pbscast: every job has ended\n"
    assert process.returncode == 0
    assert [item async for item in client.subscriptions()] == []
