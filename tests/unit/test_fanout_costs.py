from __future__ import annotations

import pytest

from pbscast_fanout.costs import MOST, Costs


def learnt(event: float, batch: float) -> Costs:
    costs = Costs()
    for _ in range(50):
        costs.note_event(event)
        costs.note_batch(batch, 5)
    return costs


@pytest.mark.parametrize(
    ("event", "batch", "singly"),
    [(0.0005, 0.020, MOST), (0.004, 0.006, 1), (0.001, 0.0055, 5), (0.010, 0.001, 1)],
)
def test_what_was_cheaper_of_late_is_favoured(event: float, batch: float, singly: int) -> None:
    costs = learnt(event, batch)
    assert [costs.favour_batch(count) for count in range(1, 20)] == [
        count > singly for count in range(1, 20)
    ]


def test_large_batches_tell_nothing_of_small_ones() -> None:
    costs = learnt(event=0.001, batch=0.0025)
    costs.note_batch(1.0, 999)
    assert costs.favour_batch(3)
