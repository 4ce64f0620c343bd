"""Whether the records of one object and its story in the log agree. Pure.

Records and facts of the same step are paired in the order of time, within the tolerance; what is
left is paired as it comes and told as another time; what is left then is missing on one side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pbscast_deploy.accounting.facts import USAGE, Deed, Fact, Story
from pbscast_deploy.accounting.findings import Asked, Finding, FindingKind
from pbscast_deploy.accounting.gaps import stamp
from pbscast_deploy.accounting.lines import AccountingRecord, RecordType

_SECOND: Final = timedelta(seconds=1)
"""Accounting cuts its seconds off."""

_DEEDS: Final = {
    RecordType.QUEUED: Deed.QUEUE,
    RecordType.STARTED: Deed.RUN,
    RecordType.RESTARTED: Deed.RUN,
    RecordType.RERUN: Deed.REQUEUE,
    RecordType.SUSPENDED: Deed.SUSPEND,
    RecordType.RESUMED: Deed.RESUME,
    RecordType.ENDED: Deed.END,
    RecordType.MOVED: Deed.LEAVE,
    RecordType.RESV_ENTERED: Deed.CREATE,
    RecordType.RESV_CONFIRMED: Deed.CONFIRM,
    RecordType.RESV_BEGUN: Deed.BEGIN,
    RecordType.RESV_REMOVED: Deed.REMOVE,
    RecordType.RESV_DELETED: Deed.REMOVE,
}
_RECORDS: Final = {
    Deed.QUEUE: "Q",
    Deed.RUN: "S",
    Deed.REQUEUE: "R",
    Deed.SUSPEND: "z",
    Deed.RESUME: "r",
    Deed.END: "E",
    Deed.LEAVE: "M",
    Deed.CREATE: "U",
    Deed.CONFIRM: "Y",
    Deed.BEGIN: "B",
    Deed.REMOVE: "K",
}
_CALLS: Final = frozenset({RecordType.DELETED, RecordType.ABORTED})
"""Records that say that a job is to end."""

COMPARED: Final = "the event was found by comparison after a gap"
FORCED: Final = "PBS saves no exit status of a job that is deleted by force"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a comparison goes by."""

    tolerance: timedelta
    covers: Callable[[datetime], bool]
    """Whether accounting of that moment is at hand."""
    explain: Callable[[datetime], str | None]
    """Why the log may lack an event of that moment."""


@dataclass(slots=True)
class Case:
    """One object: both sides."""

    story: Story
    records: list[AccountingRecord]
    is_known: bool = False
    """Whether the log has the object (or a subjob's array), outside of the story too."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one object."""

    findings: list[Finding]
    untold: list[str]
    """Fields whose values the log does not know."""
    asked: list[Asked]
    """Who wanted the job to end."""
    judged: int
    """Steps that were looked for in accounting."""
    left_out: int
    """Steps that were not, for the files do not cover them and what is about them."""


def judge(case: Case, rules: Rules) -> Verdict:
    """Compare both sides of an object."""
    return _Judge(case, rules).judge()


