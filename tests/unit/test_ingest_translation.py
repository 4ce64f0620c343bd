from __future__ import annotations

from datetime import UTC, datetime

import pytest
from harness.ingesting import expected_lives, lives_of
from harness.journal import Trigger, journal_row

from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Reason
from pbscast.wire import encode_payload
from pbscast_deploy.oracle import expect
from pbscast_deploy.simulator.record import commits_of
from pbscast_deploy.simulator.trace import bundled_traces, read_trace
from pbscast_ingest.finalize import conclude
from pbscast_ingest.rows import JournalRow
from pbscast_ingest.translation import translate
from pbscast_store.drafts import Draft
from pbscast_store.planning import Tail, plan
from pbscast_store.records import Record

RUNNING = {"job_state": "11.R", "substate": "11.42", "Job_Owner": "11.alice@h", "queue": "11.workq"}


def _log(drafts: list[Draft], site: str) -> list[Record]:
    logged = datetime(2026, 11, 22, tzinfo=UTC)
    rows = plan(drafts, {}, Tail(site), logged).events
    return [Record(site=site, logged=logged, **row._asdict()) for row in rows]


def _update(**values: object) -> JournalRow:
    context = {**RUNNING, "ji_svrflags": "12321"} | values.pop("context", {})  # type: ignore[operator]
    return journal_row(1, "U", "job", "1.s", context=context, **values)  # type: ignore[arg-type]


def _change(row: JournalRow) -> tuple[EventName, ChangePayload]:
    (draft,) = translate(row, "s")
    assert isinstance(draft.payload, ChangePayload)
    return draft.event, draft.payload


@pytest.mark.parametrize("site", ["sitea", "siteb"])
def test_traces_tell_what_the_oracle_expects(site: str) -> None:
    changes = read_trace(bundled_traces()[site])
    drafts = [draft for row in Trigger().feed(changes) for draft in translate(row, site)]
    assert lives_of(_log(drafts, site)) == expected_lives(expect(commits_of(changes)))


def test_the_moved_job_says_where_it_went() -> None:
    changes = read_trace(bundled_traces()["sitea"])
    drafts = [draft for row in Trigger().feed(changes) for draft in translate(row, "sitea")]
    (finalize,) = (d for d in drafts if d.id == "19.sitea" and d.event is EventName.FINALIZE)
    assert isinstance(finalize.payload, FinalizePayload)
    assert (finalize.payload.reason, finalize.payload.destination) == (Reason.MOVED, "workq@siteb")


def test_usage_comes_with_the_finalize() -> None:
    changes = read_trace(bundled_traces()["sitea"])
    drafts = [draft for row in Trigger().feed(changes) for draft in translate(row, "sitea")]
    (finalize,) = (d for d in drafts if d.id == "1.sitea" and d.event is EventName.FINALIZE)
    assert isinstance(finalize.payload, FinalizePayload)
    assert finalize.payload.usage.keys() >= {"cput", "mem", "walltime"}


@pytest.mark.parametrize(
    "row",
    [
        _update(changed={"queue": "3.workq"}, before={"queue": "11.workq"}),
        _update(changed={"mtime": "11.2"}, before={"mtime": "11.1"}),
        _update(columns={"ji_state": "4", "ji_qrank": "7"}, before={"ji_state": "1"}),
        _update(columns={"ji_svrflags": "12321"}, before={"ji_svrflags": "33"}),
        journal_row(1, "U", "node", "n", columns={"mom_modtime": "2"}, before={"mom_modtime": "1"}),
        journal_row(1, "U", "node", "n", columns={"nd_state": "1024"}, before={"nd_state": "0"}),
        journal_row(1, "U", "server", "", columns={"sv_jobidnumber": "2000"}),
        journal_row(1, "U", "wombat", "x", changed={"a": "11.b"}),
        journal_row(1, "H", "", ""),
    ],
)
def test_what_nobody_sees_is_no_event(row: JournalRow) -> None:
    assert translate(row, "s") == []


@pytest.mark.parametrize(
    ("row", "event"),
    [
        (_update(changed={"substate": "11.42"}, before={"substate": "11.41"}), EventName.STATE),
        (_update(changed={"queue": "11.workq"}, before={"queue": "11.b"}), EventName.MOVE),
        (_update(changed={"resources_used.mem": "11.1kb"}), EventName.USAGE),
        (_update(changed={"Priority": "11.7"}, before={"Priority": "11.0"}), EventName.MODIFY),
        (_update(removed=["Exit_status"]), EventName.MODIFY),
        (_update(columns={"ji_wombat": "1"}), EventName.MODIFY),
        (
            _update(
                changed={"job_state": "11.R", "queue": "11.workq", "resources_used.mem": "11.1kb"},
                before={"job_state": "11.Q", "queue": "11.other"},
            ),
            EventName.STATE,
        ),
    ],
)
def test_a_change_goes_by_the_most_significant_thing(row: JournalRow, event: EventName) -> None:
    assert _change(row)[0] is event


