"""What the event log tells of an object that PBS's accounting tells as well. Pure.

A *fact* is a step that accounting has a record for: that a job came into a queue, began to run,
was requeued, suspended, resumed, moved away, ended; that a reservation came, was confirmed, began,
went. An object's *story* folds its events into facts, in the order of the log and across its
incarnations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pbscast.events import EventName, Kind, Provenance
from pbscast.ids import split_subjob

if TYPE_CHECKING:
    from pbscast_store.records import Record

USAGE: Final = "resources_used."

IDENTITY: Final = {
    "user": "euser",
    "group": "egroup",
    "account": "Account_Name",
    "project": "project",
    "jobname": "Job_Name",
    "queue": "queue",
    "ctime": "ctime",
}
"""Fields that every record of a job may have, and the attributes they come from."""

RUN: Final = {
    **IDENTITY,
    "start": "stime",
    "exec_host": "exec_host",
    "exec_vnode": "exec_vnode",
}
LEAVING: Final = {"destination": "destination"}
OUTCOME: Final = {
    **IDENTITY,
    "start": "stime",
    "Exit_status": "Exit_status",
    "run_count": "run_count",
}
RESERVATION: Final = {
    "owner": "Reserve_Owner",
    "name": "Reserve_Name",
    "queue": "queue",
    "ctime": "ctime",
    "start": "reserve_start",
    "end": "reserve_end",
}
_KEPT: Final = frozenset(
    {*RUN.values(), *OUTCOME.values(), *RESERVATION.values(), "array_indices_remaining"}
)

_ON_NODES: Final = frozenset("RSUE")
_RUNNING: Final = frozenset("RSU")
_QUEUED: Final = frozenset("QHWT")
_OVER: Final = frozenset("FXM")
_ACCEPTED: Final = frozenset({42, 43, 45, 50, 51, 52, 53, 60, 61, 62, 63})
"""Substates of a run that a MoM accepted: only such a run has an S record."""

_RECENT: Final = 32
"""Changed values that are kept of an object, for `a` records to be looked up in."""
_SHORT: Final = 4096


class Deed(StrEnum):
    """What was done, in the words of a report."""

    QUEUE = "queued"
    RUN = "started"
    REQUEUE = "requeued"
    SUSPEND = "suspended"
    RESUME = "resumed"
    LEAVE = "moved to another server"
    END = "ended"
    CREATE = "reservation made"
    CONFIRM = "reservation confirmed"
    BEGIN = "reservation began"
    REMOVE = "reservation removed"


@dataclass(slots=True)
class Fact:
    """One step of an object."""

    deed: Deed
    time: datetime
    """By the clock of the datastore; of a resync, when it was found out."""
    until: datetime
    """The step may have been taken in accounting's eyes as late as this."""
    position: int
    fields: frozenset[str]
    """The fields of a record that the log should know."""
    values: dict[str, str]
    """Field → value, where the log does know it; ``resources_used`` too."""
    due: bool = True
    """Whether PBS writes a record of it without fail."""
    inferred: bool = False
    """Found by comparison after a gap: its time is not the time of the step."""
    ran: bool = False
    """Of an end: whether the job was on nodes then."""
    reason: str = ""
    state: str = ""


class Altered(NamedTuple):
    """A value that an attribute had."""

    time: datetime
    name: str
    value: str


