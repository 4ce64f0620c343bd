"""The SDK's questions to the log, through the services of a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from harness.fanning import draft, fanning, write

import pbscast
from pbscast import HandOver, Reason, Values, blocking
from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance
from pbscast_deploy.embedded import NatsServer
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def change(job: str, seconds: float, state: str, **changed: str) -> Draft:
    payload = ChangePayload(owner="alice", queue="workq", name="fit", state=state, changed=changed)
    event = EventName.SUBMIT if state == "Q" else EventName.STATE
    return Draft(Kind.JOB, job, event, at(seconds), Provenance.JOURNAL, payload)


def finalize(job: str, seconds: float, reason: Reason, destination: str | None = None) -> Draft:
    payload = FinalizePayload(
        owner="alice",
        name="fit",
        state="F",
        reason=reason,
        exit_status=0,
        destination=destination,
    )
    event = EventName.FINALIZE
    return Draft(Kind.JOB, job, event, at(seconds), Provenance.JOURNAL, payload, ends=True)


@pytest.fixture
async def told(log: Log) -> None:
    """Job 1 moves from sitea to siteb, whose clock lags, and ends there; job 2 runs."""
    await write(
        log,
        "sitea",
        [
            change("1.sitea", 0, "Q", a="1"),
            change("2.sitea", 1, "Q", a="1", b="1"),
            finalize("1.sitea", 10, Reason.MOVED, "workq@siteb"),
            change("2.sitea", 20, "R", a="2"),
        ],
    )
    await write(
        log,
        "siteb",
        [
            change("1.sitea", 9, "Q", a="1"),
            change("1.sitea", 12, "R"),
            finalize("1.sitea", 30, Reason.FINISHED),
        ],
    )


@pytest.fixture
async def client(log: Log, told: None, nats_url: str) -> AsyncIterator[pbscast.Client]:
    async with fanning(log, nats_url), pbscast.connect(nats_url) as client:
        yield client


async def test_a_story_across_sites_says_where_it_was_handed_over(client: pbscast.Client) -> None:
    handed = HandOver("1.sitea", "sitea", "siteb", "workq@siteb", left=at(10), arrived=at(9))
    story = [item async for item in client.history_with_bodies("1.sitea")]
    places = [(item.event.site, item.event.position, item.hand_over) for item in story]
    assert places == [
        ("sitea", 1, None),
        ("sitea", 3, None),
        ("siteb", 1, handed),
        ("siteb", 2, None),
        ("siteb", 3, None),
    ]
    back = [item async for item in client.history_with_bodies("1.sitea", newest_first=True)]
    assert [item.event for item in back] == [item.event for item in story][::-1]
    assert [item.hand_over for item in back] == [None, None, None, handed, None]
    by_name = [event async for event in client.history(names="f?t", begin=at(12), end=at(30))]
    assert [(event.site, event.position) for event in by_name] == [("siteb", 2), ("sitea", 4)]


async def test_lives_standings_and_differences(client: pbscast.Client) -> None:
    lives = [item async for item in client.jobs(owners="alice")]
    assert [(item.site, item.id, item.reason) for item in lives] == [
        ("siteb", "1.sitea", "finished"),
        ("sitea", "2.sitea", None),
        ("sitea", "1.sitea", "moved"),
    ]
    then = [item async for item in client.at(at(15), states=["Q", "R"])]
    assert [(item.site, item.id, item.state) for item in then] == [
        ("sitea", "2.sitea", "Q"),
        ("siteb", "1.sitea", "R"),
    ]
    [full] = [item async for item in client.at({"sitea": 3}, "2.sitea", attributes=True)]
    assert full.attributes == {"a": "1", "b": "1"}
    found = [item async for item in client.difference(at(15), at(40))]
    assert [(item.after.id, item.ended, item.changed) for item in found] == [
        ("2.sitea", False, {"a": Values("1", "2")}),
        ("1.sitea", True, {}),
    ]


async def test_a_snapshot_says_from_where_to_follow(client: pbscast.Client) -> None:
    snapshot = client.snapshot(attributes=True)
    assert snapshot.positions == {}
    [standing] = [item async for item in snapshot]
    assert (standing.id, standing.state, standing.position) == ("2.sitea", "R", 4)
    assert standing.attributes == {"a": "2", "b": "1"}
    assert snapshot.positions == {"sitea": 4, "siteb": 3}
    start = pbscast.after(snapshot.positions)
    async with client.watch(start=start) as watch:
        assert isinstance(await anext(watch), pbscast.Boundary)


async def test_what_cannot_be_asked_is_refused_before_it_is(client: pbscast.Client) -> None:
    with pytest.raises(pbscast.UsageError, match=r"unknown state 'Z' \(one of T, Q"):
        client.snapshot(states="Z")
    with pytest.raises(pbscast.UsageError, match=r"moment\.time: Input should have timezone info"):
        await anext(client.at(datetime(2026, 11, 22)))  # noqa: DTZ001 - what is refused
    with pytest.raises(pbscast.UsageError, match=r"moment\.positions\.sitea: has to be at least 1"):
        await anext(client.at({"sitea": 0}))
    with pytest.raises(pbscast.UsageError, match="begin has to be before end"):
        await anext(client.difference(at(5), at(5)))
    with pytest.raises(pbscast.UsageError, match="two times, or positions both"):
        await anext(client.difference(at(5), {"sitea": 1}))
    with pytest.raises(pbscast.UsageError, match="the range is empty"):
        await anext(client.history(owners="alice", begin=at(5), end=at(4)))
    with pytest.raises(pbscast.InvalidJobId, match="lacks its server"):
        await anext(client.jobs("1"))
    with pytest.raises(pbscast.UsageError, match="owners: give at least one"):
        await anext(client.jobs(owners=[]))
    with pytest.raises(pbscast.UsageError, match="reasons"):
        await anext(client.jobs(reasons="bored"))


async def test_what_the_log_cannot_know_is_said(client: pbscast.Client) -> None:
    with pytest.raises(pbscast.NotFoundError, match="the log begins at 2026-11-22T09:00:00"):
        await anext(client.at(at(-1)))
    with pytest.raises(pbscast.UsageError, match="position 5 is beyond the log of sitea"):
        await anext(client.at({"sitea": 5}))
    with pytest.raises(pbscast.NotFoundError, match=r"no job 3\.sitea"):
        await anext(client.snapshot("3.sitea"))
    with pytest.raises(pbscast.NotFoundError, match="no such site: sitec"):
        await anext(client.jobs(sites="sitec"))


async def test_without_an_event_loop(client: pbscast.Client, nats_url: str) -> None:
    def work() -> tuple[list[str], list[str], dict[str, int], list[str], list[bool]]:
        with blocking.connect(nats_url) as waiting:
            snapshot = waiting.snapshot()
            return (
                [item.id for item in waiting.jobs(sites="sitea", newest_first=False)],
                [item.id for item in snapshot],
                snapshot.positions,
                [item.id for item in waiting.at(at(5))],
                [item.appeared for item in waiting.difference(at(0), at(5))],
            )

    assert await asyncio.to_thread(work) == (
        ["1.sitea", "2.sitea"],
        ["2.sitea"],
        {"sitea": 4, "siteb": 3},
        ["1.sitea", "2.sitea"],
        [True],
    )


async def test_answers_fit_into_messages(log: Log) -> None:
    """Rows go page by page; what is too large for one alone is left out by name."""
    huge = [draft("1.sitea", time=at(0), big="x" * 200_000, small="1")]
    many = [draft(f"{n}.sitea", time=at(n), text="y" * 5_000) for n in range(2, 60)]
    again = [draft("1.sitea", time=at(100), big="z" * 200_000)]
    await write(log, "sitea", [*huge, *many, *again])
    with NatsServer(durable=False, config="max_payload: 65536") as server:
        async with fanning(log, server.url), pbscast.connect(server.url) as client:
            then = [item async for item in client.at(at(99), attributes=True)]
            now = [item async for item in client.snapshot(attributes=True)]
            lives = [item async for item in client.jobs(newest_first=False)]
            [differs] = [item async for item in client.difference(at(99), at(100))]
            story = [event async for event in client.history(owners="alice")]
    ids = [f"{n}.sitea" for n in range(1, 60)]
    assert [item.id for item in then] == [item.id for item in now] == ids
    assert [item.id for item in lives] == ids
    for first, *rest in (then, now):
        assert (first.attributes, first.omitted) == ({"small": "1"}, ("big",))
        assert all(item.attributes == {"text": "y" * 5_000} for item in rest)
    assert (differs.changed, differs.omitted) == ({}, ("big",))
    assert [event.position for event in story] == list(range(1, 61))
