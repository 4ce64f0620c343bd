"""PBS's accounting beside the event log, both streamed in the order of time.

What is kept in memory are the objects that are open, or were until an hour ago in the time of the
files. How far time has come is the least of the next records' times, so that a single wrong date
moves nothing. A job that was there before the files begin is judged on what lies inside.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from pydantic_core import from_json

from pbscast.events import EventName, Kind
from pbscast.ids import split_subjob
from pbscast_deploy.accounting.facts import USAGE, Deed, Story
from pbscast_deploy.accounting.files import AccountingFiles
from pbscast_deploy.accounting.findings import Asked, Finding, FindingKind, Summary
from pbscast_deploy.accounting.gaps import Gaps
from pbscast_deploy.accounting.judgement import Case, Rules, judge, judge_alteration
from pbscast_deploy.accounting.lines import (
    RESV_TYPES,
    AccountingRecord,
    BrokenLine,
    RecordType,
)
from pbscast_store.log import Log
from pbscast_store.moments import position_logged_before
from pbscast_store.records import Record

TOLERANCE: Final = timedelta(seconds=5)
"""PBS takes the time once in each round of its loop, and cuts off what is below a second."""

_LATE: Final = timedelta(hours=1)
"""How long an object that has ended waits for what belongs to it."""
_AHEAD: Final = 64
"""Records, and events, that are looked ahead to learn what time it is."""
_PAGE: Final = 1000
_OVER: Final = frozenset("FXM")
_KINDS: Final = frozenset({Kind.JOB, Kind.RESV})
_SECOND: Final = timedelta(seconds=1)
_QUARTER: Final = 900
"""Seconds by which time zones differ at least."""
_NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Ledger:
    """Both sides of an object that is open."""

    story: Story
    records: list[AccountingRecord] = field(default_factory=list)
    waits: bool = False
    """Whether it stands in the queue of those to be judged."""


class Reconciliation:
    """One comparison. `run` it once, then look at the summary."""

    def __init__(
        self, log: Log, site: str, files: AccountingFiles, tolerance: timedelta = TOLERANCE
    ) -> None:
        self.summary = Summary()
        self._log = log
        self._site = site
        self._files = files
        self._tolerance = tolerance
        self._ledgers: dict[str, _Ledger] = {}
        self._due: list[tuple[datetime, str]] = []
        self._on_asked: Callable[[Asked], object] | None = None

    async def run(
        self,
        on_bytes: Callable[[int], object] | None = None,
        on_asked: Callable[[Asked], object] | None = None,
    ) -> AsyncGenerator[Finding, None]:
        """Give the differences as they are found.

        `on_bytes` is called with the bytes of the files that were read since the last call,
        `on_asked` with each record that tells who wanted a job to end. Raises NotFoundError for a
        site that the log does not know, and what the log raises.
        """
        self._on_asked = on_asked
        events = _Events(self._log, self._site, await self._log.position(self._site))
        gaps = await Gaps.of(self._log, self._site, self._tolerance)
        rules = Rules(self._tolerance, self._files.covers, gaps.explain)
        items = _Ahead(self._files.read(on_bytes))
        await events.seek(self._begin(items.now))
        for item in items:
            if isinstance(item, BrokenLine):
                yield self._break(item)
                continue
            self._count(item)
            await self._hear(events, min(item.time, (items.now or item.time) + _LATE))
            for finding in await self._admit(item, rules):
                yield finding
            for finding in await self._settle(items.now or item.time, rules):
                yield finding
        await self._hear(events, self._end())
        for finding in await self._settle(None, rules):
            yield finding
        self.summary.periods = [(span.begin, span.end) for span in self._files.periods]

    def _begin(self, first: datetime | None) -> datetime:
        begins = [span.begin for span in self._files.spans] + ([first] if first else [])
        return min(begins, default=_NEVER) - _LATE

    def _end(self) -> datetime:
        """For what lies behind the files' end is judged by nobody, but completes what lies in."""
        return max((span.end for span in self._files.spans), default=_NEVER) + _LATE

    def _break(self, line: BrokenLine) -> Finding:
        self.summary.broken += 1
        return Finding(FindingKind.BROKEN, "", "", "a record", line.reason, line.place)

    def _count(self, record: AccountingRecord) -> None:
        self.summary.records[record.type] += 1
        end = record.fields.get("end", "")
        if record.type in (RecordType.ENDED, RecordType.RERUN) and end.isdecimal():
            self.summary.ends += 1
            self.summary.misplaced += abs(int(end) - record.time.timestamp()) >= _QUARTER

    async def _hear(self, events: _Events, moment: datetime) -> None:
        """Take in the events until a moment and a little more."""
        async for record in events.until(moment + 2 * self._tolerance + _SECOND):
            self.summary.events += 1
            self.summary.last_event = record.time
            if record.kind in _KINDS and record.event != EventName.PURGE:
                self._take(record)

    def _take(self, record: Record) -> None:
        payload = from_json(record.payload)
        ledger = self._ledgers.get(record.id)
        if ledger is None:
            ends = record.event in (EventName.FINALIZE, EventName.DELETE)
            if payload.get("state") in _OVER and not ends:
                return
            ledger = self._open(Kind(record.kind), record.id)
        ledger.story.take(record, payload)
        if ledger.story.over:
            self._await_verdict(ledger, record.time)

    def _open(self, kind: Kind, name: str) -> _Ledger:
        ledger = self._ledgers[name] = _Ledger(Story(kind, name))
        return ledger

    def _await_verdict(self, ledger: _Ledger, moment: datetime) -> None:
        if not ledger.waits:
            ledger.waits = True
            heapq.heappush(self._due, (moment + _LATE, ledger.story.id))

    async def _admit(self, record: AccountingRecord, rules: Rules) -> list[Finding]:
        if record.type is RecordType.LICENSES:
            self.summary.explained[record.type] += 1
            return []
        kind = Kind.RESV if record.type in RESV_TYPES else Kind.JOB
        ledger = self._ledgers.get(record.id) or self._open(kind, record.id)
        ledger.records.append(record)
        if ledger.story.over or not ledger.story.heard:
            self._await_verdict(ledger, record.time)
        if record.type is RecordType.ALTERED and await self._is_known(ledger.story):
            return await self._admit_alteration(record, ledger.story, rules)
        return []

    async def _admit_alteration(
        self, record: AccountingRecord, story: Story, rules: Rules
    ) -> list[Finding]:
        findings = judge_alteration(record, story, {}, rules.tolerance)
        if findings:
            before = await self._values_at(record)
            findings = judge_alteration(record, story, before, rules.tolerance)
        explained = rules.explain(record.time)
        findings = [replace(finding, explained=explained) for finding in findings]
        self.summary.add(findings)
        return findings

    async def _values_at(self, record: AccountingRecord) -> dict[str, str]:
        """Return the attributes that a job had at the time of a record."""
        values: dict[str, str] = {}
        page: list[Record] = []
        while page := await self._log.history(
            Kind.JOB,
            record.id,
            site=self._site,
            after={self._site: page[-1].position} if page else None,
        ):
            for event in page:
                if event.time > record.time + self._tolerance:
                    return values
                if event.id == record.id:
                    values |= from_json(event.payload).get("changed", {})
        return values

    async def _settle(self, now: datetime | None, rules: Rules) -> list[Finding]:
        """Judge what is due by now; all that is left if there is no now."""
        findings: list[Finding] = []
        while self._due and now is not None and self._due[0][0] <= now:
            _, name = heapq.heappop(self._due)
            ledger = self._ledgers.get(name)
            if ledger is not None and self._is_done(ledger, now):
                findings += await self._judge(self._ledgers.pop(name), rules)
        if now is None:
            while self._ledgers:
                _, ledger = self._ledgers.popitem()
                findings += await self._judge(ledger, rules)
        return findings

    def _is_done(self, ledger: _Ledger, now: datetime) -> bool:
        ledger.waits = False
        story = ledger.story
        if story.heard and not story.over:
            return False
        last = ledger.records[-1].time if ledger.records else now - _LATE
        if now - _LATE < last <= now or self._lacks_usage(story):
            self._await_verdict(ledger, now)
            return False
        return True

    def _lacks_usage(self, story: Story) -> bool:
        """Whether this is a subjob whose usage comes when its array closes."""
        parent, index = split_subjob(story.id)
        if index is None or not story.facts or story.facts[-1].deed is not Deed.END:
            return False
        array = self._ledgers.get(parent)
        has_usage = any(name.startswith(USAGE) for name in story.facts[-1].values)
        return array is not None and not array.story.over and not has_usage

    async def _judge(self, ledger: _Ledger, rules: Rules) -> list[Finding]:
        story = ledger.story
        is_known = await self._is_known(story)
        verdict = judge(Case(story, ledger.records, is_known), rules)
        self.summary.add(verdict.findings)
        self.summary.untold.update(verdict.untold)
        self.summary.judged += verdict.judged
        self.summary.left_out += verdict.left_out
        if self._on_asked is not None:
            for asked in verdict.asked:
                self._on_asked(asked)
        return verdict.findings

    async def _is_known(self, story: Story) -> bool:
        """Whether the log has an object, or the array of a subjob that never had a row."""
        if story.heard:
            return True
        for name in {story.id, split_subjob(story.id)[0]}:
            if await self._log.object(self._site, story.kind, name) is not None:
                return True
        return False


