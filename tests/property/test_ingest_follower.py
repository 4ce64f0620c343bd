"""The follower against a model: rows, markers and TRUNCATEs in any order, in pages of any size.

A datastore in memory saves jobs and journals them as capture does, when it is on; the worker reads,
dies between or within appends, and compares. The model is the datastore's own rows and table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from harness.journal import START, journal_row
from harness.memory_log import MemoryLog, MemoryWriter
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pbscast.errors import UnavailableError
from pbscast.events import EventName, GapPayload, Kind, Provenance
from pbscast_ingest import resync
from pbscast_ingest.chronicle import Chronicle
from pbscast_ingest.comparison import TableRow
from pbscast_ingest.condition import QUIET_SECONDS, TRUNCATED, Condition
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.follower import Follower
from pbscast_ingest.reader import Health, Page
from pbscast_ingest.rows import JournalRow
from pbscast_ingest.translation import translate
from pbscast_ingest.watchdog import Watchdog
from pbscast_store.drafts import Draft

FEW = 2
"""Rows and objects that a resync takes at once."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "TABLE_PAGE", FEW)
    monkeypatch.setattr(resync, "NAMES", FEW)


JOBS = ("1.s", "2.s", "3.s", "4[1].s")
SUBJOB = JOBS[3]
STATES = ("Q/10", "R/42", "H/20", "F/92")


@dataclass
class Job:
    """A row of the job table."""

    created: str
    attributes: dict[str, str]


@dataclass
class Datastore:
    """Tables, journal and count of losses; capture may be on, paused, failing or off unseen."""

    jobs: dict[str, Job] = field(default_factory=dict)
    journal: list[JournalRow] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0
    is_paused: bool = False
    is_off: bool = False
    """Whether triggers are off: no mark and no count tell of it, only a look at them."""
    turns: int = 0
    unseen: list[datetime] = field(default_factory=list)
    """When something changed while they were off."""
    made: int = 0

    @property
    def now(self) -> Any:
        return START + timedelta(seconds=self.seconds)

    def write(self, op: str, kind: str = "", key: str = "", **values: Any) -> None:
        self.seconds += 0.01
        self.journal.append(
            journal_row(len(self.journal) + 1, op, kind, key, at=self.now, **values)
        )

    def save(self, key: str, state: str, *, is_lost: bool) -> None:
        letter, substate = state.split("/")
        new = {"job_state": letter, "substate": substate, "Job_Owner": "alice@h"}
        if letter == "F":
            new |= {"history_timestamp": "1", "Exit_status": "0"}
        old = self.jobs.get(key)
        if old is None:
            self.made += 1
            self.jobs[key] = Job(f"2026-11-22 09:36:57.{self.made:06}", new)
        else:
            self.jobs[key] = Job(old.created, new)
        if self._passes_unseen() or is_lost:
            self.lost += not (self.is_paused or self.is_off)
        elif old is None:
            self.write("I", "job", key, created=self.jobs[key].created, changed=_stored(new))
        elif old.attributes != new:
            self._update(key, old, new)

    def _update(self, key: str, old: Job, new: dict[str, str]) -> None:
        changed = {k: v for k, v in new.items() if old.attributes.get(k) != v}
        before = {k: old.attributes[k] for k in changed if k in old.attributes}
        removed = [k for k in old.attributes if k not in new]
        self.write(
            "U",
            "job",
            key,
            created=old.created,
            changed=_stored(changed),
            before=_stored(before),
            removed=removed,
            context=_stored(new) | {"ji_svrflags": "1"},
        )

    def delete(self, key: str, *, is_lost: bool) -> None:
        old = self.jobs.pop(key)
        if self._passes_unseen() or is_lost:
            self.lost += not (self.is_paused or self.is_off)
            return
        context = _stored(old.attributes) | {"ji_svrflags": "1", "ji_destin": ""}
        self.write("D", "job", key, created=old.created, context=context)

    def _passes_unseen(self) -> bool:
        if self.is_off:
            self.seconds += 0.01
            self.unseen.append(self.now)
        return self.is_off or self.is_paused

    # What a resync asks of a journal:

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Datastore]:
        yield self

    async def page(self, cursor: Cursor, limit: int = 10_000) -> Page:
        unread = self.journal[cursor.top :]
        return Page(
            rows=unread[:limit],
            xmin=1,
            bound=None,
            now=self.now,
            lost=self.lost,
            more=len(unread) > limit,
            is_cut=False,
        )

    async def rows(self, kind: Kind, first: bytes) -> AsyncGenerator[TableRow, None]:
        jobs = sorted(self.jobs.items()) if kind is Kind.JOB else []
        beyond = [(key, job) for key, job in jobs if key.encode() >= first]
        for key, job in beyond[:FEW]:
            yield TableRow(Kind.JOB, key, job.created, job.attributes, {}, (), key=key.encode())

    async def present(self, kind: Kind, ids: Sequence[str]) -> set[str]:
        return self.jobs.keys() & set(ids) if kind is Kind.JOB else set()


