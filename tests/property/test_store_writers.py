"""Several workers, one site, and a network that cuts at any byte: what the log holds afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from harness.chain import leaf_of
from harness.drafts import DRAFTS, PlainLog
from harness.proxy import CuttingProxy, Direction, cutting_proxy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pbscast.errors import FencedError, UnavailableError
from pbscast.events import Change, ChangePayload, Event
from pbscast_store import chain
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import Record
from pbscast_store.writer import SiteWriter

T = TypeVar("T")
WORKERS = st.sampled_from(["one", "two", "three"])
BATCH = st.lists(DRAFTS, max_size=5)
_SITES = count(1)


@dataclass
class World:
    """The log, reached directly and through a proxy, and the loop that all of it runs on."""

    runner: asyncio.Runner
    log: Log
    proxied: Log
    proxy: CuttingProxy
    connection: asyncpg.Connection

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


@pytest.fixture
def world(log_dsn: str) -> Iterator[World]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner.run(_open_world(runner, stack, log_dsn))
        runner.run(stack.aclose())


async def _open_world(runner: asyncio.Runner, stack: AsyncExitStack, dsn: str) -> World:
    proxy = await stack.enter_async_context(cutting_proxy(_address(dsn)))
    parts = urlsplit(dsn)
    through = f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{proxy.port}{parts.path}"
    log = await stack.enter_async_context(Log.open(dsn))
    proxied = await stack.enter_async_context(Log.open(through))
    connection = await asyncpg.connect(dsn)
    stack.push_async_callback(connection.close)
    return World(runner, log, proxied, proxy, connection)


def _address(dsn: str) -> tuple[str, int] | str:
    parts = urlsplit(dsn)
    sockets = parse_qs(parts.query).get("host")
    if sockets:
        return f"{sockets[0]}/.s.PGSQL.{parse_qs(parts.query).get('port', ['5432'])[0]}"
    return (parts.hostname or "127.0.0.1", parts.port or 5432)


class Writers(RuleBasedStateMachine):
    """A model of one site's log beside the real one."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.site = f"site{next(_SITES)}"
        self.plain = PlainLog()
        self.holder: str | None = None
        self.held_firmly = False
        self.writers: dict[str, SiteWriter] = {}
        self.unknown: list[Draft] | None = None
        self.batches = 0
        world.run(world.log.register_site(self.site))

    @rule(worker=WORKERS, ttl=st.sampled_from([0, 600]))
    def acquire(self, worker: str, ttl: float) -> None:
        writer = self.world.run(self._acquire(worker, ttl))
        if self.held_firmly and worker != self.holder:
            assert writer is None
            return
        assert writer is not None
        assert all(writer.epoch > other.epoch for other in self.writers.values())
        self.writers[worker], self.holder, self.held_firmly = writer, worker, ttl > 0
        self._learn(writer)

    @rule(worker=WORKERS, drafts=BATCH)
    def append(self, worker: str, drafts: list[Draft]) -> None:
        writer = self.writers.get(worker)
        if writer is None:
            return
        batch = [self._signed(draft, writer) for draft in drafts]
        if worker != self.holder:
            with pytest.raises((FencedError, UnavailableError)):
                self.world.run(writer.append(batch, {"batch": -1}))
            return
        self.batches += 1
        self.world.run(writer.append(batch, {"batch": self.batches}))
        self.plain.append(batch)
        assert writer.position == len(self.plain.events)

    @precondition(lambda self: self.holder is not None)
    @rule(drafts=BATCH, after=st.integers(0, 3000), direction=st.sampled_from(["up", "down"]))
    def append_while_the_network_fails(
        self, drafts: list[Draft], after: int, direction: Direction
    ) -> None:
        assert self.holder is not None
        writer = self.writers[self.holder]
        batch = [self._signed(draft, writer) for draft in drafts]
        self.batches += 1
        self.world.proxy.cut_after(after, direction)
        try:
            self.world.run(writer.append(batch, {"batch": self.batches}))
        except UnavailableError:
            self.unknown = batch
            self.world.proxy.cut()
            self._take_over()
        else:
            self.plain.append(batch)
            self.world.proxy.cut()
            self._take_over()

    @precondition(lambda self: self.holder is not None)
    @rule()
    def release(self) -> None:
        assert self.holder is not None
        self.world.run(self.writers.pop(self.holder).release())
        self.holder, self.held_firmly = None, False

    def teardown(self) -> None:
        self._compare_log()
        self.world.run(self._compare_projection())
        self.world.run(self._compare_lives())
        for writer in self.writers.values():
            with suppress(UnavailableError):
                self.world.run(writer.release())

    def _compare_log(self) -> None:
        records = self.world.run(self.world.log.read(self.site, 0, 10_000))
        assert [record.position for record in records] == list(range(1, len(records) + 1))
        assert [(r.id, r.time, r.event, r.incarnation, r.revision) for r in records] == [
            (draft.id, draft.time, draft.event, incarnation, revision)
            for draft, incarnation, revision in self.plain.events
        ]
        epochs = [_epoch(record.decode()) for record in records]
        signed = [epoch for epoch in epochs if epoch is not None]
        assert signed == sorted(signed)
        self._follow_chain(records)

    def _follow_chain(self, records: list[Record]) -> None:
        digest = chain.GENESIS
        for record in records:
            digest = chain.link(digest, leaf_of(record))
            assert record.digest == digest
        site = self.world.run(self._site())
        assert (site["digest"], site["chained_after"]) == (digest, 0)
        logged = [record.logged for record in records]
        assert logged == sorted(logged)
        assert not logged or site["logged"] == logged[-1]

    async def _site(self) -> asyncpg.Record:
        row = await self.world.connection.fetchrow(
            "SELECT * FROM pbscast_log.site WHERE name = $1", self.site
        )
        assert row is not None
        return row

    async def _compare_lives(self) -> None:
        """By the view: those that have ended are in `life`, the others in the projection."""
        rows = await self.world.connection.fetch(
            "SELECT * FROM pbscast_log.lives WHERE site = $1 ORDER BY first_position", self.site
        )
        assert [dict(row) for row in rows] == [
            {
                "site": self.site,
                "kind": kind,
                "id": object_id,
                "incarnation": plain.incarnation,
                "first_position": plain.first_position,
                "last_position": plain.position,
                "began": plain.began,
                "ended": plain.ended,
                "gone": plain.gone_at,
                "reason": plain.reason,
                "exit_status": plain.exit_status,
                "owner": plain.standing.owner,
                "queue": plain.standing.queue,
                "project": plain.standing.project,
                "name": plain.standing.name,
                "state": plain.standing.state,
                "reached": plain.reached,
            }
            for kind, object_id, plain in self.plain.lives
        ]
        ended = await self.world.connection.fetchval(
            "SELECT count(*) FROM pbscast_log.life WHERE site = $1", self.site
        )
        assert ended == sum(plain.ended is not None for *_, plain in self.plain.lives)

    async def _compare_projection(self) -> None:
        for (kind, object_id), plain in self.plain.objects.items():
            state = await self.world.log.object(self.site, kind, object_id)
            assert state is not None
            assert (state.attributes, state.columns) == (plain.attributes, plain.columns)
            assert (state.incarnation, state.revision) == (plain.incarnation, plain.revision)
            assert (state.finalized, state.gone) == (plain.finalized, plain.gone)
            assert (state.position, state.born) == (plain.position, plain.born)
            assert (state.owner, state.state) == (plain.standing.owner, plain.standing.state)

    async def _acquire(self, worker: str, ttl: float) -> SiteWriter | None:
        """Again, while it meets connections that were cut before."""
        while True:
            with suppress(UnavailableError):
                return await self.world.proxied.acquire(self.site, worker, ttl)

    def _take_over(self) -> None:
        """The network is whole again, and the same worker goes on."""
        assert self.holder is not None
        writer = self.world.run(self._acquire(self.holder, 600))
        assert writer is not None
        self.writers[self.holder], self.held_firmly = writer, True
        self._learn(writer)

    def _learn(self, writer: SiteWriter) -> None:
        """Position and cursor tell whether an append of unknown outcome was written."""
        if self.unknown is not None and writer.cursor == {"batch": self.batches}:
            self.plain.append(self.unknown)
        self.unknown = None
        assert writer.position == len(self.plain.events)

    @staticmethod
    def _signed(draft: Draft, writer: SiteWriter) -> Draft:
        if not isinstance(draft.payload, ChangePayload):
            return draft
        changed = draft.payload.changed | {"epoch": str(writer.epoch)}
        return replace(draft, payload=draft.payload.model_copy(update={"changed": changed}))


def _epoch(event: Event) -> int | None:
    return int(event.changed["epoch"]) if isinstance(event, Change) else None


def test_writers_of_one_site(world: World) -> None:
    run_state_machine_as_test(
        lambda: Writers(world),  # type: ignore[arg-type] # any callable will do
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
