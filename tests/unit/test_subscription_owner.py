from __future__ import annotations

from collections import Counter

from pbscast_fanout.subscriptions.membership import owner

THINGS = [f"site{number}" for number in range(600)]


def test_every_worker_gets_its_share() -> None:
    shares = Counter(owner(("one", "two", "three"), thing) for thing in THINGS)
    assert shares.keys() == {"one", "two", "three"}
    assert min(shares.values()) > 150


def test_the_order_of_workers_means_nothing() -> None:
    for thing in THINGS:
        assert owner(("one", "two", "three"), thing) == owner(("three", "one", "two"), thing)


def test_who_goes_moves_nothing_between_the_others() -> None:
    for thing in THINGS:
        before = owner(("one", "two", "three"), thing)
        after = owner(("one", "two"), thing)
        assert before in (after, "three")