def _stored(attributes: dict[str, str]) -> dict[str, str | None]:
    return {name: f"11.{value}" for name, value in attributes.items()}


class Worker:
    """What lives until it is killed."""

    def __init__(self, log: MemoryLog, store: Datastore, fuse: int | None, *, kept: bool) -> None:
        self.log, self.store = log, store
        watchdog = Watchdog()
        writer = cast("Any", MemoryWriter(log, fuse, kept))
        self.chronicle = Chronicle(writer)
        self.condition = Condition(log.site, watchdog, lambda: store.seconds)
        self.follower = Follower(cast("Any", log), self.chronicle, self.condition, watchdog)

    async def read(self, limit: int) -> None:
        """One page, and what a look at that time tells."""
        page = await self.store.page(self.chronicle.cursor, limit)
        await self.follower.take(page)
        await self.chronicle.flush()
        health = Health(
            now=self.store.now,
            defects=["triggers"] if self.store.is_off else [],
            paused=self.store.is_paused,
            doorbell=True,
            lost=self.store.lost,
            bytes=0,
            lag_rows=0,
            lag_seconds=0.0,
            is_full=False,
            shape=f"shape {self.store.turns}",
            replaced="",
        )
        word = self.condition.look(self.chronicle.cursor, health, is_read=not page.more)
        await self.chronicle.say(word)
        await self.chronicle.flush()

    async def compare(self) -> None:
        if self.chronicle.cursor.due is not None:
            log, store = cast("Any", self.log), cast("Any", self.store)
            await resync.Resync(log, self.chronicle, self.follower, asyncio.Event()).run(store)
            await self.chronicle.flush()