@dataclass(slots=True)
class Story:
    """An object's events so far."""

    kind: Kind
    id: str
    facts: list[Fact] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    """The attributes that records are compared with, as they stand."""
    recent: deque[Altered] = field(default_factory=lambda: deque(maxlen=_RECENT))
    since: datetime | None = None
    """The time of the first event; None if there was none."""
    over: bool = False
    """Whether the last incarnation has ended."""
    run: Fact | None = None
    """The run that goes on, if its beginning was seen."""

    @property
    def heard(self) -> bool:
        """Whether there was any event."""
        return self.since is not None

    @property
    def is_subjob(self) -> bool:
        """Whether this is one job of an array."""
        return split_subjob(self.id)[1] is not None

    def take(self, record: Record, payload: Mapping[str, Any]) -> None:
        """Fold in the next event of the object."""
        fresh = record.event in (EventName.SUBMIT, EventName.CREATE)
        if fresh:
            self.known, self.run, self.over = {}, None, False
        self.since = self.since or record.time
        self._learn(record, payload)
        if self.kind is Kind.JOB:
            self._take_job(record, payload)
        else:
            self._take_reservation(record, payload)

    def _learn(self, record: Record, payload: Mapping[str, Any]) -> None:
        for name in payload.get("removed", ()):
            self.known.pop(name, None)
        for name, value in payload.get("changed", {}).items():
            if name in _KEPT or name.startswith(USAGE):
                self.known[name] = value
            if record.event not in (EventName.SUBMIT, EventName.CREATE) and len(value) <= _SHORT:
                self.recent.append(Altered(record.time, name, value))
        for field_name, name in (("project", "project"), ("name", "Job_Name")):
            if field_name in payload and self.kind is Kind.JOB:
                self.known[name] = payload[field_name]
        if "owner" in payload:
            self.known.setdefault("euser", payload["owner"])
        if "@" not in payload.get("queue", "@"):
            self.known["queue"] = payload["queue"]

    def _take_job(self, record: Record, payload: Mapping[str, Any]) -> None:
        event, state = record.event, payload.get("state")
        if event == EventName.FINALIZE:
            self._end(record, payload)
        elif event == EventName.SUBMIT:
            due = not self.is_subjob and not _is_inferred(record)
            self._add(Deed.QUEUE, record, IDENTITY, due=due)
            if state in _RUNNING or state == "B":
                self._run(record, state, payload.get("substate"))
        elif event != EventName.PURGE and not self.over:
            self._move(record, payload)
        elif self.over:
            self._complete_end()

    def _move(self, record: Record, payload: Mapping[str, Any]) -> None:
        new, substate = payload.get("state", ""), payload.get("substate")
        old = payload.get("old_state", new)
        queue = payload.get("changed", {}).get("queue", "@")
        if "@" not in queue and new not in _OVER:
            self._add(Deed.QUEUE, record, IDENTITY)
        if self.run is not None:
            self._go_on(record, new, substate)
        if (old not in _ON_NODES and new in _RUNNING) or (new == "B" and old in _QUEUED):
            self._run(record, new, substate)
        elif old in _ON_NODES and new in _QUEUED:
            fact = self._add(Deed.REQUEUE, record, OUTCOME, due=self._was_accepted())
            self._leave_nodes(fact)
        elif old != new and new == "S":
            self._add(Deed.SUSPEND, record, {})
        elif old == "S" and new == "R":
            self._add(Deed.RESUME, record, {})

    def _run(self, record: Record, state: str, substate: int | None) -> None:
        self.run = self._add(Deed.RUN, record, RUN, due=False)
        self.run.values.pop("start", None)
        self._go_on(record, state, substate)

    def _go_on(self, record: Record, state: str, substate: int | None) -> None:
        """See whether the run was accepted: only then does what is known of it hold."""
        run = self.run
        if run is None or run.due:
            return
        run.until = record.time
        if substate in _ACCEPTED or state == "B":
            run.due = not run.inferred

    def _was_accepted(self) -> bool:
        return self.run is None or self.run.due

    def _leave_nodes(self, fact: Fact | None = None) -> None:
        """The run is over: what arrived late in it is known now."""
        if self.run is not None and self._was_accepted() and "stime" in self.known:
            self.run.values["start"] = self.known["stime"]
        elif fact is not None:
            fact.values.pop("start", None)
        self.run = None

    def _end(self, record: Record, payload: Mapping[str, Any]) -> None:
        reason = payload.get("reason", "")
        if reason == "moved":
            fact = self._add(Deed.LEAVE, record, LEAVING)
        else:
            fact = self._add(Deed.END, record, OUTCOME)
        fact.reason, fact.state = reason, payload.get("state", "")
        fact.ran = self._was_on_nodes(payload)
        fact.values.pop("Exit_status", None)
        if (status := payload.get("exit_status")) is not None:
            fact.values["Exit_status"] = str(status)
        if (destination := payload.get("destination")) is not None:
            fact.values["destination"] = destination
        fact.values |= {USAGE + name: value for name, value in payload.get("usage", {}).items()}
        self._leave_nodes(fact)
        self.over = True

    def _was_on_nodes(self, payload: Mapping[str, Any]) -> bool:
        if self.run is not None:
            return self.run.due or self.run.inferred
        seen_to_come = any(fact.deed is Deed.QUEUE for fact in self.facts)
        return not seen_to_come and payload.get("exit_status") is not None

    def _complete_end(self) -> None:
        """A subjob's usage is saved only when its array closes."""
        end = self.facts[-1] if self.facts else None
        if end is not None and end.deed is Deed.END:
            end.values |= {k: v for k, v in self.known.items() if k.startswith(USAGE)}

    def _take_reservation(self, record: Record, payload: Mapping[str, Any]) -> None:
        old, new = payload.get("old_state"), payload.get("state")
        if record.event == EventName.CREATE:
            self._add(Deed.CREATE, record, {})
        elif record.event == EventName.DELETE:
            if not self.over:
                self._add(Deed.REMOVE, record, {})
            self.over = True
        elif old == new or old is None:
            return
        elif new == "RESV_CONFIRMED" or old == "RESV_BEING_ALTERED":
            # Only the scheduler's word has a record, not a node that comes back.
            self._add(Deed.CONFIRM, record, {}, due=old == "RESV_UNCONFIRMED")
        elif new == "RESV_RUNNING":
            self._add(Deed.BEGIN, record, RESERVATION)
        elif new == "RESV_BEING_DELETED" and not self.over:
            self._add(Deed.REMOVE, record, {})
            self.over = True

    def _add(
        self, deed: Deed, record: Record, fields: Mapping[str, str], *, due: bool = True
    ) -> Fact:
        values = {key: self.known[name] for key, name in fields.items() if name in self.known}
        inferred = _is_inferred(record)
        fact = Fact(
            deed=deed,
            time=record.time,
            until=record.time,
            position=record.position,
            fields=frozenset(fields),
            values=values,
            due=due and not inferred,
            inferred=inferred,
        )
        self.facts.append(fact)
        return fact


def _is_inferred(record: Record) -> bool:
    return record.provenance == Provenance.RESYNC
