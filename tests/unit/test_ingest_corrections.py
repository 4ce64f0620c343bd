"""What belongs before the first row of an object after changes that were missed."""

from __future__ import annotations

from typing import Any

import pytest
from harness.journal import journal_row

from pbscast.events import EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast_ingest.corrections import correct, is_at_odds
from pbscast_store.heads import Head
from pbscast_store.records import ObjectState

BORN = "2026-11-22 09:36:57.1"
ENDED = {"job_state": "11.F", "substate": "11.93", "history_timestamp": "1.1", "Exit_status": "1.3"}


def _state(*, finalized: bool) -> ObjectState:
    return ObjectState(
        site="s",
        kind=Kind.JOB,
        id="1.s",
        incarnation=1,
        revision=4,
        position=4,
        born=BORN,
        finalized=finalized,
        gone=False,
        owner="alice",
        queue="workq",
        project=None,
        name=None,
        state="R",
        substate=42,
        attributes={},
        columns={},
    )


def _rows() -> list[tuple[str, dict[str, Any]]]:
    deleted: dict[str, Any] = {"context": ENDED}
    changed: dict[str, Any] = {
        "context": ENDED,
        "changed": {"comment": "1.x"},
        "before": {"comment": "1.y"},
    }
    return [("D", deleted), ("U", changed)]


@pytest.mark.parametrize(("op", "values"), _rows())
def test_an_end_that_was_missed_is_told_first(op: str, values: dict[str, Any]) -> None:
    row = journal_row(1, op, "job", "1.s", created=BORN, **values)
    assert is_at_odds(row, Head(1, 4, finalized=False, gone=False, born=BORN))
    [draft] = correct(row, _state(finalized=False), "1.s")
    assert (draft.event, draft.provenance) == (EventName.FINALIZE, Provenance.RESYNC)
    assert isinstance(draft.payload, FinalizePayload)
    assert (draft.payload.reason, draft.payload.exit_status) == (Reason.FAILED, 3)
    assert not draft.begins
    assert not draft.ends


@pytest.mark.parametrize(("op", "values"), _rows())
def test_a_job_first_heard_of_after_its_end_has_one(op: str, values: dict[str, Any]) -> None:
    row = journal_row(1, op, "job", "1.s", created=BORN, **values)
    begin, end = correct(row, None, "1.s")
    assert (begin.event, begin.begins) == (EventName.SUBMIT, True)
    assert (end.event, end.begins, end.ends) == (EventName.FINALIZE, False, False)
    assert isinstance(end.payload, FinalizePayload)
    assert (end.payload.reason, end.payload.exit_status) == (Reason.FAILED, 3)


@pytest.mark.parametrize(("op", "values"), _rows())
def test_an_end_that_was_told_is_not_told_again(op: str, values: dict[str, Any]) -> None:
    row = journal_row(1, op, "job", "1.s", created=BORN, **values)
    assert not is_at_odds(row, Head(1, 4, finalized=True, gone=False, born=BORN))
    assert correct(row, _state(finalized=True), "1.s") == []


def test_a_save_that_ends_a_job_needs_no_help() -> None:
    row = journal_row(
        1,
        "U",
        "job",
        "1.s",
        created=BORN,
        context=ENDED,
        changed=ENDED,
        before={"job_state": "11.R", "substate": "11.42"},
    )
    assert not is_at_odds(row, Head(1, 4, finalized=False, gone=False, born=BORN))
