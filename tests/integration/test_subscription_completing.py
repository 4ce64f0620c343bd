"""When a subscription is complete: a real log of two sites, real definitions, a real stream.

What deliverers do is done by hand: to say how far a site has told, and who has joined it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from harness.delivering import AFTER, BEFORE, FrailConnection
from harness.fanning import until
from harness.moving import Story
from nats.aio.msg import Msg

from pbscast import deliveries
from pbscast.deliveries import DELIVERIES, LIVE, complete_subject
from pbscast.events import Finalize, Incarnation, Kind, Position, Provenance, Reason, Revision, Site
from pbscast.subscriptions import ModifyRequest, SubscribeRequest
from pbscast_fanout import fences
from pbscast_fanout.settings import SubscriptionSettings
from pbscast_fanout.subscriptions import completing, endings
from pbscast_fanout.subscriptions.completing import Completing, pending
from pbscast_fanout.subscriptions.definitions import Definition
from pbscast_fanout.subscriptions.destinations import Destinations
from pbscast_fanout.subscriptions.joined import Joined, JoinedSites
from pbscast_fanout.subscriptions.registry import Registry
from pbscast_fanout.subscriptions.stream import Place, ensure_deliveries
from pbscast_fanout.subscriptions.survey import Survey, survey
from pbscast_fanout.subscriptions.writer import DeliveryWriter
from pbscast_store.log import Log

A, B = Site("sitea"), Site("siteb")


@dataclass
class Worker:
    """A worker that delivers some of the sites; what is noted is as it would be."""

    sites: frozenset[str]
    connection: FrailConnection
    completing: Completing
    definitions: dict[str, Definition]

    def note(self, site: Site, *jobs: str, to: Iterable[Definition] = ()) -> None:
        for job in jobs:
            self.completing.note(_finalize(site, job), [one.id for one in to])


@dataclass
class World:
    """Both sites, and the subscriptions to them."""

    log: Log
    url: str
    connection: FrailConnection
    registry: Registry
    joined: JoinedSites
    story: Story
    definitions: dict[str, Definition] = field(default_factory=dict)
    writers: dict[str, DeliveryWriter] = field(default_factory=dict)

    async def subscribe(self, *ids: str, **options: object) -> Definition:
        request = SubscribeRequest.model_validate({"ids": ids, **options})
        definition = await self.registry.register(request)
        self.definitions[definition.id] = definition
        return definition

    async def modify(self, definition: Definition, **change: object) -> Definition:
        request = ModifyRequest.model_validate({"id": definition.id, **change})
        self.definitions[definition.id] = await self.registry.modify(definition.id, request)
        return self.definitions[definition.id]

    async def join(self, definition: Definition, *sites: str) -> None:
        for site in sites or (A, B):
            joined = Joined(position=0, revision=definition.revision)
            await self.joined.put(site, definition.id, joined)

    async def tell(self, *sites: str) -> None:
        """Deliver all that the log has of the sites."""
        for site in sites or (A, B):
            if site not in self.writers:
                self.writers[site] = DeliveryWriter(self.connection, site, asyncio.Semaphore())
                await self.writers[site].find()
            await self.writers[site].mark(Place(await self.log.position(site)))

    async def completes(self, definition: Definition) -> list[str]:
        """The messages that say so, as the stream has kept them."""
        subject = complete_subject(definition.id)
        last = await fences.read_last(self.connection, DELIVERIES, subject)
        if last is None:
            return []
        part = fences.Part(DELIVERIES, subject, subject)
        before = await fences.read_between(self.connection, part, 0, last.sequence)
        messages = [deliveries.decode(one.body) for one in (before, last) if one is not None]
        return [message.what for message in messages]

    async def until_complete(self, definition: Definition) -> None:
        async with asyncio.timeout(20):
            while not await self.completes(definition):  # noqa: ASYNC110 - only to be asked
                await asyncio.sleep(0.01)

    async def never(self, definition: Definition, seconds: float = 0.5) -> None:
        """It is not complete, and nothing is under way that would make it so."""
        await asyncio.sleep(seconds)
        assert not (await self.registry.get(definition.id)).ended
        assert not await self.completes(definition)

    @asynccontextmanager
    async def working(self, *sites: str) -> AsyncIterator[Worker]:
        connection = FrailConnection(self.url)
        await connection.open()
        mine = frozenset(sites or (A, B))
        watching = Completing(
            self.log,
            connection,
            Registry(connection),
            JoinedSites(connection),
            self.definitions,
            # Of what is looked after now and then each worker has all.
            lambda thing: thing in mine or thing not in (A, B),
        )
        task = asyncio.create_task(watching.run())
        try:
            yield Worker(mine, connection, watching, self.definitions)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await connection.close()


def _finalize(site: Site, job: str) -> Finalize:
    return Finalize(
        site=site,
        position=Position(1),
        time="2026-11-22T09:00:00Z",  # type: ignore[arg-type]
        kind=Kind.JOB,
        id=job,
        incarnation=Incarnation(1),
        revision=Revision(1),
        event="finalize",  # type: ignore[arg-type]
        provenance=Provenance.JOURNAL,
        reason=Reason.FINISHED,
    )


@pytest.fixture
async def world(log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(completing, "SWEEP_SECONDS", 3600.0)
    connection = FrailConnection(nats_url)
    await connection.open()
    registry, joined = Registry(connection), JoinedSites(connection)
    await registry.ensure()
    await joined.ensure()
    await ensure_deliveries(connection, SubscriptionSettings())
    story = Story(log)
    for site in (A, B):
        await story.server(site)
    yield World(log, nats_url, connection, registry, joined, story)
    await connection.close()


async def test_it_waits_for_every_job_and_every_site(world: World) -> None:
    await world.story.run(A, "1.sitea", "2.sitea")
    definition = await world.subscribe("1.sitea", "2.sitea")
    async with world.working() as worker:
        await world.join(definition, A)
        await world.tell()
        worker.completing.consider(definition.id)
        await world.story.end(A, "2.sitea")
        assert await pending(world.log, definition) == 1
        worker.note(A, "2.sitea", to=[definition])
        await world.never(definition)
        await world.story.end(A, "1.sitea", to="siteb")
        await world.story.run(B, "1.sitea")
        worker.note(A, "1.sitea", to=[definition])
        await world.tell()
        await world.never(definition)
        await world.story.end(B, "1.sitea")
        worker.note(B, "1.sitea", to=[definition])
        await world.tell(A)
        await world.never(definition)  # B has not told of it
        await world.tell(B)
        await world.never(definition)  # nor how everything stood there
        await world.join(definition, B)
        await world.until_complete(definition)
        assert await world.completes(definition) == ["complete"]
        assert (await world.registry.get(definition.id)).ended


async def test_the_log_is_asked_once_when_the_last_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def asking(log: Log, targets: Destinations, one: Definition, *more: Any) -> Survey:
        asked.append(one.id)
        return await survey(log, targets, one, *more)

    monkeypatch.setattr(completing, "survey", asking)
    jobs = [f"{number}.sitea" for number in range(3)]
    await world.story.run(A, *jobs)
    definition = await world.subscribe(*jobs)
    await world.join(definition)
    async with world.working() as worker:
        await until(lambda: asked)  # by the first sweep
        for ended, living in (("0.sitea", jobs[1:]), ("2.sitea", jobs[1:2]), ("1.sitea", [])):
            await world.story.end(A, ended)
            note = _finalize(A, ended)
            worker.completing.note(note, [definition.id], living.__contains__)
        await world.tell()
        await world.until_complete(definition)
    assert asked == 2 * [definition.id]


async def test_a_worker_that_is_told_of_one_site_alone_knows_of_both(world: World) -> None:
    await world.story.run(A, *(f"{number}.sitea" for number in range(5)))
    await world.story.run(B, "9.siteb")
    definition = await world.subscribe(*(f"{number}.sitea" for number in range(5)), "9.siteb")
    await world.join(definition)
    await world.tell()
    async with world.working(A) as one, world.working(B) as other:
        for worker in (one, other):
            worker.completing.consider(definition.id)
        for number in (3, 0, 4, 1, 2):
            await world.story.end(A, f"{number}.sitea")
            one.note(A, f"{number}.sitea", to=[definition])
        await world.never(definition)
        await world.story.end(B, "9.siteb")
        await world.tell()
        other.note(B, "9.siteb", to=[definition])
        await world.until_complete(definition)
    assert await world.completes(definition) == ["complete"]


async def test_what_ended_is_complete_whoever_finds_it_and_once(world: World) -> None:
    await world.story.end(A, "1.sitea")
    found = [await world.subscribe("1.sitea") for _ in range(8)]
    for definition in found:
        await world.join(definition)
    await world.tell()
    async with world.working() as one, world.working() as other:
        for definition in found:
            one.completing.consider(definition.id)
            other.completing.consider(definition.id)
        for definition in found:
            await world.until_complete(definition)
    for definition in found:
        assert await world.completes(definition) == ["complete"]


@pytest.mark.parametrize("how", [BEFORE, AFTER])
async def test_a_crash_between_its_steps_is_made_good(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Of the requests of an ending each one in turn is lost, and the worker with it."""
    await world.story.end(A, "1.sitea")
    await world.tell()
    requests = 0
    while True:
        definition = await world.subscribe("1.sitea")
        await world.join(definition)
        async with world.working() as worker:
            worker.connection.fail(requests, how)
            worker.completing.consider(definition.id)
            if not await _fails_or_completes(world, worker, definition):
                break
        requests += 1
        # The one that is told that it has ended, or looks for the first time.
        world.definitions[definition.id] = await world.registry.get(definition.id)
        async with world.working():
            await world.until_complete(definition)
        assert await world.completes(definition) == ["complete"]
        del world.definitions[definition.id]
    assert requests >= 6  # two marks, two joined, the definition read and written, complete