class _Ahead:
    """Items, with how far time has come while they pass."""

    def __init__(self, items: Iterator[AccountingRecord | BrokenLine]) -> None:
        self._items = items
        self._next: deque[AccountingRecord | BrokenLine] = deque()
        self.now: datetime | None = None
        self._fill()

    def __iter__(self) -> Iterator[AccountingRecord | BrokenLine]:
        while self._next:
            yield self._next.popleft()
            if len(self._next) < _AHEAD:
                self._fill()

    def _fill(self) -> None:
        # Several times what is needed: so the least is seldom looked for.
        self._next.extend(islice(self._items, 4 * _AHEAD))
        times = (item.time for item in self._next if isinstance(item, AccountingRecord))
        least = min(times, default=self.now)
        self.now = least if self.now is None or least is None else max(self.now, least)


class _Events:
    """The events of a site, by and by."""

    def __init__(self, log: Log, site: str, last: int) -> None:
        self._log = log
        self._site = site
        self._last = last
        self._after = 0
        self._begin = _NEVER
        self._page: deque[Record] = deque()

    async def seek(self, moment: datetime) -> None:
        """Go to the first event that is not before a moment; those that are are passed over."""
        self._begin = moment
        self._after = await position_logged_before(self._log, self._site, self._last, moment)

    async def until(self, moment: datetime) -> AsyncIterator[Record]:
        """Give the events up to a moment, with what stands before them."""
        while await self._has_more() and self._is_reached(moment):
            yield self._page.popleft()

    def _is_reached(self, moment: datetime) -> bool:
        first = self._page[0].time
        return first <= moment or any(event.time <= moment for event in islice(self._page, _AHEAD))

    async def _has_more(self) -> bool:
        while len(self._page) < _AHEAD and self._after < self._last:
            page = await self._log.read(self._site, self._after, _PAGE)
            self._page.extend(event for event in page if event.time >= self._begin)
            self._after = page[-1].position if page else self._last
        return bool(self._page)
