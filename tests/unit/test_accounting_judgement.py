"""Records and events of steps that the recorded sites did not take."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from harness.recorded import recording

from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    Payload,
    Provenance,
    Reason,
)
from pbscast.wire import encode_payload
from pbscast_deploy.accounting.files import AccountingFiles
from pbscast_deploy.accounting.findings import Asked, Finding, FindingKind
from pbscast_deploy.accounting.lines import Place
from pbscast_deploy.accounting.ordering import Ordering
from pbscast_deploy.accounting.reconciliation import Reconciliation
from pbscast_deploy.accounting.report import notes
from pbscast_store.records import Record

BEGIN = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
WHO = "user=alice group=users project=p jobname=j queue=workq ctime=100 qtime=1 etime=1"
ATTRIBUTES = {"euser": "alice", "egroup": "users", "ctime": "100"}
STANDING = {"owner": "alice", "project": "p", "name": "j", "queue": "workq"}


class Both:
    """What PBS's accounting and the log say; times are minutes after BEGIN."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.records: list[Record] = []
        # A neighbour, so that the period is more than what is compared.
        self.event("0.s", EventName.SUBMIT, 0, state="Q", changed=ATTRIBUTES)
        self.line("Q", "0.s", 0, f"{WHO}")

    def line(self, letter: str, name: str, minute: float, text: str = "") -> None:
        at = BEGIN + timedelta(minutes=minute)
        self.lines.append(f"{at:%m/%d/%Y %H:%M:%S};{letter};{name};{text}\n")

    def event(
        self,
        name: str,
        event: EventName,
        minute: float,
        *,
        kind: Kind = Kind.JOB,
        provenance: Provenance = Provenance.JOURNAL,
        **payload: Any,
    ) -> None:
        standing: dict[str, Any] = {**STANDING} if kind is Kind.JOB else {}
        model: Payload
        if event is EventName.FINALIZE:
            model = FinalizePayload(**standing, **payload)
        elif event is EventName.GAP:
            model = GapPayload(**payload)
        else:
            model = ChangePayload(**standing, **payload)
        position, at = len(self.records) + 1, BEGIN + timedelta(minutes=minute)
        text = encode_payload(model)
        self.records.append(
            Record("s", position, at, kind, name, 1, 1, event, provenance, None, text, at, None)
        )

    def submit(self, name: str, minute: float) -> None:
        self.event(name, EventName.SUBMIT, minute, state="Q", substate=10, changed=ATTRIBUTES)
        self.line("Q", name, minute, f"{WHO}")

    def state(
        self, name: str, minute: float, old: str, new: str, substate: int, **more: Any
    ) -> None:
        more = {"old_state": old, "state": new, "substate": substate, **more}
        self.event(name, EventName.STATE, minute, **more)

    def run(self, name: str, minute: float, letter: str = "S") -> None:
        self.state(name, minute, "Q", "R", 41)
        self.line(letter, name, minute, WHO)
        self.state(name, minute + 0.1, "R", "R", 42, changed={"stime": "7"})

    def end(self, name: str, minute: float) -> None:
        self.state(name, minute, "R", "E", 50, changed={"Exit_status": "0"})
        self.event(
            name, EventName.FINALIZE, minute, state="F", reason=Reason.FINISHED, exit_status=0
        )
        self.line("E", name, minute, f"{WHO} start=7 end=1 Exit_status=0")


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both()


@pytest.fixture
def found(both: Both, tmp_path: Path) -> Any:
    def compare() -> list[Finding]:
        path = tmp_path / "20260302"
        path.write_text("".join(both.lines))
        work = Reconciliation(recording(both.records), "s", AccountingFiles([path], UTC))

        async def run() -> list[Finding]:
            return [finding async for finding in work.run()]

        return asyncio.run(run())

    return compare


def _said(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.id, finding.what, finding.kind.value) for finding in findings]


