from __future__ import annotations

from collections import Counter
from itertools import islice

from harness.soak.faults import _FAULTS
from harness.soak.schedule import Trouble, plan


def test_the_seed_is_all_that_decides() -> None:
    first, again, other = (list(islice(plan(seed), 100)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_kind_of_fault_comes_in_turn() -> None:
    turns = list(islice(plan(3), 3 * len(Trouble)))
    assert set(Counter(turn.trouble for turn in turns).values()) == {3}
    assert {turn.trouble for turn in turns[: len(Trouble)]} == set(Trouble)
    assert {(turn.target, turn.calm) for turn in turns} == {
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    }


def test_every_fault_can_be_made() -> None:
    assert set(_FAULTS) == set(Trouble)
