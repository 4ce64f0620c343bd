"""Random histories of rows: neither cuts into pages nor deaths of workers make a difference."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import hypothesis.strategies as st
from harness.journal import START, journal_row
from hypothesis import given, settings

from pbscast.events import EventName
from pbscast_ingest.pending import Pending
from pbscast_ingest.rows import JournalRow
from pbscast_ingest.segments import cut
from pbscast_ingest.subjobs import Subjobs, returning
from pbscast_store.drafts import Draft

IDS = ("1.s", "2[].s", "2[1].s", "2[2].s")
Step = tuple[str, str, str, str | None, bool, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(IDS),
        st.sampled_from(["save", "delete"]),
        st.sampled_from(["Q/10", "R/42", "E/53", "X/92", "F/92", "F/91", "M/94", "H/20"]),
        st.sampled_from([None, "0", "1", "271"]),
        st.booleans(),
        st.sampled_from([1, 30, 100, 101, 5000]),
    ),
    max_size=40,
)


def _journal(history: list[Step]) -> list[JournalRow]:
    """The rows of saves and deletes; history_timestamp stays once it is set, as PBS leaves it."""
    rows: list[JournalRow] = []
    present: dict[str, dict[str, str]] = {}
    at = START
    for job, action, letters, exit_status, final, later in history:
        at += timedelta(milliseconds=later)
        old = present.get(job)
        if action == "delete":
            if old is not None:
                del present[job]
                rows.append(journal_row(len(rows) + 1, "D", "job", job, at=at, context=old))
            continue
        new = _attributes(letters, exit_status, is_final=final or _was_final(old))
        present[job] = new
        if old is None:
            rows.append(journal_row(len(rows) + 1, "I", "job", job, at=at, changed=new))
            continue
        changed = {k: v for k, v in new.items() if old.get(k) != v}
        before = {k: old[k] for k in changed if k in old}
        removed = [k for k in old if k not in new]
        row = journal_row(
            len(rows) + 1,
            "U",
            "job",
            job,
            at=at,
            changed=changed,
            before=before,
            removed=removed,
            context=new,
        )
        rows.append(row)
    return rows


def _was_final(old: dict[str, str] | None) -> bool:
    return old is not None and "history_timestamp" in old


def _attributes(letters: str, exit_status: str | None, *, is_final: bool) -> dict[str, str]:
    letter, substate = letters.split("/")
    if is_final:
        letter = "F"
    values = {"job_state": f"11.{letter}", "substate": f"11.{substate}", "ji_svrflags": "1"}
    if exit_status is not None:
        values["Exit_status"] = f"11.{exit_status}"
    if is_final:
        values["history_timestamp"] = "11.1"
    return values


def _tell(rows: list[JournalRow], cuts: set[int]) -> list[tuple[str, str, object, bool]]:
    """The events, with the worker killed and started anew after each cut."""
    told: list[Draft] = []
    waiting: dict[str, object] = {}
    for begin, end in _slices(len(rows), cuts):
        pending = Pending(waiting)
        page = rows[begin:end]
        # As the log has them: by all that was told before.
        subjobs = Subjobs(returning(page, pending), {})
        subjobs.follow(told)
        for segment in cut(page, pending, "s", START, {}, subjobs):
            assert segment.stop is None
            told += segment.drafts
        waiting = pending.dump()
    told += Pending(waiting).give_up()
    return [(d.id, d.event.value, d.payload, d.begins) for d in told]


def _slices(length: int, cuts: set[int]) -> list[tuple[int, int]]:
    marks = [0, *sorted(cut for cut in cuts if cut < length), length]
    return list(pairwise(marks))


@given(steps, st.sets(st.integers(1, 40)))
@settings(max_examples=150, deadline=None)
def test_cuts_and_restarts_change_nothing(history: list[Step], cuts: set[int]) -> None:
    rows = _journal(history)
    whole = _tell(rows, set())
    parts = _tell(rows, cuts)
    assert parts == whole


@given(steps)
@settings(max_examples=150, deadline=None)
def test_every_ended_life_has_one_finalize(history: list[Step]) -> None:
    rows = _journal(history)
    ends: Counter[tuple[str, int]] = Counter()
    lives: Counter[str] = Counter()
    for job, event, _, begins in _tell(rows, set()):
        lives[job] += begins
        ends[job, lives[job]] += event == EventName.FINALIZE
    assert all(count <= 1 for count in ends.values())
    present = {row.key: row.op != "D" for row in rows}
    for job, count in lives.items():
        gone = [ends[job, life] for life in range(1, count)]
        assert all(number == 1 for number in gone)
        if not present[job]:
            assert ends[job, count] == 1