@pytest.mark.parametrize(
    ("was", "now", "letters"),
    [("12321", "12837", "RS"), ("12837", "12321", "SR"), ("12321", "28705", "RU")],
)
def test_suspension_is_seen_in_the_flags(was: str, now: str, letters: str) -> None:
    event, payload = _change(
        _update(
            columns={"ji_svrflags": now},
            before={"ji_svrflags": was},
            context={"ji_svrflags": now},
        )
    )
    assert event is EventName.STATE
    assert f"{payload.old_state}{payload.state}" == letters


def test_an_event_carries_all_of_the_change() -> None:
    event, payload = _change(
        _update(
            changed={"job_state": "11.R", "substate": "11.42", "mtime": "11.5", "x": "3.same"},
            before={"job_state": "11.Q", "substate": "11.10", "mtime": "11.4", "x": "11.same"},
            columns={"ji_stime": "9"},
            removed=["Exit_status"],
        )
    )
    assert event is EventName.STATE
    assert payload == ChangePayload(
        owner="alice",
        queue="workq",
        state="R",
        substate=42,
        old_state="Q",
        old_substate=10,
        changed={"job_state": "R", "substate": "42", "mtime": "5"},
        removed=("Exit_status",),
        columns={"ji_stime": "9"},
    )


@pytest.mark.parametrize(
    "row",
    [
        _update(changed={"job_state": "11.Ω", "substate": "11.x"}, context={"ji_svrflags": "-"}),
        _update(changed={"substate": "11.99999999999999999999"}, before={"substate": "11.-1"}),
        _update(changed={"Exit_status": "11.", "history_timestamp": "11.1", "job_state": "11.F"}),
        journal_row(1, "I", "job", ""),
        journal_row(1, "I", "job", "\udce9", changed={"\udce9": "11.\udce9"}),
        journal_row(1, "D", "job", "1.s"),
        journal_row(1, "U", "resv", "R1", columns={"ri_state": "99"}, before={"ri_state": "-3"}),
        journal_row(1, "U", "node", "n", columns={"nd_state": "free"}, before={"nd_state": ""}),
    ],
)
def test_strange_rows_are_logged_as_far_as_understood(row: JournalRow) -> None:
    drafts = translate(row, "s")
    assert drafts
    assert all(encode_payload(draft.payload).encode() for draft in drafts)


def test_a_purge_follows_the_finalize() -> None:
    gone = {"job_state": "11.F", "substate": "11.92", "history_timestamp": "11.1"}
    (draft,) = translate(journal_row(1, "D", "job", "1.s", context=gone), "s")
    assert (draft.event, draft.ends) == (EventName.PURGE, True)


def test_a_late_result_of_a_moved_job_is_an_ordinary_event() -> None:
    (draft,) = translate(
        _update(
            changed={"substate": "11.92"},
            before={"substate": "11.94"},
            context={"job_state": "11.M", "history_timestamp": "11.1"},
        ),
        "s",
    )
    assert draft.event is EventName.STATE


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"job_state": "F", "substate": "92", "Exit_status": "0"}, Reason.FINISHED),
        ({"job_state": "F", "substate": "93", "Exit_status": "7"}, Reason.FAILED),
        ({"job_state": "F", "substate": "91"}, Reason.TERMINATED),
        ({"job_state": "E", "substate": "53", "Exit_status": "271"}, Reason.TERMINATED),
        ({"job_state": "E", "substate": "53", "Exit_status": "0"}, Reason.FINISHED),
        ({"job_state": "E", "substate": "53"}, Reason.DELETED),
        ({"job_state": "E", "substate": "54"}, Reason.DELETED),
        ({"job_state": "Q", "substate": "10", "Exit_status": "-11"}, Reason.DELETED),
        ({"job_state": "M", "substate": "94", "queue": "q@b"}, Reason.MOVED),
        ({"job_state": "T", "substate": "2", "ji_destin": "q@b"}, Reason.MOVED),
        ({}, Reason.DELETED),
    ],
)
def test_reasons(values: dict[str, str], reason: Reason) -> None:
    end = conclude("1.s", values)
    assert end.reason is reason
    assert end.destination == ("q@b" if reason is Reason.MOVED else None)


def test_an_early_verdict_on_an_array_is_none() -> None:
    early = {"job_state": "F", "substate": "92", "Exit_status": "1"}
    assert conclude("2[].s", early).reason is Reason.FAILED
    assert conclude("2[].s", {**early, "history_timestamp": "1"}).reason is Reason.FINISHED


def test_reservations_and_nodes_are_called_as_pbs_does() -> None:
    row = journal_row(
        1,
        "U",
        "resv",
        "R10.s",
        columns={"ri_state": "5", "ri_substate": "5"},
        before={"ri_state": "2", "ri_substate": "2"},
    )
    event, payload = _change(row)
    assert event is EventName.MODIFY
    assert (payload.old_state, payload.state) == ("RESV_CONFIRMED", "RESV_RUNNING")
    _, payload = _change(
        journal_row(1, "U", "node", "n", columns={"nd_state": "1058"}, before={"nd_state": "16"})
    )
    assert (payload.old_state, payload.state) == ("job-busy", "down,Stale")


def test_the_server_goes_by_its_site() -> None:
    (draft,) = translate(journal_row(1, "U", "server", "", changed={"a": "11.b"}), "sitea")
    assert (draft.kind, draft.id) == (Kind.SERVER, "sitea")
