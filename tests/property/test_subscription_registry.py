"""Whatever is asked of the registry by two workers, and fails, it is what a model says it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, ClassVar, TypeVar

import pytest
from harness.delivering import AFTER, BEFORE, LATE, FrailConnection
from harness.holding import View, holdings_at, wanting
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test

from pbscast.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from pbscast.subscriptions import ModifyRequest
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.subscriptions import definitions
from pbscast_fanout.subscriptions.definitions import new_id
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_fanout.subscriptions.janitor import Janitor
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.membership import Membership

T = TypeVar("T")

WORKERS = st.integers(0, 1)
FAULTS = st.sampled_from([BEFORE, AFTER, LATE])
IDS = st.lists(st.integers(0, 40).map("{}.sitea".format), min_size=1, max_size=30, unique=True)


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer."""
    while True:
        with suppress(UnavailableError):
            return await work()


class Registering(RuleBasedStateMachine):
    """Whoever gets no answer asks again, as the client does; leases run out at our word."""

    runner: ClassVar[asyncio.Runner]
    connections: ClassVar[list[FrailConnection]]
    holdings: ClassVar[list[Holdings]]
    janitors: ClassVar[list[Janitor]]

    subscriptions = Bundle("subscriptions")

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[str, tuple[str, ...]] = {}
        self.attributes: dict[str, tuple[str, ...]] = {}
        self.ended: set[str] = set()
        self.unleased: set[str] = set()

    @rule(target=subscriptions, worker=WORKERS, ids=IDS)
    def register(self, worker: int, ids: list[str]) -> str:
        key = new_id()
        request = wanting(*ids, id=key)
        definition = self.ask(worker, lambda holdings: holdings.registry.register(request))
        assert definition.request == request
        self.ask(worker, lambda holdings: holdings.consumers.create(key))
        self.ask(
            worker,
            lambda holdings: holdings.joined.put("sitea", key, Joined(position=1, revision=1)),
        )
        self.ids[key], self.attributes[key] = tuple(ids), ()
        return key

    @rule(worker=WORKERS, key=subscriptions)
    def renew(self, worker: int, key: str) -> None:
        async def renew(holdings: Holdings) -> None:
            # A lease alone is none: it may have arrived after the end of what it was for.
            await holdings.registry.head(key)
            await holdings.registry.renew(key)

        with self.expecting(key in self.ids and key not in self.unleased):
            self.ask(worker, renew)

    @rule(worker=WORKERS, key=subscriptions, ids=IDS)
    def add(self, worker: int, key: str, ids: list[str]) -> None:
        change = ModifyRequest(id=key, add_ids=tuple(ids))
        with self.expecting(key in self.ids):
            self.change(worker, change, tuple(dict.fromkeys((*self.ids.get(key, ()), *ids))))

    @rule(worker=WORKERS, key=subscriptions, ids=IDS)
    def remove(self, worker: int, key: str, ids: list[str]) -> None:
        change = ModifyRequest(id=key, remove_ids=tuple(ids))
        with self.expecting(key in self.ids):
            left = tuple(one for one in self.ids.get(key, ()) if one not in ids)
            self.change(worker, change, left)

    @rule(worker=WORKERS, key=subscriptions, names=st.lists(st.sampled_from("abc"), unique=True))
    def look_at(self, worker: int, key: str, names: list[str]) -> None:
        change = ModifyRequest(id=key, attributes=tuple(names))
        with self.expecting(key in self.ids):
            self.change(worker, change, self.ids.get(key, ()))
            if key not in self.ended:
                self.attributes[key] = tuple(names)

    def change(self, worker: int, change: ModifyRequest, outcome: tuple[str, ...]) -> None:
        try:
            found = self.ask(worker, lambda holdings: holdings.registry.modify(change.id, change))
        except UsageError:
            assert not outcome
        except ConflictError:
            assert change.id in self.ended
        else:
            assert found.request.ids == outcome
            self.ids[change.id] = outcome

    @rule(key=subscriptions, first=IDS, second=IDS)
    def add_at_once(self, key: str, first: list[str], second: list[str]) -> None:
        changes = [ModifyRequest(id=key, add_ids=tuple(ids)) for ids in (first, second)]

        async def add() -> None:
            asked = (self.asked(worker, changes[worker]) for worker in (0, 1))
            async with asyncio.TaskGroup() as tasks:
                for one in asked:
                    tasks.create_task(one)

        if key in self.ids and key not in self.ended:
            self.run(add())
            found = self.ask(0, lambda holdings: holdings.registry.get(key)).request.ids
            assert len(found) == len(set(found))
            assert set(found) == {*self.ids[key], *first, *second}
            self.ids[key] = found

    async def asked(self, worker: int, change: ModifyRequest) -> None:
        await again(lambda: self.holdings[worker].registry.modify(change.id, change))

    @rule(worker=WORKERS, key=subscriptions)
    def end(self, worker: int, key: str) -> None:
        async def end(holdings: Holdings) -> None:
            definition = await holdings.registry.get(key)
            await holdings.registry.end(key, definition.revision)

        with self.expecting(key in self.ids):
            self.ask(worker, end)
            self.ended.add(key)

    @rule(worker=WORKERS, key=subscriptions)
    def unsubscribe(self, worker: int, key: str) -> None:
        self.ask(worker, lambda holdings: holdings.remove(key))
        self.forget(key)

    @rule(key=subscriptions)
    def run_out(self, key: str) -> None:
        """As NATS does it, when what was asked before has arrived."""
        for worker in range(2):
            self.arrive(worker)
        self.ask(0, lambda holdings: holdings.registry._leases.forget(key))
        if key in self.ids:
            self.unleased.add(key)

    @rule(worker=WORKERS)
    def sweep(self, worker: int) -> None:
        for _ in range(3):
            self.arrive(worker)
            self.ask(worker, lambda _: self.janitors[worker].sweep())
        for key in list(self.unleased):
            self.forget(key)

    @rule(worker=WORKERS, left=st.integers(0, 6), how=FAULTS)
    def fail(self, worker: int, left: int, how: str) -> None:
        self.connections[worker].fail(left, how)

    @rule(worker=WORKERS)
    def arrive(self, worker: int) -> None:
        self.run(self.connections[worker].arrive())

    def teardown(self) -> None:
        for worker, connection in enumerate(self.connections):
            connection.fail(0, "")
            self.arrive(worker)
        try:
            self.sweep(0)
            self.run(self.pass_time())
            self.sweep(0)
            self.run(self.check())
        finally:  # or the next run would fail for it
            self.run(self.clear())

    async def pass_time(self) -> None:
        """As NATS does when MARKER_TTL is over: until then what is gone counts as registered."""
        registry = self.holdings[0].registry
        for key in await registry.keys():
            if not await registry.has(key):
                await registry._definitions.forget(key)

    async def clear(self) -> None:
        holdings = self.holdings[0]
        for key in await holdings.registry.keys() | await holdings.traces():
            await holdings.remove(key)
        await holdings.registry._definitions.forget(">")

    async def check(self) -> None:
        holdings = self.holdings[0]
        async with View.of(holdings.registry) as view:
            seen = view.definitions
            assert {key: seen[key].request.ids for key in seen} == self.ids
            assert {key: seen[key].request.attributes for key in seen} == self.attributes
            assert {key for key in seen if seen[key].ended} == self.ended
        assert await holdings.traces() == set(self.ids)
        assert await holdings.registry.loose_parts() == set()

    def forget(self, key: str) -> None:
        self.ids.pop(key, None)
        self.attributes.pop(key, None)
        self.ended.discard(key)
        self.unleased.discard(key)

    def expecting(self, is_there: bool) -> AbstractContextManager[object]:  # noqa: FBT001
        return nullcontext() if is_there else pytest.raises(NotFoundError)

    def ask(self, worker: int, work: Callable[[Holdings], Awaitable[T]]) -> T:
        return self.run(again(lambda: work(self.holdings[worker])))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


def test_the_registry_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # Few ids are in parts already.
    monkeypatch.setattr(definitions, "_INLINE_TEXT", 60)
    monkeypatch.setattr(definitions, "_PART_IDS", 4)
    with NatsServer(durable=False) as server, asyncio.Runner() as runner:
        Registering.runner = runner
        Registering.connections = [FrailConnection(server.url) for _ in range(2)]
        for connection in Registering.connections:
            runner.run(connection.open())
        Registering.holdings = [
            runner.run(holdings_at(connection)) for connection in Registering.connections
        ]
        Registering.janitors = [
            Janitor(holdings, Membership(connection, "test"))
            for holdings, connection in zip(
                Registering.holdings, Registering.connections, strict=True
            )
        ]
        run_state_machine_as_test(
            Registering, settings=settings(max_examples=10, stateful_step_count=20, deadline=None)
        )
        for connection in Registering.connections:
            runner.run(connection.close())
