"""The numbers of a subscription's messages: each told once, in order, holes where they are."""

from __future__ import annotations

from harness.standing_in import standing
from hypothesis import given
from hypothesis import strategies as st

from pbscast.deliveries import BeginMessage, BoundaryMessage, ObjectMessage
from pbscast.following import Following, SiteMessage
from pbscast.lives import Standing
from pbscast.notices import Missed


def _boundary(n: int, site: str = "sitea") -> BoundaryMessage:
    # Its position is told, and ten times its number so that holes can be seen in positions too.
    return BoundaryMessage.model_validate(
        {"subscription": "s", "site": site, "n": n, "position": 10 * n}
    )


def _tell(following: Following, message: SiteMessage, time: int) -> list[object]:
    if following.is_repeat(message, time):
        return []
    hole = following.hole_before(message)
    following.record(message, time)
    return [message.n] if hole is None else [hole, message.n]


@given(
    dropped=st.sets(st.integers(1, 30)),
    handled=st.lists(st.integers(0, 10), max_size=6),
)
def test_each_once_in_order_over_any_resumptions(dropped: set[int], handled: list[int]) -> None:
    kept = [n for n in range(1, 31) if n not in dropped]
    following = Following(None, is_new=True)
    told: list[object] = []
    acknowledged = 0
    for count in (*handled, len(kept)):
        # The reader gets what follows the acknowledged ones again; it handles some, then is cut.
        for n in kept[acknowledged : acknowledged + count]:
            told += _tell(following, _boundary(n), time=n)
        acknowledged += max(0, count - 3)
    assert [item for item in told if not isinstance(item, Missed)] == kept
    holes = [item for item in told if isinstance(item, Missed)]
    gaps = [(a, b) for a, b in zip([0, *kept], kept, strict=False) if b != a + 1]
    assert [(item.after, item.before) for item in holes] == [
        (10 * a or None, 10 * b + 1) for a, b in gaps
    ]


@given(st.integers(1, 20), st.integers(1, 20))
def test_who_comes_back_with_its_place_sees_what_was_dropped(told: int, first: int) -> None:
    before = Following(None, is_new=True)
    for n in range(1, told + 1):
        _tell(before, _boundary(n), time=n)
    after = Following(before.place, is_new=False)
    outcome = _tell(after, _boundary(first), time=100)
    if first <= told:
        assert outcome == []
    elif first == told + 1:
        assert outcome == [first]
    else:
        assert outcome == [Missed("sitea", 10 * told, 10 * first + 1), first]


def test_sites_are_counted_apart_and_a_stranger_is_believed() -> None:
    following = Following({"sitea": (4, 40)}, is_new=False)
    assert _tell(following, _boundary(9, "siteb"), time=1) == [9]
    assert _tell(following, _boundary(5), time=2) == [5]
    assert following.positions == {"sitea": 50, "siteb": 90}
    assert following.place == {"sitea": (5, 50), "siteb": (9, 90)}


def test_a_hole_before_an_object_ends_where_nobody_knows_yet() -> None:
    following = Following(None, is_new=True)
    begin = BeginMessage.model_validate(
        {"subscription": "s", "site": "sitea", "n": 1, "position": 7}
    )
    stands = ObjectMessage.model_validate(
        {
            "subscription": "s",
            "site": "sitea",
            "n": 3,
            "object": Standing.model_validate(standing()),
        }
    )
    assert _tell(following, begin, time=1) == [1]
    assert _tell(following, stands, time=2) == [Missed("sitea", 7, None), 3]
    assert following.positions == {"sitea": 7}


def test_a_stream_that_counts_from_one_again_later_repeats_nothing() -> None:
    following = Following(None, is_new=True)
    for n in (1, 2, 3):
        _tell(following, _boundary(n), time=n)
    assert _tell(following, _boundary(2), time=2) == []
    assert _tell(following, _boundary(2), time=50) == [Missed("sitea", 30, 21), 2]
