"""What is stored for subscriptions, through crashes at any point, against a plain reading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from harness.plain_site import NOW, PlainSite
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pbscast.deliveries import (
    BeginMessage,
    BoundaryMessage,
    EventMessage,
    ObjectMessage,
    SubscriptionMessage,
    decode,
)
from pbscast.errors import UnavailableError
from pbscast.events import Change, EventName, Finalize, Kind, Site
from pbscast.ids import split_subjob
from pbscast.lives import Standing
from pbscast.subscriptions import SubscribeRequest
from pbscast_fanout.askers import Role
from pbscast_fanout.expressions import compile_expression
from pbscast_fanout.subscriptions import standings
from pbscast_fanout.subscriptions.checkpoints import Checkpoint
from pbscast_fanout.subscriptions.definitions import Definition
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.joining import Join, Learn, Wish
from pbscast_fanout.subscriptions.means import Means
from pbscast_fanout.subscriptions.notes import Notes
from pbscast_fanout.subscriptions.owners import Owner
from pbscast_fanout.subscriptions.recovery import recover
from pbscast_fanout.subscriptions.room import Room
from pbscast_fanout.subscriptions.sending import Sender
from pbscast_fanout.subscriptions.stream import Place
from pbscast_fanout.subscriptions.writer import DeliveryWriter, Outgoing

SITE = Site("sitea")
JOBS = ("1.sitea", "2.sitea", "6[].sitea", "6[1].sitea", "6[2].sitea")
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"ids": ["1.sitea", "6[].sitea"]},
    {"ids": ["2.sitea"], "queues": ["workq"]},
    {"ids": ["6[1].sitea", "99.sitea"]},
    {"states": ["R"]},
    {"queues": ["express"], "events": ["state", "finalize"]},
    {"names": ["fit*"]},
    {"where": 'comment == "here"'},
    {"where": 'Account_Name == "x" and state == "R"'},
    {"attributes": ["comment"]},
    {"kinds": ["job", "node"], "states": ["R", "free"]},
    {"kinds": ["node"]},
    {"owners": ["alice"], "delivery": "at-most-once"},
)
OWNERS = (
    None,
    Owner(role=Role.USER, name="alice"),
    Owner(role=Role.USER, name="bob", sites=("sitea", "siteb"), open_sites=("siteb",)),
    Owner(role=Role.USER, name="alice", open_sites=("sitea",)),
    Owner(role=Role.OPERATOR, name="carol", sites=("sitea",)),
    Owner(role=Role.AUDITOR, name="dora", sites=("siteb",)),
)
VALUES = {
    "owner": ("alice", "bob"),
    "queue": ("workq", "express"),
    "name": ("fit1", "run"),
    "state": ("Q", "R"),
    "comment": ("here", "there", ""),
    "Account_Name": ("x", "y", ""),
}


class CrashError(UnavailableError):
    """The worker is killed: nothing more of it happens."""


@dataclass
class Storage:
    """All that outlives a worker, and the crashes that befall it."""

    random: Random
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    passed: list[tuple[str, bytes]] = field(default_factory=list)
    tail: Place | None = None
    joined: dict[str, Joined] = field(default_factory=dict)
    noted: int = 0
    checkpoint: Checkpoint | None = None
    fuse: int | None = None
    """How many more writes succeed."""

    def write(self) -> bool:
        """Whether to crash right after this write; crashes now if it is to be before."""
        if self.fuse is None:
            return False
        self.fuse -= 1
        if self.fuse >= 0:
            return False
        self.fuse = None
        if self.random.random() < 0.5:
            raise CrashError("before it was stored")
        return True

    def of(self, key: str, *, kept: bool = True) -> list[SubscriptionMessage]:
        messages = self.messages if kept else self.passed
        return [decode(body) for to, body in messages if to == key]


class Writer:
    """As DeliveryWriter: singly, or in batches all or none of which is stored."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.place = self.marked = storage.tail

    async def find(self) -> Place | None:
        return self.place

    async def mark(self, place: Place) -> None:
        dies = self._storage.write()
        self._storage.tail = self.place = self.marked = place
        if dies:
            raise CrashError("after a mark")

    async def write(self, messages: Sequence[Outgoing], place: Place) -> None:
        before = self.place
        for item in (*(message.place for message in messages if message.place), place):
            assert before is None or item.reaches(before)
            before = item
        if self._storage.random.random() < 0.5:
            for message in messages:
                self._store([message], message.place or self.place)
        elif messages:
            self._store(messages, place)
        self.place = place

    def _store(self, messages: Sequence[Outgoing], place: Place | None) -> None:
        dies = self._storage.write()
        for message in messages:
            self._storage.messages.append((message.subject.rsplit(".", 1)[1], message.body))
        self._storage.tail = self.place = self.marked = place
        if dies:
            raise CrashError("after a message")

    async def last_number(self, key: str) -> int:
        numbers = [json.loads(body)["n"] for to, body in self._storage.messages if to == key]
        return int(numbers[-1]) if numbers else 0


