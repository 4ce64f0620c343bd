"""Logs as PBS could have made them, drawn at random: lives of jobs, arrays and nodes, and gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    Payload,
    Provenance,
    Reason,
    ResyncPayload,
)
from pbscast_store.drafts import Draft

_START = datetime(2026, 11, 22, 9, 36, 57, 263_001, tzinfo=UTC)
_NEXT = {
    "Q": "QHRE",
    "H": "QHE",
    "R": "RRSEQ",
    "S": "SRE",
    "E": "EFD",
    "B": "BF",
    "F": "FP",
    "X": "XFP",
}
_SUBSTATES = {"Q": 10, "H": 20, "R": 42, "S": 45, "E": 50, "B": 70, "F": 92, "X": 91}
_TEXTS = ["4", "", "a\tb", "C:\\dir\\\\", "two\nlines", "\\n", "ключ\x7f", '"', "x" * 1500]


@dataclass
class _Object:
    state: str
    owner: str
    final: bool = False


@dataclass
class History:
    """What one site may log."""

    site: str
    random: Random
    drafts: list[Draft] = field(default_factory=list)
    _objects: dict[tuple[Kind, str], _Object] = field(default_factory=dict)

    def grow(self, events: int) -> list[list[Draft]]:
        """At least so many more events, in batches of any size."""
        begin = len(self.drafts)
        while len(self.drafts) < begin + events:
            self._step()
        batches, rest = [], self.drafts[begin:]
        while rest:
            size = self.random.randint(1, 6)
            batches.append(rest[:size])
            rest = rest[size:]
        return batches

    def _step(self) -> None:
        number = self.random.randrange(12)
        if number == 0:
            self._break()
        elif number == 1:
            self._change_node()
        else:
            self._change_job()

    def _change_job(self) -> None:
        name = self.random.choice(["7.s", "8.s", "9[].s", "9[1].s", "10.s"])
        job = self._objects.get((Kind.JOB, name))
        if job is None:
            self._submit(name)
            return
        after = self.random.choice(_NEXT[job.state])
        if after == "P":
            self._purge(name, job)
        elif after == "D":
            self._add(Kind.JOB, name, EventName.FINALIZE, self._ending(job), ends=True)
            del self._objects[Kind.JOB, name]
        elif after == job.state:
            self._modify(name, job)
        elif after == "F" and job.state == "X":
            self._move_to(name, job, "F", {})
        elif after == "F":
            self._end(name, job)
        elif after == "R" and "[]" in name:
            self._move_to(name, job, "B", {})
        else:
            self._move_to(name, job, after, {})

    def _submit(self, name: str) -> None:
        job = self._objects[Kind.JOB, name] = _Object(self.random.choice("QH"), "alice")
        changed = {"Job_Name": "STDIN", "Variable_List": self.random.choice(_TEXTS)}
        payload = self._change(job.state, job.owner, changed, columns={"ji_svrflags": "33"})
        self._add(Kind.JOB, name, EventName.SUBMIT, payload, begins=True)

    def _modify(self, name: str, job: _Object) -> None:
        changed = {self.random.choice(["comment", "Priority"]): self.random.choice(_TEXTS)}
        removed = ("etime",) if self.random.random() < 0.3 else ()
        event = self.random.choice([EventName.MODIFY, EventName.USAGE])
        self._add(
            Kind.JOB, name, event, self._change(job.state, job.owner, changed, removed=removed)
        )

    def _move_to(self, name: str, job: _Object, state: str, changed: dict[str, str]) -> None:
        payload = self._change(state, job.owner, {"job_state": state} | changed, was=job.state)
        job.state = state
        self._add(Kind.JOB, name, EventName.STATE, payload)

    def _end(self, name: str, job: _Object) -> None:
        state = "X" if name == "9[1].s" else "F"
        self._move_to(name, job, state, {"history_timestamp": "1795340217"})
        self._add(Kind.JOB, name, EventName.FINALIZE, self._ending(job))

    def _purge(self, name: str, job: _Object) -> None:
        payload = self._change(job.state, job.owner, {})
        self._add(Kind.JOB, name, EventName.PURGE, payload, ends=True)
        del self._objects[Kind.JOB, name]

    def _change_node(self) -> None:
        node = self._objects.get((Kind.NODE, "n1"))
        if node is None:
            node = self._objects[Kind.NODE, "n1"] = _Object("free", "")
            payload = ChangePayload(state="free", changed={"ntype": "PBS"})
            self._add(Kind.NODE, "n1", EventName.CREATE, payload, begins=True)
        elif self.random.random() < 0.3:
            del self._objects[Kind.NODE, "n1"]
            payload = ChangePayload(state=node.state)
            self._add(Kind.NODE, "n1", EventName.DELETE, payload, ends=True)
        else:
            payload = ChangePayload(state="offline", old_state=node.state)
            node.state = "offline"
            self._add(Kind.NODE, "n1", EventName.MODIFY, payload)

    def _break(self) -> None:
        """A gap, in which a job changed in ways that nobody saw, or went and came again."""
        gap = GapPayload(begin=_START, cause="paused")
        self._add(Kind.SITE, self.site, EventName.GAP, gap)
        jobs = [name for kind, name in self._objects if kind is Kind.JOB and name != "9[1].s"]
        if jobs:
            name = self.random.choice(jobs)
            job = self._objects[Kind.JOB, name]
            if job.state == "F" or self.random.random() < 0.5:
                self._vanish(name, job)
            else:
                job.state = "R"
                payload = self._change("R", job.owner, {"job_state": "R"}, was="T")
                self._add(Kind.JOB, name, EventName.STATE, payload)
        resync = ResyncPayload(cause="gap")
        self._add(Kind.SITE, self.site, EventName.RESYNC, resync, provenance=Provenance.RESYNC)

    def _vanish(self, name: str, job: _Object) -> None:
        payload: Payload = self._ending(job, Reason.VANISHED)
        event = EventName.FINALIZE
        if job.state == "F":
            payload, event = self._change(job.state, job.owner, {}), EventName.PURGE
        self._add(Kind.JOB, name, event, payload, ends=True, provenance=Provenance.RESYNC)
        del self._objects[Kind.JOB, name]

    def _change(
        self,
        state: str,
        owner: str,
        changed: dict[str, str],
        *,
        was: str | None = None,
        removed: tuple[str, ...] = (),
        columns: dict[str, str] | None = None,
    ) -> ChangePayload:
        return ChangePayload(
            owner=owner,
            queue="workq",
            state=state,
            substate=_SUBSTATES[state],
            old_state=was,
            old_substate=None if was is None else _SUBSTATES.get(was, 0),
            changed=changed,
            removed=removed,
            columns=columns or {},
        )

    def _ending(self, job: _Object, reason: Reason = Reason.FINISHED) -> FinalizePayload:
        substate = _SUBSTATES[job.state]
        status = self.random.choice([None, 0, 271])
        return FinalizePayload(
            owner=job.owner, state=job.state, substate=substate, reason=reason, exit_status=status
        )

    def _add(
        self,
        kind: Kind,
        name: str,
        event: EventName,
        payload: Payload,
        *,
        begins: bool = False,
        ends: bool = False,
        provenance: Provenance = Provenance.JOURNAL,
    ) -> None:
        # The datastore's clock may go back.
        at = _START + timedelta(seconds=len(self.drafts) * 7 - self.random.choice([0, 0, 0, 60]))
        draft = Draft(kind, name, event, at, provenance, payload, begins=begins, ends=ends)
        self.drafts.append(draft)
