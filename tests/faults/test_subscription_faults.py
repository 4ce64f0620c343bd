from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness import fanout_process
from harness.fanning import client_of, fanning, logged, until, write
from harness.proxy import cutting_proxy
from harness.subscribing import (
    assert_numbered,
    briefs,
    joined,
    subscribe,
    told,
    told_up_to,
    until_told,
)
from nats.aio.client import Client

from pbscast.deliveries import (
    BeginMessage,
    BoundaryMessage,
    CompleteMessage,
    EventMessage,
    ObjectMessage,
    SubscriptionMessage,
)
from pbscast.events import (
    AnyEvent,
    ChangePayload,
    EventName,
    Finalize,
    FinalizePayload,
    Kind,
    Payload,
    Provenance,
    Reason,
)
from pbscast_deploy.embedded import NatsServer, PostgresServer
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

SITES = ("sitea", "siteb")
FOLLOWED = tuple(f"{number}.sitea" for number in range(10))
"""Jobs that one subscription names; they live until the test lets them end."""


def change(job: str, event: EventName, state: str) -> Draft:
    return _draft(job, event, ChangePayload(owner="alice", queue="workq", state=state))


def end(job: str) -> Draft:
    payload = FinalizePayload(owner="alice", queue="workq", state="F", reason=Reason.FINISHED)
    return _draft(job, EventName.FINALIZE, payload)


def _draft(job: str, event: EventName, payload: Payload) -> Draft:
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=event,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=payload,
    )


@dataclass
class Scene:
    """A log that goes on, and three subscriptions that are told of it."""

    log: Log
    client: Client
    everything: str = ""
    running: str = ""
    """Jobs join it, leave it, and are told to it when they end."""
    followed: str = ""
    jobs: Iterator[int] = field(default_factory=lambda: iter(range(1_000, 1_000_000)))

    async def open(self) -> None:
        for site in SITES:
            await write(self.log, site, [change(f"900.{site}", EventName.SUBMIT, "Q")])
        await write(self.log, "sitea", [change(job, EventName.SUBMIT, "Q") for job in FOLLOWED])
        self.everything = await subscribe(self.client)
        self.running = await subscribe(self.client, states=["R"])
        self.followed = await subscribe(self.client, ids=FOLLOWED)
        for key in (self.everything, self.running, self.followed):
            await until_told(self.client, key, joined(*SITES))

    async def go_on(self, jobs: int = 20) -> None:
        """Jobs live and end at both sites; those that are followed change."""
        for site in SITES:
            items = [
                item
                for number in (next(self.jobs) for _ in range(jobs))
                for item in life(f"{number}.{site}")
            ]
            if site == "sitea":
                items += [change(job, EventName.MODIFY, "Q") for job in FOLLOWED]
            for start in range(0, len(items), 40):
                await write(self.log, site, items[start : start + 40])

    async def finish(self) -> None:
        """Let all that is followed end, and wait until that is told."""
        await write(self.log, "sitea", [end(job) for job in FOLLOWED])
        ends = {site: await self.log.position(site) for site in SITES}
        for site, position in ends.items():
            await until_told(self.client, self.everything, told_up_to(site, position), 40)

        def is_complete(messages: list[SubscriptionMessage]) -> bool:
            return bool(messages) and isinstance(messages[-1], CompleteMessage)

        await until_told(self.client, self.followed, is_complete, 30)

    async def check(self) -> None:
        """Nothing is lost, nothing comes twice, each job has one last word."""
        events = {
            site: [record.decode() for record in await logged(self.log, site)] for site in SITES
        }
        for site in SITES:
            messages = await self._of(self.everything, site)
            at = began(messages)
            assert positions(messages) == [event.position for event in events[site][at:]]
            messages = await self._of(self.running, site)
            at = began(messages)
            assert positions(messages) == list(told_while_running(events[site][at:]))
        messages = await told(self.client, self.followed)
        assert_numbered(messages)
        assert Counter(item.what for item in messages)["complete"] == 1
        assert briefs(messages)[-1] == ("complete", None)
        stood = [item.object.id for item in messages if isinstance(item, ObjectMessage)]
        assert sorted(stood) == sorted(FOLLOWED)
        mine = [event.position for event in events["sitea"] if event.id in FOLLOWED]
        at = began([item for item in messages if getattr(item, "site", None) == "sitea"])
        assert positions(messages) == [position for position in mine if position > at]

    async def _of(self, key: str, site: str) -> list[SubscriptionMessage]:
        messages = await told(self.client, key)
        assert_numbered(messages)
        return [item for item in messages if getattr(item, "site", None) == site]