async def _fails_or_completes(world: World, worker: Worker, definition: Definition) -> bool:
    """Whether a request was lost."""
    async with asyncio.timeout(20):
        while worker.connection.is_to_fail:
            if await world.completes(definition):
                return False
            await asyncio.sleep(0.005)
    return True


async def test_what_is_modified_meanwhile_goes_on(world: World) -> None:
    await world.story.end(A, "1.sitea")
    await world.story.run(A, "2.sitea")
    definition = await world.subscribe("1.sitea")
    await world.join(definition)
    async with world.working() as worker:
        worker.completing.consider(definition.id)
        await world.never(definition, 0.2)  # it waits to be told
        changed = await world.modify(definition, add_ids=["2.sitea"])
        await world.tell()
        await world.never(definition)
        await world.join(changed)
        worker.completing.consider(definition.id)
        await world.never(changed)
        changed = await world.modify(changed, remove_ids=["2.sitea"])
        await world.join(changed)
        worker.completing.consider(definition.id)
        await world.until_complete(changed)
    with pytest.raises(Exception, match="has ended"):
        await world.modify(changed, add_ids=["2.sitea"])


async def test_one_that_went_where_nothing_is_seen_may_still_turn_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Survey] = []

    def wait(found: Survey) -> float:
        waits.append(found)
        return 0.2

    monkeypatch.setattr(completing, "_wait", wait)
    await world.story.end(A, "1.sitea", to="pbs.mars.example.org")
    definition = await world.subscribe("1.sitea")
    await world.join(definition)
    await world.tell()
    async with world.working() as worker:
        worker.completing.consider(definition.id)
        await until(lambda: len(waits) == 2)
        await world.story.run(B, "1.sitea")  # by a name that nobody knew
        monkeypatch.undo()
        await world.never(definition)
        await world.story.end(B, "1.sitea")
        await world.tell()
        worker.note(B, "1.sitea", to=[definition])
        await world.until_complete(definition)


async def test_at_most_once_is_told_live_and_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "LIVE_SECONDS", 0.1)
    await world.story.end(A, "1.sitea")
    definition = await world.subscribe("1.sitea", delivery="at-most-once")
    await world.join(definition)
    await world.tell()
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    subject = complete_subject(definition.id, LIVE)
    await world.connection.client.subscribe(subject, cb=hear)
    await world.connection.client.flush()
    async with world.working() as one, world.working() as other:
        for worker in (one, other):
            worker.completing.consider(definition.id)
        await until(lambda: heard)
        await asyncio.sleep(0.3)
    assert len(heard) == 1
    assert not await world.completes(definition)


async def test_what_names_no_jobs_or_not_all_yet_is_let_be(world: World) -> None:
    await world.story.end(A, "1.sitea")
    found = [
        await world.subscribe(owners=["alice"]),
        await world.subscribe("1.sitea", more=True),
        await world.subscribe("node1", kinds=["node"]),
    ]
    await world.tell()
    async with world.working() as worker:
        for definition in found:
            await world.join(definition)
            worker.completing.consider(definition.id)
        worker.note(A, "1.sitea", to=found)
        for definition in found:
            await world.never(definition, 0.1)
