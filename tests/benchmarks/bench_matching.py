"""What an event costs beside subscriptions that it is not for, and what a subscription weighs."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from time import process_time
from typing import Any

import pytest

from pbscast.events import AnyEvent, Change, Incarnation
from pbscast.subscriptions import Filter
from pbscast_fanout.matching import Completion, Matcher, Past

pytestmark = pytest.mark.benchmark

_SIZES = (10, 1_000, 100_000)
_MATCHING = 5
_EVENTS = 4_000
_ROUNDS = 5

FILTERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "an id": lambda n: {"ids": (f"{n}.sitea",)},
    "an owner": lambda n: {"owners": (f"user{n}",)},
    "a queue, its states": lambda n: {"queues": (f"queue{n}",), "states": ("R", "Q")},
    "a name pattern": lambda n: {"names": (f"study{n}x*",)},
    "an expression": lambda n: {"where": f'Account_Name == "a{n}" and Resource_List.ncpus >= 4'},
}


def _filter(n: int, kind: str) -> Filter:
    return Filter.model_validate(FILTERS[kind](n))


def _mixed(n: int) -> Filter:
    return _filter(n, list(FILTERS)[n % len(FILTERS)])


def _event() -> tuple[AnyEvent, Past]:
    """Of job 0, for which the first filters of each sort are."""
    fields: dict[str, Any] = {
        "site": "sitea",
        "position": 7,
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "kind": "job",
        "id": "0.sitea",
        "incarnation": 1,
        "revision": 7,
        "event": "usage",
        "provenance": "journal",
        "changed": {"resources_used.cput": "00:00:07", "resources_used.mem": "7kb"},
    }
    standing = {"owner": "user1", "queue": "queue2", "name": "study3xy", "state": "R"}
    attributes = {"Account_Name": "a4", "Resource_List.ncpus": "8"}
    past = Past(incarnation=Incarnation(1), attributes=attributes, **standing)  # type: ignore[arg-type]
    return Change.model_validate({**fields, **standing}), past


def _cost(matcher: Matcher) -> float:
    """Microseconds of processor time per event, the best of some rounds."""
    event, past = _event()
    assert len(matcher.match(event, past)) == _MATCHING
    best = float("inf")
    for _ in range(_ROUNDS):
        began = process_time()
        for _ in range(_EVENTS):
            matcher.match(event, past)
        best = min(best, process_time() - began)
    return best / _EVENTS * 1e6


def test_cost_of_an_event() -> None:
    """Five subscriptions match, however many there are."""
    costs = {}
    matcher = Matcher()
    for size in _SIZES:
        began = process_time()
        added = size - len(matcher)
        for n in range(len(matcher), size):
            matcher.add(f"s{n}", _mixed(n))
        seconds = process_time() - began
        costs[size] = _cost(matcher)
        print(
            f"\n{size:,} subscriptions: {costs[size]:.1f} µs an event"
            f" ({costs[size] / costs[10]:.2f} of that with 10);"
            f" adding one {seconds / added * 1e6:.0f} µs"
        )
    assert max(costs.values()) < 2 * min(costs.values())


@pytest.mark.parametrize("kind", FILTERS)
def test_memory_of_a_subscription(kind: str) -> None:
    count = 500
    filters = [_filter(n, kind) for n in range(count)]
    matcher = Matcher()
    tracemalloc.start()
    for n in range(count):
        matcher.add(f"s{n}", filters[n])
    del filters
    gc.collect()
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    print(f"\n{kind}: {size:,.0f} bytes a subscription")
    assert size < 16_384


def test_one_subscription_with_all_the_ids() -> None:
    count = 100_000
    ids = tuple(f"{n}.sitea" for n in range(count))
    criteria = Filter(ids=ids)
    matcher = Matcher()
    tracemalloc.start()
    matcher.add("s", criteria)
    weight = tracemalloc.get_traced_memory()[0] / count
    completion = Completion(ids)
    followed = tracemalloc.get_traced_memory()[0] / count - weight
    tracemalloc.stop()
    began = process_time()
    matcher.change_ids("s", add=["100001.sitea"], remove=["7.sitea"])
    changed = process_time() - began
    began = process_time()
    matcher.remove("s")
    removed = process_time() - began
    matcher.add("s", criteria)
    added = process_time() - began - removed
    print(
        f"\n{count:,} ids: {weight:.0f} bytes an id (and {followed:.0f} to follow it),"
        f" the texts not counted; adding {added * 1e3:.0f} ms, removing {removed * 1e3:.0f} ms,"
        f" changing one id {changed * 1e6:.0f} µs"
    )
    assert not completion.is_complete
