from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pbscast.events import AnyEvent, Change, Finalize, Reason
from pbscast.lives import Standing
from pbscast_fanout.matching import Completion

JOB, ARRAY, SUBJOB = "1.sitea", "6[].sitea", "6[1].sitea"


def header(job_id: str, site: str, incarnation: int) -> dict[str, Any]:
    return {
        "site": site,
        "kind": "job",
        "id": job_id,
        "position": 1,
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "incarnation": incarnation,
        "revision": 1,
        "provenance": "journal",
    }


def alive(job_id: str = JOB, site: str = "sitea", incarnation: int = 1) -> AnyEvent:
    return Change(event="state", **header(job_id, site, incarnation))  # type: ignore[arg-type]


def ended(
    job_id: str = JOB, site: str = "sitea", incarnation: int = 1, reason: str = "finished"
) -> AnyEvent:
    fields = header(job_id, site, incarnation)
    return Finalize(event="finalize", reason=Reason(reason), **fields)  # type: ignore[arg-type]


MOVED = ended(reason="moved")


@pytest.mark.parametrize(
    ("events", "is_complete"),
    [
        ([], False),
        ([alive()], False),
        ([alive(), ended()], True),
        ([ended(reason="deleted")], True),
        ([alive(), ended(), alive(incarnation=2)], False),
        ([alive(), ended(), alive(incarnation=2), ended(incarnation=2)], True),
        ([alive(), MOVED], False),
        ([alive(), MOVED, alive(site="siteb")], False),
        ([alive(), MOVED, alive(site="siteb"), ended(site="siteb")], True),
        ([alive(), alive(site="siteb"), ended(site="siteb")], False),
        ([alive(), alive(site="siteb"), ended(site="siteb"), MOVED], True),
        ([MOVED, ended(site="siteb", reason="moved"), alive(incarnation=2)], False),
        ([MOVED, ended(site="siteb", reason="moved"), ended(incarnation=2)], True),
    ],
)
def test_a_job_ends_where_it_went(events: list[AnyEvent], *, is_complete: bool) -> None:
    completion = Completion([JOB])
    for event in events:
        completion.note(event)
    assert completion.is_complete is is_complete
    assert list(completion.open_ids()) == ([] if is_complete else [JOB])


def test_a_move_out_of_the_only_site_ends_it() -> None:
    completion = Completion([JOB], sites=["sitea"])
    completion.note(MOVED)
    assert completion.is_complete


def test_where_nothing_can_be_seen_the_caller_gives_up() -> None:
    completion = Completion([JOB])
    completion.note(MOVED)
    completion.give_up([JOB])
    assert completion.is_complete


def test_an_array_waits_for_its_subjobs_that_were_seen() -> None:
    completion = Completion([ARRAY])
    for event in (alive(ARRAY), alive(SUBJOB), ended(ARRAY)):
        completion.note(event)
    assert completion.pending == 1
    completion.note(ended(SUBJOB))
    assert completion.is_complete


def test_a_subjob_alone_may_be_named() -> None:
    completion = Completion([SUBJOB, JOB])
    completion.note(ended(SUBJOB))
    assert list(completion.open_ids()) == [JOB]


def test_ids_come_and_go() -> None:
    completion = Completion([JOB])
    completion.add([JOB, ARRAY])
    completion.note(ended(JOB))
    assert completion.pending == 1
    completion.remove([JOB, ARRAY])
    assert completion.is_complete
    completion.note(alive(JOB))
    assert completion.is_complete


def test_it_begins_with_how_the_jobs_stand() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    completion = Completion([JOB, SUBJOB])
    for job_id, end in ((JOB, now), (SUBJOB, None)):
        fields = header(job_id, "sitea", 1)
        completion.note_standing(Standing(**fields, began=now, ended=end))
    assert list(completion.open_ids()) == [SUBJOB]
