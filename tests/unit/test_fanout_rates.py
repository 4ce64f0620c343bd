from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pbscast_fanout.rates import Rates


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5)), max_size=60))
def test_nobody_gets_more_than_his_allowance_and_nobody_takes_anothers(
    asked: list[tuple[int, float]],
) -> None:
    clock = Clock()
    together, alone = (
        Rates[int](3, 0.5, clock),
        {who: Rates[int](3, 0.5, clock) for who in range(4)},
    )
    given_out: dict[int, int] = {}
    for who, pause in asked:
        clock.now += pause
        is_allowed = together.take(who)
        assert is_allowed == alone[who].take(who)
        given_out[who] = given_out.get(who, 0) + is_allowed
        assert given_out[who] <= 3 + clock.now * 0.5
    assert len(together) <= 4


def test_who_waits_is_allowed_again_and_forgotten() -> None:
    clock = Clock()
    rates = Rates[int](2, 1.0, clock)
    assert [rates.take(1) for _ in range(3)] == [True, True, False]
    clock.now += 1.1
    assert [rates.take(1) for _ in range(2)] == [True, False]
    for who in range(10, 1010):
        clock.now += 0.1
        assert rates.take(who)
    assert len(rates) < 30