def test_checkpoint_and_restart(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.run("1.s", 2)
    both.line("C", "1.s", 3)
    both.state("1.s", 3, "R", "H", 20)
    both.line("R", "1.s", 3, f"{WHO} start=7 end=1 Exit_status=-11")
    both.state("1.s", 4, "H", "Q", 10)
    both.run("1.s", 5, "T")
    both.end("1.s", 6)
    assert found() == []


def test_a_run_that_no_mom_accepted_has_no_record(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.state("1.s", 2, "Q", "R", 41)
    both.state("1.s", 2.5, "R", "Q", 10)
    both.run("1.s", 3)
    both.end("1.s", 4)
    assert found() == []


def test_a_run_that_was_accepted_has_its_record(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.state("1.s", 2, "Q", "R", 41)
    both.state("1.s", 2.1, "R", "R", 42)
    both.end("1.s", 4)
    assert _said(found()) == [("1.s", "S", "no record")]


def test_phases_and_provisioning_need_a_job_that_is_there(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.run("1.s", 2)
    for letter in ("s", "u", "c", "e", "P", "p"):
        both.line(letter, "1.s", 3, WHO)
        both.line(letter, "9.s", 3, WHO)
    both.line("L", "license", 3, "floating license hour:1 day:2 month:3 max:4")
    assert {name for name, _, _ in _said(found())} == {"9.s"}
    assert len(found()) == 6


def test_a_workstation_that_is_busy_leaves_no_record(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.run("1.s", 2)
    both.state("1.s", 3, "R", "U", 42)
    both.state("1.s", 4, "U", "R", 42)
    both.end("1.s", 5)
    assert found() == []


def test_a_queued_subjob_that_is_deleted_has_no_row(both: Both, found: Any) -> None:
    both.submit("5[].s", 1)
    both.line("D", "5[3].s", 2, "requestor=alice@s")
    both.line("D", "6[3].s", 2, "requestor=alice@s")
    assert _said(found()) == [("6[3].s", "D", "no event")]


def test_a_deletion_of_a_running_job_that_finished_well(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.run("1.s", 2)
    both.line("D", "1.s", 3, "requestor=alice@s")
    both.end("1.s", 4)
    assert _said(found()) == [("1.s", "D", "value")]


def test_a_deletion_of_a_job_that_is_gone(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.run("1.s", 2)
    both.end("1.s", 3)
    both.line("D", "1.s", 4, "requestor=alice@s")
    assert _said(found()) == [("1.s", "D", "no event")]


def test_alterations(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.event("1.s", EventName.MODIFY, 2, state="Q", changed={"Priority": "5", "Job_Name": "a b"})
    both.line("a", "1.s", 2, 'Priority=5 Job_Name="a b" comment=x depend=UNSET')
    # To the value that it has already: that is no event.
    both.line("a", "1.s", 30, "Priority=5")
    assert found() == []
    both.line("a", "1.s", 2, "Priority=6")
    both.line("a", "1.s", 31, "Priority=7")
    both.line("a", "1.s", 1, "Priority=5")
    both.line("a", "2.s", 2, "Priority=5")
    assert sorted(_said(found())) == [
        ("1.s", "a", "no event"),
        ("1.s", "a", "no event"),
        ("1.s", "a", "value"),
        ("2.s", "a", "no event"),
    ]


def test_a_standing_reservation(both: Both, found: Any) -> None:
    def resv(minute: float, old: str, new: str) -> None:
        name = EventName.MODIFY if old else EventName.CREATE
        past: dict[str, Any] = {"old_state": f"RESV_{old}"} if old else {}
        both.event("S1.s", name, minute, kind=Kind.RESV, state=f"RESV_{new}", **past)

    resv(1, "", "UNCONFIRMED")
    both.line("U", "S1.s", 1, "requestor=alice@s")
    resv(2, "UNCONFIRMED", "CONFIRMED")
    both.line("Y", "S1.s", 2, "requestor=Scheduler@s")
    for minute in (3, 5):
        resv(minute, "CONFIRMED", "RUNNING")
        both.line("B", "S1.s", minute, "owner=alice@s")
        resv(minute + 1, "RUNNING", "FINISHED")
        both.line("F", "S1.s", minute + 1)
        resv(minute + 1.01, "FINISHED", "CONFIRMED")
    resv(7, "CONFIRMED", "BEING_ALTERED")
    resv(7.5, "BEING_ALTERED", "CONFIRMED")
    both.line("Y", "S1.s", 7.5, "requestor=Scheduler@s")
    resv(8, "CONFIRMED", "BEING_DELETED")
    both.event("S1.s", EventName.DELETE, 8, kind=Kind.RESV)
    both.line("k", "S1.s", 8, "requestor=alice@s")
    assert found() == []
    both.line("B", "S1.s", 9, "owner=alice@s")
    assert _said(found()) == [("S1.s", "B", "no event")]


def test_what_a_comparison_found_after_a_gap(both: Both, found: Any) -> None:
    """The time of an event that a resync made is not the time of what happened."""
    both.submit("1.s", 1)
    both.line("S", "1.s", 10, WHO)
    both.line("E", "1.s", 20, f"{WHO} start=7 end=1 Exit_status=0")
    both.line("Q", "2.s", 21, WHO)
    begin, end = BEGIN + timedelta(minutes=9), BEGIN + timedelta(minutes=30)
    both.event("s", EventName.GAP, 30, kind=Kind.SITE, begin=begin, end=end, cause="full")
    resync: dict[str, Any] = {"provenance": Provenance.RESYNC}
    both.event("1.s", EventName.FINALIZE, 30, reason=Reason.VANISHED, **resync)
    both.event("2.s", EventName.SUBMIT, 30, state="Q", changed=ATTRIBUTES, **resync)
    findings = found()
    assert sorted(_said(findings)) == [
        ("1.s", "E", "time"),
        ("1.s", "S", "no event"),
        ("2.s", "Q", "time"),
    ]
    because = "explained by a gap from 2026-03-02 10:09:00Z to 2026-03-02 10:30:00Z (full)"
    assert {finding.explained for finding in findings} == {because}


def test_the_tolerance_is_kept(both: Both, found: Any) -> None:
    both.submit("1.s", 1)
    both.event("2.s", EventName.SUBMIT, 2, state="Q", changed=ATTRIBUTES)
    both.line("Q", "2.s", 2 + 5 / 60, WHO)
    both.event("3.s", EventName.SUBMIT, 2, state="Q", changed=ATTRIBUTES)
    both.line("Q", "3.s", 2 - 5 / 60, WHO)
    assert found() == []
    both.event("4.s", EventName.SUBMIT, 3, state="Q", changed=ATTRIBUTES)
    both.line("Q", "4.s", 3 + 6 / 60, WHO)
    assert _said(found()) == [("4.s", "Q", "time")]


def test_an_id_that_is_given_out_again(both: Both, found: Any) -> None:
    for minute in (1, 10, 300):
        both.submit("1.s", minute)
        both.run("1.s", minute + 1)
        both.end("1.s", minute + 2)
    assert found() == []
    del both.lines[-3]
    assert _said(found()) == [("1.s", "Q", "no record")]


def _compared(lines: list[str], records: list[Record], path: Path) -> Reconciliation:
    path.write_text("".join(lines))
    return Reconciliation(recording(records), "s", AccountingFiles([path], UTC))


async def test_nothing_agrees_before_the_log_began(both: Both, tmp_path: Path) -> None:
    """Also not where an id was given out again later, and for records without events."""
    both.submit("1.s", 300)
    both.lines = []
    both.line("Q", "1.s", -60, WHO)
    both.line("a", "1.s", -59, "Job_Name=x")
    both.line("a", "1.s", -59, "comment=UNSET")
    both.line("D", "1.s", -58, "requestor=bob@s")
    both.line("A", "1.s", -58, "Job deleted as result of dependency")
    both.line("u", "1.s", -57, WHO)
    both.line("L", "license", -57, "floating")
    work = _compared(both.lines, both.records, tmp_path / "some")
    findings = [finding async for finding in work.run()]
    assert all("before the log began" in str(f.explained) for f in findings)
    assert {f.what for f in findings} == set("QaDAu")
    summary = work.summary
    assert (summary.agreeing, summary.differences, summary.is_empty) == (0, 0, True)
    assert list(notes(summary))[-1].startswith("nothing could be compared: 7 records")


async def test_an_empty_file_agrees_with_nothing(both: Both, tmp_path: Path) -> None:
    work = _compared([], both.records, tmp_path / "some")
    assert [finding async for finding in work.run()] == []
    assert work.summary.is_empty


async def test_what_is_explained_is_not_said_to_agree(both: Both, tmp_path: Path) -> None:
    both.line("Q", "8.s", -600, WHO)
    work = _compared(both.lines, both.records, tmp_path / "some")
    assert len([finding async for finding in work.run()]) == 1
    said = list(notes(work.summary))
    assert said[-1].startswith("1 agree, 1 could not be compared")


async def test_the_period_and_its_edges_are_told(both: Both, tmp_path: Path) -> None:
    both.submit("1.s", 10)
    both.submit("2.s", 20)
    del both.lines[-1]
    work = _compared(both.lines, both.records, tmp_path / "some")
    assert [finding async for finding in work.run()] == []
    cover, left_out, *_ = notes(work.summary)
    assert cover == "what the files cover: 2026-03-02 10:00:00Z to 2026-03-02 10:10:00Z"
    assert left_out == (
        "steps of the log left out at its edges, for their records may stand in other files: 1"
    )
    # A date in the file's name is the whole day, whatever stands before it.
    work = _compared(both.lines, both.records, tmp_path / "sitea-20260302")
    assert [finding.id async for finding in work.run()] == ["2.s"]
    assert work.summary.left_out == 0


async def test_who_asked_for_an_end(both: Both, tmp_path: Path) -> None:
    both.submit("1.s", 1)
    both.line("D", "1.s", 2, "requestor=root@s")
    both.event("1.s", EventName.FINALIZE, 2, state="F", reason=Reason.DELETED)
    both.submit("2.s", 3)
    both.line("A", "2.s", 4, "Job deleted as result of dependency on job 1.s")
    work = _compared(both.lines, both.records, tmp_path / "20260302")
    asked: list[Asked] = []
    assert [finding async for finding in work.run(None, asked.append)] == []
    first, second = sorted(asked, key=lambda item: item.id)
    assert (first.by, first.end, first.position) == ("root@s", "deleted", 3)
    assert (second.by, second.end) == ("Job deleted as result of dependency on job 1.s", None)
    assert str(first).endswith("20260302:3: 1.s D: asked to end by root@s: deleted (position 3)")
    assert second.as_json()["kind"] == "asked"


def test_lines_come_in_the_order_of_the_files() -> None:
    def finding(place: Place | None, position: int | None = None) -> Finding:
        return Finding(FindingKind.VALUE, "1.s", "Q", "a", "b", place, position)

    places = [("b", 2), ("a", 10), ("a", 9), ("b", 1)]
    found = [finding(Place(*place)) for place in places]
    found += [finding(None, 30), finding(None, 4)]
    with closing(Ordering(["b", "a"])) as ordering:
        for item in [found[4], *found[:4], found[5]]:
            ordering.put(item)
        said = [line.partition(": 1.s")[0] for line in ordering.lines(as_json=False)]
        positions = [json.loads(line)["position"] for line in ordering.lines(as_json=True)]
    assert said == ["b:1", "b:2", "a:9", "a:10", "log", "log"]
    assert positions[-2:] == [4, 30]