class Run:
    """A log, subscriptions, and one worker after the other."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.log = PlainSite(SITE)
        self.storage = Storage(self.random)
        self.definitions: dict[str, Definition] = {}
        self.modified: set[str] = set()
        self.handed_over: set[str] = set()
        self.wishes: list[Wish | Join | Learn] = []
        self.errands: list[tuple[Join | Learn, AsyncIterator[list[Standing]]]] = []
        self.notes: Notes | None = None
        self.late: list[Callable[[], Awaitable[None]]] = []
        """What workers that died had under way."""
        self.revision = 0

    async def play(self, steps: int) -> None:
        """Some random steps, with crashes; then everything that is left, without."""
        while steps > 0:
            try:
                await self._begin()
                while steps > 0:
                    steps -= 1
                    await self._step()
            except CrashError:
                pass
        self.storage.fuse = None
        await self._begin()
        while (
            self.wishes
            or self.errands
            or self.recovered.notes._said
            or self.core.is_telling
            or self._is_behind()
        ):
            await self._turn(5)
            await self._errand()
            await self._note()

    def _is_behind(self) -> bool:
        return self.core.position < len(self.log.records)

    async def _begin(self) -> None:
        self.writer = Writer(self.storage)
        self.errands, self.wishes = [], []
        if self.notes is not None and self.notes._said:
            key, joined = next(iter(self.notes._said.items()))
            self.late.append(partial(self.notes._put, key, joined))
        writer = cast("DeliveryWriter", self.writer)
        means = self._means()
        recovered = await recover(SITE, means, writer)
        await self.writer.mark(recovered.claim)
        self.core = recovered.core
        self.sender = Sender(SITE, means, writer, recovered)
        self.recovered, self.notes = recovered, recovered.notes
        self.core.begin()
        self._note_checkpoint()
        if recovered.place.key is not None:
            [record] = await self.log.read(SITE, recovered.place.position - 1, 1)
            self.core.take(record, recovered.place.key)
        await self._turn(0)

    def _means(self) -> Means:
        async def load(_: str) -> dict[str, Joined]:
            return dict(self.storage.joined)

        async def put(_: str, key: str, joined: Joined) -> int:
            self.storage.noted += 1
            note = joined.model_copy(update={"noted": self.storage.noted})
            self.storage.joined[key] = note
            return note.noted

        async def load_checkpoint(_: str) -> Checkpoint | None:
            return self.storage.checkpoint

        async def publish(subject: str, body: bytes) -> None:
            self.storage.passed.append((subject.rsplit(".", 1)[1], body))

        means = SimpleNamespace(
            log=self.log,
            connection=SimpleNamespace(client=SimpleNamespace(max_payload=2**20, publish=publish)),
            view=SimpleNamespace(definitions=self.definitions),
            joined=SimpleNamespace(load=load, put=put),
            room=Room(),
            checkpoints=SimpleNamespace(load=load_checkpoint),
        )
        return cast("Means", means)

    async def _step(self) -> None:
        steps = {
            self._log: 8,
            self._take: 8,
            self._errand: 8,
            self._note: 4,
            self._arrive: 1,
            self._register: 2,
            self._modify: 1,
            self._hand_over: 0.5,
            self._remove: 0.3,
            self._keep_checkpoint: 1,
            self._light: 1,
        }
        [step] = self.random.choices(tuple(steps), tuple(steps.values()))
        await step()

    async def _log(self) -> None:
        choose = self.random.choice
        kind, name = choose([(Kind.JOB, job) for job in JOBS] + [(Kind.NODE, "node1")])
        if self.random.random() < 0.2:
            self.log.end(kind, name)
            return
        names = self.random.sample(tuple(VALUES), self.random.randint(1, 3))
        if kind is Kind.NODE:
            names = ["comment", "state"]
        values = {name: choose(VALUES[name]) for name in names}
        self.log.change(kind, name, values)

    async def _take(self) -> None:
        await self._turn(self.random.choice((0, 1, 1, 4)))

    async def _turn(self, events: int) -> None:
        for record in await self.log.read(SITE, self.core.position, events):
            self.core.take(record)
        self._collect()
        turn = self.core.draw(self.random.randint(1, 6))
        *parts, last = turn.parts()
        for part in parts:
            await self.sender.store(await self.sender.prepare(part))
        await self.sender.store(await self.sender.prepare(last, self.core.place))
        for key, joined in turn.settled:
            self.recovered.notes.say(key, joined)

    def _collect(self) -> None:
        self.wishes += self.core.errands()
        self.random.shuffle(self.wishes)

    def _set_out(self) -> None:
        """With one that waits; a subscription begins only then."""
        errand = self.wishes.pop()
        begun = self.core.embark(errand) if isinstance(errand, Wish) else errand
        if begun is not None:
            self.errands.append((begun, self._reading(begun)))

    def _reading(self, errand: Join | Learn) -> AsyncIterator[list[Standing]]:
        log = cast("Any", self.log)
        if isinstance(errand, Learn):
            return standings.living(log, SITE, errand.position, attributes=True)
        return standings.joining(log, SITE, errand)

    async def _errand(self) -> None:
        """One more page of one that is under way."""
        if self.wishes and (not self.errands or self.random.random() < 0.3):
            self._set_out()
        if not self.errands:
            return
        number = self.random.randrange(len(self.errands))
        errand, pages = self.errands[number]
        page = await anext(pages, None)
        if isinstance(errand, Learn):
            self.core.supplied(errand) if page is None else self.core.supply(errand, page)
        else:
            self.core.bound(errand) if page is None else self.core.offer(errand, page)
        if page is None:
            del self.errands[number]
        self._collect()

    async def _note(self) -> None:
        await self.recovered.notes.write()

    async def _arrive(self) -> None:
        """What another worker had under way before this one began."""
        if self.late:
            await self.late.pop()()

    async def _register(self) -> None:
        if len(self.definitions) < 6:
            self.revision += 1
            request = SubscribeRequest.model_validate(self.random.choice(FILTERS))
            key = f"sub{self.random.randrange(10**6):06}{self.revision}"
            self._define(key, request, self.random.choice(OWNERS))

    def _define(self, key: str, request: SubscribeRequest, owner: Owner | None) -> None:
        definition = Definition(key, request, self.revision, ended=False, created=NOW, owner=owner)
        self.definitions[key] = definition
        if not len(self.core) and definition.covers(SITE):
            raise CrashError("nobody was told anything: a session begins with the first one")
        self.core.define(definition)

    async def _modify(self) -> None:
        requests = {key: item.request for key, item in self.definitions.items()}
        keys = [key for key, item in requests.items() if item.ids and not item.queues]
        if keys:
            key = self.random.choice(keys)
            ids = tuple(self.random.sample(JOBS, self.random.randint(1, 3)))
            self.revision += 1
            self.modified.add(key)
            request = requests[key].model_copy(update={"ids": ids})
            self._define(key, request, self.definitions[key].owner)

    async def _hand_over(self) -> None:
        """Its owner may see more now, or less."""
        if self.definitions:
            key = self.random.choice(tuple(self.definitions))
            self.revision += 1
            self.handed_over.add(key)
            self._define(key, self.definitions[key].request, self.random.choice(OWNERS))

    async def _remove(self) -> None:
        if self.definitions:
            key = self.random.choice(tuple(self.definitions))
            del self.definitions[key]
            self.core.remove(key)
            self.storage.joined.pop(key, None)

    async def _keep_checkpoint(self) -> None:
        if self.writer.place != self.writer.marked:
            await self.writer.mark(Place(self.core.position))
        self._note_checkpoint()

    def _note_checkpoint(self) -> None:
        departures = tuple(self.core.departures())
        numbers = self.sender.numbers.all(self.core.keys())
        notes = self.recovered.notes
        self.storage.checkpoint = Checkpoint(
            self.core.position, departures, numbers, notes.session, notes.known
        )

    async def _light(self) -> None:
        self.storage.fuse = self.random.randint(0, 4)


def may_see(owner: Owner | None, kind: Kind, job_owner: str | None) -> bool:
    """What is told of the site; whether it is told at all is another question."""
    if owner is None or owner.role is not Role.USER or SITE in owner.open_sites:
        return True
    return kind is not Kind.JOB or job_owner == owner.name


def belongs(definition: Definition, standing: Standing) -> bool:
    wanted = definition.request
    attributes = standing.attributes or {}

    def look_up(name: str) -> str | None:
        return standing.state if name == "state" else attributes.get(name)

    array = split_subjob(standing.id)[0]
    return (
        standing.kind in wanted.kinds
        and may_see(definition.owner, standing.kind, standing.owner)
        and (not wanted.ids or standing.id in wanted.ids or array in wanted.ids)
        and (not wanted.owners or standing.owner in wanted.owners)
        and (not wanted.queues or standing.queue in wanted.queues)
        and (not wanted.states or standing.state in wanted.states)
        and (
            not wanted.names or any(fnmatchcase(standing.name or "", name) for name in wanted.names)
        )
        and (wanted.where is None or compile_expression(wanted.where).matches(look_up))
    )


Life = tuple[Kind, str, int]


def lived(standing: Standing) -> Life:
    return standing.kind, standing.id, standing.incarnation


def expected(log: PlainSite, definition: Definition, position: int) -> Iterator[tuple[Any, ...]]:
    """What a subscription that begins there is told, in brief."""
    yield ("begin", position)
    yield from sorted(standing_at(log, definition, position))
    yield ("boundary", position)
    for event, told in happening(log, definition, position):
        if may_see(definition.owner, event.kind, event.owner):
            yield told


def standing_at(log: PlainSite, definition: Definition, position: int) -> Iterator[tuple[Any, ...]]:
    for _, standing in log.stood(position):
        if standing.ended is None and belongs(definition, standing):
            yield (standing.id, standing.position, False)
        elif standing.ended is not None and named(definition, standing):
            yield (standing.id, standing.position, True)


def happening(
    log: PlainSite, definition: Definition, position: int
) -> Iterator[tuple[Change | Finalize, tuple[Any, ...]]]:
    wanted = definition.request
    before = {lived(item): item for _, item in log.stood(position) if item.ended is None}
    belonged = {life for life, item in before.items() if belongs(definition, item)}
    for record in log.records[position:]:
        event = record.decode()
        assert isinstance(event, Change | Finalize)
        [now] = [item for _, item in log.stood(event.position) if item.position == event.position]
        was = before.pop(lived(now), None)
        did = was is not None and belongs(definition, was)
        does = event.event is not EventName.DELETE and belongs(definition, now)
        if now.ended is None:
            before[lived(now)] = now
        if isinstance(event, Finalize):
            if did or does or lived(now) in belonged:
                yield event, ("event", event.position, "ended", False)
            continue
        if does:
            belonged.add(lived(now))
        if (did or does) and is_asked_for(wanted, event):
            passage = {(True, True): "stayed", (True, False): "left"}.get((did, does), "joined")
            stands = passage == "joined" and event.revision > 1
            yield event, ("event", event.position, passage, stands)


def named(definition: Definition, standing: Standing) -> bool:
    wanted, array = definition.request, split_subjob(standing.id)[0]
    return (
        standing.kind in wanted.kinds
        and (standing.id in wanted.ids or array in wanted.ids)
        and may_see(definition.owner, standing.kind, standing.owner)
    )


def is_asked_for(wanted: SubscribeRequest, event: Change) -> bool:
    touched = {*event.changed, *event.removed}
    return (not wanted.events or event.event in wanted.events) and (
        not wanted.attributes
        or event.event is EventName.DELETE
        or bool(touched & set(wanted.attributes))
    )


def brief(message: SubscriptionMessage) -> tuple[Any, ...]:
    match message:
        case BeginMessage():
            return ("begin", message.position)
        case BoundaryMessage():
            return ("boundary", message.position)
        case ObjectMessage():
            standing = message.object
            return (standing.id, standing.position, standing.ended is not None)
        case EventMessage():
            event, left = message.event, message.standing
            assert left is None or (left.id, left.position) == (event.id, event.position)
            return ("event", event.position, message.passage.value, left is not None)
        case _:
            raise AssertionError(message)


def last_beginning(messages: list[SubscriptionMessage]) -> list[SubscriptionMessage]:
    begins = [at for at, message in enumerate(messages) if isinstance(message, BeginMessage)]
    return messages[begins[-1] :]


def check_exactly(run: Run, definition: Definition) -> None:
    """All that was told since it began last is just what a plain reading of the log tells."""
    messages = run.storage.of(definition.id)
    if not definition.covers(SITE):
        assert messages == [] or definition.id in run.handed_over
        return
    told = [brief(item) for item in last_beginning(messages)]
    position = told[0][1]
    end = told.index(("boundary", position))
    told[1:end] = sorted(told[1:end])
    assert told == list(expected(run.log, definition, position))


def check_outcome(run: Run, definition: Definition) -> None:
    """What its reader knows in the end is how all its jobs stand."""
    if not definition.covers(SITE):
        return
    known: dict[str, tuple[int, bool]] = {}
    for message in last_beginning(run.storage.of(definition.id)):
        if isinstance(message, ObjectMessage):
            known[message.object.id] = message.object.position, message.object.ended is not None
        elif isinstance(message, EventMessage):
            event = message.event
            known[event.id] = event.position, isinstance(event, Finalize)
    for _, stood in run.log.stood(len(run.log.records)):
        if named(definition, stood) and stood.kind is Kind.JOB:
            assert known[stood.id] == (stood.position, stood.ended is not None)


def check_no_repeats(run: Run, definition: Definition) -> None:
    """Of what nobody keeps some may be missing after a crash, but nothing comes again."""
    messages = run.storage.of(definition.id, kept=False)
    assert all(isinstance(item, BeginMessage) or item.n is None for item in messages)  # type: ignore[union-attr]
    positions = [item.event.position for item in messages if isinstance(item, EventMessage)]
    assert len(set(positions)) == len(positions)


def check_secrets(run: Run, definition: Definition) -> None:
    """Nothing was ever told that its owner may not see."""
    for kept in (True, False):
        for message in run.storage.of(definition.id, kept=kept):
            if isinstance(message, ObjectMessage):
                assert may_see(definition.owner, message.object.kind, message.object.owner)
            elif isinstance(message, EventMessage):
                told = (message.event, message.standing or message.event)
                for item in told:
                    owner = getattr(item, "owner", None)
                    assert may_see(definition.owner, item.kind, owner)


def check_numbers(run: Run) -> None:
    numbers: Mapping[str, list[int]] = {key: [] for key, _ in run.storage.messages}
    for key, body in run.storage.messages:
        numbers[key].append(json.loads(body)["n"])
    for had in numbers.values():
        assert had == list(range(1, len(had) + 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
@example(5064)  # begins where the last checkpoint is
def test_what_is_told_through_crashes_is_what_the_log_says(seed: int) -> None:
    run = Run(seed)
    asyncio.run(run.play(steps=200))
    check_numbers(run)
    for definition in run.definitions.values():
        if definition.id not in run.handed_over:
            check_secrets(run, definition)
        if definition.request.delivery == "at-most-once":
            check_no_repeats(run, definition)
        elif definition.id in run.modified:
            check_outcome(run, definition)
        else:
            check_exactly(run, definition)