def told_while_running(events: list[AnyEvent]) -> Iterator[int]:
    """Of each job that runs that it does, that it does no more, and its end."""
    for event in events:
        if isinstance(event, Finalize):
            if event.id not in FOLLOWED:
                yield event.position
        elif getattr(event, "state", None) in ("R", "E"):
            yield event.position


def life(job: str) -> list[Draft]:
    return [
        change(job, EventName.SUBMIT, "Q"),
        change(job, EventName.STATE, "R"),
        change(job, EventName.STATE, "E"),
        end(job),
    ]


def began(messages: list[SubscriptionMessage]) -> int:
    """Where it begins: once only."""
    begins = [item.position for item in messages if isinstance(item, BeginMessage)]
    boundaries = [item.position for item in messages if isinstance(item, BoundaryMessage)]
    assert begins == boundaries
    [position] = begins
    return position


def positions(messages: list[SubscriptionMessage]) -> list[int]:
    return [item.event.position for item in messages if isinstance(item, EventMessage)]


@asynccontextmanager
async def worker_process(dsn: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, Path(fanout_process.__file__), dsn, url, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_killed_while_it_delivers(log: Log, log_dsn: str, nats_url: str) -> None:
    async with client_of(nats_url) as client:
        scene = Scene(log, client)
        async with worker_process(log_dsn, nats_url) as first:
            await scene.open()
            await scene.go_on()
            # The first gives some of the sites away, in mid-stream; those it keeps it dies with.
            async with fanning(log, nats_url) as second:
                await scene.go_on()
                await until(lambda: second.status().deliveries)
                writing = asyncio.create_task(scene.go_on(40))
                await asyncio.sleep(random.Random(5).uniform(0.1, 0.3))
                first.kill()
                await writing
                await scene.go_on()
                await scene.finish()
        await scene.check()


async def test_the_log_killed_while_it_delivers(
    own_postgres: PostgresServer, nats_url: str
) -> None:
    await Log.migrate_at(own_postgres.dsn())
    async with (
        Log.open(own_postgres.dsn()) as log,
        client_of(nats_url) as client,
        fanning(log, nats_url),
    ):
        scene = Scene(log, client)
        await scene.open()
        await scene.go_on(10)
        own_postgres.kill()
        await asyncio.to_thread(own_postgres.start)
        await scene.go_on(10)
        await scene.finish()
        await scene.check()


async def test_nats_killed_while_it_delivers(log: Log, own_nats: NatsServer) -> None:
    async with client_of(own_nats.url) as client, fanning(log, own_nats.url):
        scene = Scene(log, client)
        await scene.open()
        for _ in range(2):
            writing = asyncio.create_task(scene.go_on(30))
            await asyncio.sleep(0.1)
            own_nats.kill()
            await asyncio.to_thread(own_nats.start)
            await writing
        await scene.finish()
        await scene.check()


# nats-py leaves a socket to the garbage collector when its handshake is cut.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_way_to_nats_cut_while_it_delivers(log: Log, nats_url: str) -> None:
    choose = random.Random(3)
    port = int(nats_url.rsplit(":", 1)[1])
    async with (
        cutting_proxy(("127.0.0.1", port)) as proxy,
        client_of(nats_url) as client,
        fanning(log, f"nats://127.0.0.1:{proxy.port}"),
    ):
        scene = Scene(log, client)
        await scene.open()
        for number in range(4):
            if number % 2:
                proxy.cut_after(choose.randrange(60_000), "up")
            else:
                proxy.cut_after(choose.randrange(3_000), "down")
            await scene.go_on(8)
            await proxy.wait_for_cut()
        await scene.finish()
        await scene.check()
