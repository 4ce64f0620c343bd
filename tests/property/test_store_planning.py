"""Numbering and folding against a plain fold of one event at a time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise

from harness.drafts import DRAFTS, PlainLog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbscast import wire
from pbscast_store.drafts import Draft
from pbscast_store.folds import LARGE, FoldRow
from pbscast_store.heads import Head, HeadCache, ObjectKey
from pbscast_store.planning import Plan, Tail, plan

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LOGGED = datetime(2026, 11, 22, tzinfo=UTC)
BATCHES = st.lists(st.lists(DRAFTS, max_size=6), max_size=6)


def run(batches: list[list[Draft]]) -> list[Plan]:
    heads: dict[ObjectKey, Head] = {}
    plans: list[Plan] = []
    tail = Tail("sitea")
    for batch in batches:
        plans.append(plan(batch, heads, tail, LOGGED))
        heads |= plans[-1].heads
        tail = plans[-1].tail
    return plans


@patient
@given(BATCHES)
def test_positions_incarnations_and_revisions_are_those_of_one_event_at_a_time(
    batches: list[list[Draft]],
) -> None:
    plain = PlainLog()
    for batch in batches:
        plain.append(batch)

    plans = run(batches)

    rows = [row for planned in plans for row in planned.events]
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert [(row.id, row.time, row.event, row.incarnation, row.revision) for row in rows] == [
        (draft.id, draft.time, draft.event, incarnation, revision)
        for draft, incarnation, revision in plain.events
    ]
    assert [row.payload for row in rows] == [
        wire.encode_payload(draft.payload) for draft, *_ in plain.events
    ]
    assert sum(planned.dropped for planned in plans) == plain.dropped


@patient
@given(st.lists(DRAFTS, max_size=30), st.lists(st.integers(0, 30)))
def test_how_events_are_split_into_batches_changes_nothing(
    drafts: list[Draft], cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(drafts)]
    split = [drafts[begin:end] for begin, end in pairwise(edges)]

    at_once, in_parts = run([drafts]), run(split)

    assert at_once[0].events == [row for planned in in_parts for row in planned.events]


@patient
@given(BATCHES)
def test_a_large_value_is_never_among_those_that_each_event_rewrites(
    batches: list[list[Draft]],
) -> None:
    for planned in run(batches):
        for fold in planned.folds:
            recent, base = json.loads(fold.recent), json.loads(fold.base)
            assert all(len(value or "") <= LARGE for value in recent.values())
            assert not recent.keys() & base.keys()


@patient
@given(BATCHES)
def test_one_fold_an_object_carries_its_last_place(batches: list[list[Draft]]) -> None:
    for planned in run(batches):
        last: dict[tuple[str, str], FoldRow] = {(row.kind, row.id): row for row in planned.folds}
        assert len(last) == len(planned.folds)
        for event in planned.events:
            assert event.position <= (last[event.kind, event.id].position or 0)
        assert {row.position for row in planned.folds} <= {row.position for row in planned.events}


def test_the_cache_forgets_what_was_updated_longest_ago_once_it_is_written() -> None:
    cache = HeadCache(capacity=2)
    one, two, three = (ObjectKey("job", f"{number}.sitea") for number in (1, 2, 3))
    head = Head(incarnation=1, revision=1, finalized=False, gone=False, born=None)

    cache.update({one: head, two: head}, position=2)
    cache.update({one: head, three: head}, position=4)
    cache.trim(written=1)
    assert cache.get(one) == cache.get(two) == cache.get(three) == head

    cache.trim(written=2)
    assert cache.get(one) == cache.get(three) == head
    assert cache.get(two) is None