class _Judge:
    def __init__(self, case: Case, rules: Rules) -> None:
        self._case = case
        self._rules = rules
        self._findings: list[Finding] = []
        self._untold: list[str] = []
        self._asked: list[Asked] = []
        self._judged = self._left_out = 0

    def judge(self) -> Verdict:
        records: defaultdict[Deed, list[AccountingRecord]] = defaultdict(list)
        facts: defaultdict[Deed, list[Fact]] = defaultdict(list)
        for record in self._case.records:
            if deed := _DEEDS.get(record.type):
                records[deed].append(record)
        for fact in self._case.story.facts:
            facts[fact.deed].append(fact)
        calls = [record for record in self._case.records if record.type in _CALLS]
        for deed in Deed:
            if deed in records or deed in facts:
                self._judge_deed(deed, records[deed], facts[deed], calls)
        self._judge_calls(calls, sorted(facts[Deed.END] + facts[Deed.LEAVE], key=_position))
        for record in self._case.records:
            if record.type not in _DEEDS and record.type not in _CALLS:
                self._judge_presence(record)
        return Verdict(self._findings, self._untold, self._asked, self._judged, self._left_out)

    def _judge_deed(
        self,
        deed: Deed,
        records: Sequence[AccountingRecord],
        facts: Sequence[Fact],
        calls: Sequence[AccountingRecord],
    ) -> None:
        pairs, lone_records, lone_facts = align(records, facts, self._rules.tolerance)
        self._judged += len(pairs)
        for record, fact in pairs:
            self._compare(record, fact)
        for record, fact in zip(lone_records, lone_facts, strict=False):
            self._differ_in_time(record, fact)
            self._compare(record, fact)
        paired = min(len(lone_records), len(lone_facts))
        for record in lone_records[paired:]:
            self._miss_event(record, deed)
        for fact in lone_facts[paired:]:
            if fact.due and not self._is_called(fact, calls):
                self._miss_record(fact)

    def _compare(self, record: AccountingRecord, fact: Fact) -> None:
        for name, said in record.fields.items():
            is_usage = name.startswith(USAGE)
            if not is_usage and name not in fact.fields:
                continue
            known = fact.values.get(name)
            if known is None:
                self._lack(record, fact, name, said)
            elif known != said:
                self._differ(record, fact, name, said, known)
        for name, known in fact.values.items():
            if name.startswith(USAGE) and name not in record.fields:
                self._differ(record, fact, name, "no value", known)

    def _lack(self, record: AccountingRecord, fact: Fact, name: str, said: str) -> None:
        if name != "Exit_status" or fact.deed is not Deed.END or fact.inferred:
            self._untold.append(USAGE.rstrip(".") if name.startswith(USAGE) else name)
            return
        asked = any(call.type in _CALLS for call in self._case.records)
        explained = FORCED if asked and fact.reason == "deleted" else None
        self._differ(record, fact, name, said, "none", explained)

    def _differ(
        self,
        record: AccountingRecord,
        fact: Fact,
        name: str,
        said: str,
        known: str,
        explained: str | None = None,
    ) -> None:
        finding = Finding(
            FindingKind.VALUE,
            record.id,
            record.type,
            f"{name} {said}",
            known,
            record.place,
            fact.position,
            explained,
        )
        self._findings.append(finding)

    def _differ_in_time(self, record: AccountingRecord, fact: Fact) -> None:
        explained = None
        if fact.inferred:
            explained = self._rules.explain(record.time) or COMPARED
        finding = Finding(
            FindingKind.TIME,
            record.id,
            record.type,
            f"{fact.deed} at {stamp(record.time)}",
            stamp(fact.time),
            record.place,
            fact.position,
            explained,
        )
        self._findings.append(finding)

    def _miss_event(self, record: AccountingRecord, expected: str, found: str = "none") -> None:
        if not self._case.story.heard:
            found = f"no event of {record.id}"
        finding = Finding(
            FindingKind.NO_EVENT,
            record.id,
            record.type,
            f"{expected} at {stamp(record.time)}",
            found,
            record.place,
            explained=self._rules.explain(record.time),
        )
        self._findings.append(finding)

    def _miss_record(self, fact: Fact) -> None:
        tolerance = self._rules.tolerance
        if not all(map(self._rules.covers, (fact.time - tolerance, fact.until + tolerance))):
            self._left_out += 1
            return
        self._judged += 1
        letter = _RECORDS[fact.deed]
        if fact.deed is Deed.END and not fact.ran:
            letter = "D"
        finding = Finding(
            FindingKind.NO_RECORD,
            self._case.story.id,
            letter,
            f"a record ({fact.deed}) at {stamp(fact.time)}",
            "none",
            position=fact.position,
        )
        self._findings.append(finding)

    def _is_called(self, fact: Fact, calls: Iterable[AccountingRecord]) -> bool:
        """Whether the end of a job that was on no node was asked for just then."""
        if fact.deed is not Deed.END or fact.ran:
            return False
        return any(_fits(call, fact, self._rules.tolerance) for call in calls)

    def _judge_calls(self, calls: Iterable[AccountingRecord], ends: Sequence[Fact]) -> None:
        story, tolerance = self._case.story, self._rules.tolerance
        for call in calls:
            end = next((e for e in ends if e.time >= call.time - tolerance), None)
            self._asked.append(_asked(call, end))
            if self._is_dark(call):
                self._miss_event(call, "a job that is there")
            elif end is not None:
                self._judge_call(call, end)
            elif story.over:
                gone = stamp(ends[-1].time) if ends else "earlier"
                self._miss_event(call, "a job that is still there", f"one that ended {gone}")
            else:
                self._judge_presence(call)

    def _judge_call(self, call: AccountingRecord, end: Fact) -> None:
        if not end.ran and end.deed is Deed.END and not _fits(call, end, self._rules.tolerance):
            self._differ_in_time(call, end)
        elif (
            call.type is RecordType.DELETED
            and end.ran
            and end.state in ("F", "X")
            and end.reason in ("finished", "failed")
        ):
            self._differ(call, end, "reason", "terminated", end.reason)

    def _judge_presence(self, record: AccountingRecord) -> None:
        """A record that leaves no event of its own: its object must be there."""
        if record.type is RecordType.LICENSES:
            return
        # An alteration has been compared already, unless nothing of it can be seen.
        compared = record.type is RecordType.ALTERED and altered_values(record)
        if not self._case.is_known or (self._is_dark(record) and not compared):
            self._miss_event(record, "a job that is there")

    def _is_dark(self, record: AccountingRecord) -> bool:
        """Whether the log could not know the object at that time, and did not."""
        since = self._case.story.since
        heard = since is not None and since <= record.time + self._rules.tolerance
        return not heard and self._rules.explain(record.time) is not None


