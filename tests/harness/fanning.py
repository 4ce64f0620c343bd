"""Helpers for tests of the fan-out tier: fill a log, run workers, read the stream back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import nats
from harness.pulling import pulled
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from pbscast import wire
from pbscast.events import ChangePayload, EventName, Kind, Provenance, Site
from pbscast.requests import PublisherState, SiteStatus
from pbscast_fanout.settings import FanoutSettings, NatsSettings, StreamSettings
from pbscast_fanout.worker import Fanout
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import Record


def draft(job: str = "1.sitea", *, time: datetime | None = None, **changed: str) -> Draft:
    """A change of one of alice's jobs."""
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=EventName.STATE,
        time=time or datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=ChangePayload(owner="alice", queue="workq", state="R", changed=changed),
    )


def drafts(count: int, size: int = 10) -> list[Draft]:
    """Changes of up to 100 jobs in turn."""
    return [draft(f"{number % 100}.sitea", comment="x" * size) for number in range(count)]


async def write(log: Log, site: str, items: Iterable[Draft]) -> int:
    """Append to a site's log; returns the last position."""
    await log.register_site(site)
    writer = await log.acquire(site, "test", 60)
    assert writer is not None
    result = await writer.append(list(items), {})
    await writer.release()
    return result.last


async def logged(log: Log, site: str) -> list[Record]:
    """Everything that the log has of a site."""
    records: list[Record] = []
    while page := await log.read(site, len(records), 1000):
        records += page
    return records


@asynccontextmanager
async def fanning(
    log: Log, url: str, *, name: str | None = None, **stream: object
) -> AsyncIterator[Fanout]:
    """A worker that runs; of several in a process each needs a name. `url`: one, or with commas."""
    settings = FanoutSettings(
        nats=NatsSettings(servers=tuple(url.split(",")), timeout=2),
        stream=StreamSettings.model_validate(stream),
    )
    fanout = Fanout(log, settings, name=name)
    task = asyncio.create_task(fanout.run())
    try:
        yield fanout
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def status_of(fanout: Fanout, site: str) -> SiteStatus:
    """What the worker says about a site; before it knows the site: that nothing is published."""
    unknown = SiteStatus(
        site=Site(site),
        state=PublisherState.STARTING,
        logged=0,
        published=-1,
        since=datetime.now(UTC),
    )
    return next((item for item in fanout.status().sites if item.site == site), unknown)


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is only to be asked
            await asyncio.sleep(0.01)


async def published_to(fanout: Fanout, site: str, position: int, seconds: float = 30) -> None:
    """Return once the worker knows the site to be on the stream up to the position."""
    await until(lambda: status_of(fanout, site).published >= position, seconds)


async def in_state(fanout: Fanout, site: str, state: PublisherState, seconds: float = 30) -> None:
    """Return once the worker's publisher of the site is in the state."""
    await until(lambda: status_of(fanout, site).state is state, seconds)


@dataclass(frozen=True)
class Stored:
    """A message on the stream."""

    sequence: int
    subject: str
    body: bytes
    headers: dict[str, str]

    @property
    def is_mark(self) -> bool:
        return self.subject.endswith(".mark")


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    """A plain NATS client."""
    client = await nats.connect(url.split(","))
    try:
        yield client
    finally:
        await client.close()


async def stored(url: str, subject: str = "pbs.v1.>") -> list[Stored]:
    """All that the stream holds on a subject, as any JetStream client reads it."""
    async with client_of(url) as client:
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
        stream = client.jetstream(timeout=30)
        consumer = await stream.pull_subscribe(subject, stream="PBS", config=config)
        return [
            Stored(item.metadata.sequence.stream, item.subject, item.data, item.headers or {})
            for item in await pulled(consumer)
        ]


async def assert_published(url: str, log: Log, site: str, *, replicas: int = 1) -> None:
    """The stream holds what the log does, to the byte, once and in order; its marks are true.

    With replicas the first mark of a worker may say less: an event of another was under way.
    """
    messages = await stored(url, f"pbs.v1.{site}.>")
    events = [message for message in messages if not message.is_mark]
    records = await logged(log, site)
    assert [message.body for message in events] == [record.encode() for record in records]
    assert [message.subject for message in events] == [record.subject for record in records]
    position = 0
    for message in messages:
        if message.is_mark:
            told = wire.decode_mark(message.body).position
            assert told == position or (replicas > 1 and told < position)
        else:
            position += 1
