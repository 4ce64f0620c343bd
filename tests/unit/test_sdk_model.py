"""Identifiers, subjects, events and their wire form, by example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from harness.stream import SiteLog

from pbscast import errors, wire
from pbscast.errors import DecodeError, InvalidJobId, PbscastError
from pbscast.events import (
    AnyEvent,
    Change,
    EventName,
    Finalize,
    FinalizePayload,
    Gap,
    GapPayload,
    Kind,
    Liveness,
    LivenessPayload,
    Payload,
    Reason,
    Resync,
    ResyncPayload,
    escape,
    unescape,
)
from pbscast.ids import JobId, split_subjob
from pbscast.render import render
from pbscast.states import JobState, visible_state
from pbscast.subjects import (
    covers,
    event_subject,
    is_covered,
    job_filter,
    mark_subject,
    object_filter,
)

TIME = datetime(2026, 11, 22, 9, 36, 57, 263000, tzinfo=UTC)


def encoded(event: str, payload: Payload, kind: str = "job", name: str = "19.sitea") -> bytes:
    return wire.encode(
        site="sitea",
        position=7,
        time=TIME,
        kind=kind,
        object_id=name,
        incarnation=1,
        revision=3,
        event=event,
        provenance="journal",
        payload=wire.encode_payload(payload),
    )


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("19", JobId(19, None, is_array=False, index=None)),
        ("19.sitea", JobId(19, "sitea", is_array=False, index=None)),
        ("6[].pbs.example.org", JobId(6, "pbs.example.org", is_array=True, index=None)),
        ("6[12].sitea", JobId(6, "sitea", is_array=False, index=12)),
        ("6[]", JobId(6, None, is_array=True, index=None)),
    ],
)
def test_job_ids_as_users_type_them(text: str, parsed: JobId) -> None:
    assert JobId.parse(text) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text", ["", "x", "19.", "19 .s", "6[", "6[a].s", "19.s@host", "19.sitea\n", "١٩.sitea", "-1.s"]
)
def test_what_is_no_job_id(text: str) -> None:
    with pytest.raises(InvalidJobId, match="illegally formed job identifier"):
        JobId.parse(text)


def test_a_subjob_goes_under_its_array() -> None:
    assert split_subjob("6[1].sitea") == ("6[].sitea", "1")
    assert split_subjob("6[].sitea") == ("6[].sitea", None)
    assert split_subjob("19.sitea") == ("19.sitea", None)


@pytest.mark.parametrize(
    ("job_id", "owner", "subject"),
    [
        ("19.sitea", "alice", "pbs.v1.sitea.job.alice.19/sitea.-.state"),
        ("6[].sitea", "alice", "pbs.v1.sitea.job.alice.6[]/sitea.-.state"),
        ("6[1].sitea", "alice", "pbs.v1.sitea.job.alice.6[]/sitea.1.state"),
        ("19.pbs.example.org", "al.ice", "pbs.v1.sitea.job.al%2Eice.19/pbs/example/org.-.state"),
        ("19.sitea", None, "pbs.v1.sitea.job.-.19/sitea.-.state"),
        ("19.sitea", "-", "pbs.v1.sitea.job.%2D.19/sitea.-.state"),
        ("19.sitea", "jürgen *>", "pbs.v1.sitea.job.j%C3%BCrgen%20%2A%3E.19/sitea.-.state"),
    ],
)
def test_subjects_of_jobs(job_id: str, owner: str | None, subject: str) -> None:
    assert (
        event_subject(site="sitea", kind="job", object_id=job_id, event="state", owner=owner)
        == subject
    )


def test_subjects_of_other_objects() -> None:
    subject = event_subject(site="a.b", kind="node", object_id="n1.example", event="modify")
    assert subject == "pbs.v1.a%2Eb.node.n1/example.modify"
    assert mark_subject("a.b") == "pbs.v1.a%2Eb.mark"


def test_filters() -> None:
    alice = event_subject(
        site="sitea", kind="job", object_id="6[1].sitea", event="state", owner="alice"
    )
    assert covers([job_filter(job_id="6[].sitea")], alice)
    assert covers([job_filter(job_id="6[1].sitea", owner="alice", site="sitea")], alice)
    assert not covers([job_filter(job_id="6[2].sitea"), job_filter(owner="bob")], alice)
    assert not covers([job_filter(event="finalize"), object_filter("node")], alice)
    assert covers(["pbs.v1.>"], alice)
    assert not covers(["pbs.v1.sitea.job.alice.6[]/sitea.1.state.>"], alice)


def test_a_filter_inside_another() -> None:
    assert is_covered("a.b.c", "a.*.c")
    assert is_covered("a.b.>", "a.>")
    assert not is_covered("a.*.c", "a.b.c")
    assert not is_covered("a.b.>", "a.b.*")


@pytest.mark.parametrize(
    ("event", "payload", "kind", "model"),
    [
        ("finalize", FinalizePayload(reason=Reason.FINISHED, exit_status=0), "job", Finalize),
        ("gap", GapPayload(begin=TIME, cause="disk full"), "site", Gap),
        ("resync", ResyncPayload(cause="gap", appeared=2), "site", Resync),
        ("down", LivenessPayload(), "site", Liveness),
    ],
)
def test_each_event_comes_back_as_its_own_type(
    event: str, payload: Payload, kind: str, model: type[AnyEvent]
) -> None:
    body = encoded(event, payload, kind)
    decoded = wire.decode(body)
    assert type(decoded) is model
    assert decoded.time == TIME
    assert wire.encode_event(decoded) == body


def test_the_wire_form_to_the_byte() -> None:
    payload = FinalizePayload(owner="alice", state="F", reason=Reason.FAILED, exit_status=1)
    assert encoded("finalize", payload).decode() == (
        '{"specversion":"1.0","id":"sitea:7","source":"/pbs/sitea","type":"pbscast.job.finalize.v1",'
        '"subject":"19.sitea","time":"2026-11-22T09:36:57.263000Z",'
        '"datacontenttype":"application/json","data":{"site":"sitea","position":7,'
        '"time":"2026-11-22T09:36:57.263000Z","kind":"job","id":"19.sitea","incarnation":1,'
        '"revision":3,"event":"finalize","provenance":"journal","owner":"alice","state":"F",'
        '"reason":"failed","exit_status":1}}'
    )


def test_an_event_knows_its_subject() -> None:
    event = wire.decode(encoded("finalize", FinalizePayload(reason=Reason.FINISHED, owner="bob")))
    assert event.subject == "pbs.v1.sitea.job.bob.19/sitea.-.finalize"


def test_fields_of_a_newer_release_are_ignored() -> None:
    body = encoded("gap", GapPayload(cause="x"), "site").replace(b'"cause"', b'"new":1,"cause"')
    assert isinstance(wire.decode(body), Gap)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "message"),
        (b"[]", "message"),
        (b"{}", "specversion"),
        (b'{"specversion":"1.0","data":{"event":"teleport"}}', "data"),
        (b'{"specversion":"1.0","data":{"event":"gap"}}', "data.gap.cause"),
    ],
)
def test_what_is_no_event(body: bytes, where: str) -> None:
    with pytest.raises(DecodeError, match=f"not an event of pbscast: {where}"):
        wire.decode(body)


def test_marks() -> None:
    mark = wire.Mark(site="sitea", position=7, time=TIME)
    assert wire.decode_mark(wire.encode_mark(mark)) == mark
    with pytest.raises(DecodeError, match="not a mark"):
        wire.decode_mark(b"{}")


def test_times_are_utc_with_microseconds() -> None:
    local = datetime(2026, 11, 22, 10, tzinfo=timezone(timedelta(hours=1)))
    assert wire.format_time(local) == "2026-11-22T09:00:00.000000Z"


@pytest.mark.parametrize(
    ("raw", "text", "escaped"),
    [
        (b"plain \\ text", "plain \\ text", False),
        ("jürgen".encode(), "jürgen", False),
        (b"j\xfcrgen \\ x", "j\\xfcrgen \\\\ x", True),
    ],
)
def test_bytes_that_are_not_utf8(raw: bytes, text: str, *, escaped: bool) -> None:
    assert escape(raw) == (text, escaped)
    if escaped:
        assert unescape(text) == raw


def test_visible_states() -> None:
    assert visible_state("R", 0x200) == "S"
    assert visible_state("R", 0x4000) == "U"
    assert visible_state("R", 0x4200) == "S"
    assert visible_state("Q", 0x200) == "Q"
    assert visible_state("?", 0) == "?"
    assert [state for state in JobState if state.is_final] == ["X", "M", "F"]


def test_the_tree_of_errors() -> None:
    kinds = [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, PbscastError)
    ]
    assert {kind.__name__ for kind in kinds if kind("x").transient} == {"UnavailableError"}
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    assert issubclass(InvalidJobId, ValueError)


def test_a_change_keeps_every_field() -> None:
    fields: dict[str, Any] = {
        "owner": "alice",
        "state": "R",
        "substate": 42,
        "old_state": "Q",
        "changed": {"Resource_List.ncpus": "4", "Variable_List": 'A="b"\u2028\x7f\x01'},
        "removed": ["Exit_status"],
        "columns": {"ji_queue": "workq"},
        "escaped": ["Variable_List"],
    }
    event = Change.model_validate(
        {
            "site": "sitea",
            "position": 1,
            "time": TIME,
            "kind": "job",
            "id": "19.sitea",
            "incarnation": 1,
            "revision": 1,
            "event": "state",
            "provenance": "journal",
            **fields,
        }
    )
    assert wire.decode(wire.encode_event(event)) == event


@pytest.mark.parametrize(("dated", "shape"), [(False, "%H:%M:%S"), (True, "%Y-%m-%d %H:%M:%S")])
def test_a_gap_says_from_when_to_when(*, dated: bool, shape: str) -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    begin = now - timedelta(days=2 if dated else 0, seconds=21)
    site = SiteLog("sitea")
    known = GapPayload(begin=begin, end=now, cause="pause")
    unknown = GapPayload(cause="error")
    first, second = (
        wire.decode(site.event(Kind.SITE, "sitea", EventName.GAP, payload).body)
        for payload in (known, unknown)
    )
    told = render(first.model_copy(update={"time": now})).plain
    begins, ends = (time.astimezone().strftime(shape) for time in (begin, now))
    assert told.endswith(f"{begins} to {ends}: pause")
    assert render(second).plain.endswith("? to ?: error")
