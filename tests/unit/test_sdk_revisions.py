"""Events that a history passes over are counted by their revisions."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pbscast import revisions
from pbscast.events import AnyEvent, Change, EventName, Kind, Provenance
from pbscast.revisions import Revisions


def _event(job: str, revision: int, incarnation: int = 1) -> AnyEvent:
    return Change.model_validate(
        {
            "site": "s",
            "position": revision,
            "time": "2026-11-22T10:00:00Z",
            "id": job,
            "kind": Kind.JOB,
            "incarnation": incarnation,
            "revision": revision,
            "event": EventName.USAGE,
            "provenance": Provenance.JOURNAL,
        }
    )


@given(st.sets(st.tuples(st.sampled_from(["1.s", "2.s"]), st.integers(1, 12))), st.booleans())
def test_what_lies_between_is_counted_in_either_order(
    told: set[tuple[str, int]],
    newest_first: bool,  # noqa: FBT001
) -> None:
    counted = Revisions()
    for job, revision in sorted(told, key=lambda one: one[1], reverse=newest_first):
        counted.observe(_event(job, revision))
    missing = 0
    for job in ("1.s", "2.s"):
        numbers = [revision for name, revision in told if name == job]
        missing += max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
    assert counted.missing == missing


def test_lives_are_told_apart_and_no_more_than_so_many_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Revisions()
    for event in (_event("1.s", 4), _event("1.s", 1, 2), _event("1.s", 2, 2)):
        counted.observe(event)
    assert counted.missing == 0
    monkeypatch.setattr(revisions, "MOST", 2)
    for event in (_event("2.s", 1), _event("3.s", 1), _event("2.s", 5), _event("1.s", 9)):
        counted.observe(event)
    assert counted.missing == 3