class Site(RuleBasedStateMachine):
    """Whatever happens, each row is told once and in order, and in the end the log is the table."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.store = MemoryLog("s"), Datastore()
        first = Cursor(journal="j", due={"cause": "first contact"})
        self.log.keep([], first.dump())
        self.worker = Worker(self.log, self.store, None, kept=False)
        asyncio.run(self.worker.read(1))
        self.statements = 1_000_000
        self.marks: list[int] = []
        """Numbers of the rows that tell of a gap."""

    @rule(key=st.sampled_from(JOBS), state=st.sampled_from(STATES), is_lost=st.booleans())
    def save(self, key: str, state: str, is_lost: bool) -> None:  # noqa: FBT001
        self.store.save(key, state, is_lost=is_lost and len(self.store.journal) % 3 == 0)

    @precondition(lambda self: self.store.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.store.jobs)))
        self.store.delete(key, is_lost=data.draw(st.booleans()))

    @rule()
    def turn_the_switch(self) -> None:
        self.store.is_paused = not self.store.is_paused
        self.store.write("G", key="pause", context={"phase": "begin"})
        if not self.store.is_paused:
            self.store.journal.pop()
            self.store.write("G", key="pause", context={"phase": "end"})
            self.marks.append(len(self.store.journal))

    @rule()
    def turn_triggers(self) -> None:
        """Behind capture's back."""
        self.store.is_off = not self.store.is_off
        self.store.turns += 1

    @rule()
    def fail(self) -> None:
        """A save that met an error: its marker, and no count."""
        if not self.store.is_paused and not self.store.is_off:
            if self.store.jobs:
                del self.store.jobs[min(self.store.jobs)]
            self.store.write("G", key="error", context={"phase": "point"})
            self.marks.append(len(self.store.journal))

    @rule()
    def truncate(self) -> None:
        self.store.jobs.clear()
        if not self.store.is_paused and not self.store.is_off:
            for kind in ("job", "queue"):
                self.store.write("T", kind)
                row = self.store.journal[-1]
                self.store.journal[-1] = row._replace(xid=self.statements)
                self.marks.append(len(self.store.journal))
            self.statements += 1

    @rule(limit=st.integers(1, 6))
    def read(self, limit: int) -> None:
        asyncio.run(self._try(self.worker.read(limit)))

    @rule()
    def pass_time(self) -> None:
        self.store.seconds += QUIET_SECONDS

    @rule()
    def compare(self) -> None:
        asyncio.run(self._try(self.worker.compare()))

    @rule(fuse=st.none() | st.integers(0, 5), kept=st.booleans())
    def kill(self, fuse: int | None, kept: bool) -> None:  # noqa: FBT001
        """Another takes over from what is logged; it may die within an append."""
        self.worker = Worker(self.log, self.store, fuse, kept=kept)

    async def _try(self, work: Any) -> None:
        try:
            await work
        except UnavailableError:
            await self.worker.chronicle.abandon()
            self.worker = Worker(self.log, self.store, None, kept=False)

    def teardown(self) -> None:
        if self.store.is_paused:
            self.turn_the_switch()
        if self.store.is_off:
            self.turn_triggers()
        self.kill(None, kept=False)
        asyncio.run(self._settle())
        self._check_rows()
        self._check_gaps()
        self._check_ends()
        present = {key: (job.created, job.attributes) for key, job in self.store.jobs.items()}
        states = {s.id: (s.born, s.attributes) for s in self.log.states.values() if not s.gone}
        assert states == present

    async def _settle(self) -> None:
        for _ in range(2):
            await self.worker.read(10_000)
            await self.worker.compare()
            self.store.seconds += QUIET_SECONDS + 1
        assert self.worker.chronicle.cursor.due is None
        assert self.worker.chronicle.cursor.blind == ""

    def _check_rows(self) -> None:
        """What the log tells as journaled is what the rows say, each once, in their order."""
        want = [
            (draft.id, draft.event, draft.payload, draft.time)
            for row in self.store.journal
            if row.op in "IUD" and row.key != SUBJOB
            for draft in translate(row, "s")
        ]
        got = [
            (draft.id, draft.event, draft.payload, draft.time)
            for draft in self.log.told
            if draft.kind is Kind.JOB and draft.provenance is Provenance.JOURNAL
            if draft.id != SUBJOB  # which may go on after its DELETE
        ]
        assert got == want

    def _check_ends(self) -> None:
        """Of each life whose row went the end is told; that it is told once is the log's part."""
        jobs = [draft for draft in self.log.told if draft.kind is Kind.JOB]
        last = {(d.id, d.born) for d in jobs if d.event is EventName.FINALIZE}
        assert {(d.id, d.born) for d in jobs if d.ends} <= last

    def _check_gaps(self) -> None:
        """Each mark lies in a gap, or follows a TRUNCATE's; the tables were compared after it."""
        told = [d for d in self.log.told if d.event in (EventName.GAP, EventName.RESYNC)]
        marked = [self.store.journal[mark - 1].at for mark in self.marks]
        for at in marked + self.store.unseen:
            assert any(
                _covers(draft.payload, _resynced(told[place:]), at)
                for place, draft in enumerate(told)
                if draft.event is EventName.GAP
            ), at


def _resynced(told: list[Draft]) -> datetime:
    """When the tables were compared next."""
    return next(draft.time for draft in told if draft.event is EventName.RESYNC)


def _covers(gap: object, until: datetime, at: datetime) -> bool:
    assert isinstance(gap, GapPayload)
    end = until if gap.cause == TRUNCATED else gap.end
    return gap.begin is not None and end is not None and gap.begin <= at <= end


TestSite = Site.TestCase
TestSite.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_a_subjob_made_anew_unseen_while_its_delete_waits() -> None:
    site = Site()
    site.save(key=SUBJOB, state="Q/10", is_lost=False)
    site.store.delete(SUBJOB, is_lost=False)
    site.turn_the_switch()
    site.save(key=SUBJOB, state="Q/10", is_lost=False)
    site.teardown()


def test_a_job_of_which_nothing_but_its_last_row_was_seen() -> None:
    site = Site()
    site.save(key=JOBS[0], state="F/92", is_lost=True)
    site.store.delete(JOBS[0], is_lost=False)
    site.teardown()