def _asked(call: AccountingRecord, end: Fact | None) -> Asked:
    by = call.fields.get("requestor") or call.prose or "nobody named"
    became = (end.reason, end.position) if end else (None, None)
    return Asked(call.id, call.type, by, call.time, call.place, *became)


def align(
    records: Iterable[AccountingRecord], facts: Iterable[Fact], tolerance: timedelta
) -> tuple[list[tuple[AccountingRecord, Fact]], list[AccountingRecord], list[Fact]]:
    """Pair records and facts of one step in the order of time; the rest of both comes after."""
    pairs: list[tuple[AccountingRecord, Fact]] = []
    lone_records: list[AccountingRecord] = []
    left = sorted(facts, key=_position)
    for record in sorted(records, key=lambda record: record.time):
        fitting = [fact for fact in left if _fits(record, fact, tolerance)]
        if fitting:
            fact = min(fitting, key=lambda fact: _distance(record, fact))
            left.remove(fact)
            pairs.append((record, fact))
        else:
            lone_records.append(record)
    return pairs, lone_records, left


def _distance(record: AccountingRecord, fact: Fact) -> tuple[bool, timedelta]:
    # A job may pass several queues in a second: the queue tells which time is meant.
    elsewhere = record.fields.get("queue") != fact.values.get("queue")
    return (elsewhere, max(fact.time - record.time, record.time - fact.until))


def _fits(record: AccountingRecord, fact: Fact, tolerance: timedelta) -> bool:
    return fact.time - tolerance - _SECOND < record.time <= fact.until + tolerance


def _position(fact: Fact) -> int:
    return fact.position


def judge_alteration(
    record: AccountingRecord, story: Story, before: Mapping[str, str], tolerance: timedelta
) -> list[Finding]:
    """Compare an `a` record with the changes of its time.

    `before` holds values that its attributes had already: what is altered to the value that it has
    leaves no event.
    """
    near: defaultdict[str, list[str]] = defaultdict(list)
    for item in story.recent:
        if abs(item.time - record.time) <= tolerance + _SECOND:
            near[item.name].append(item.value)
    return [
        Finding(
            FindingKind.VALUE if near.get(name) else FindingKind.NO_EVENT,
            record.id,
            record.type,
            f"{name} altered to {said} at {stamp(record.time)}",
            ", ".join(near[name]) or "none",
            record.place,
        )
        for name, said in altered_values(record).items()
        if said not in near[name] and before.get(name) != said
    ]


def altered_values(record: AccountingRecord) -> dict[str, str]:
    """Return attribute → value of an `a` record, as far as the datastore shows them.

    It never shows that a value is unset, nor the comment of a job that is there.
    """
    return {
        name: value
        for name, value in record.fields.items()
        if value != "UNSET" and name != "comment" and not name.startswith(USAGE)
    }
