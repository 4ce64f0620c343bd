from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from pbscast_deploy.oracle import End, Oracle, expect
from pbscast_deploy.simulator.jobs import Save, Site
from pbscast_deploy.simulator.lives import Life, array_life, random_life, single_life
from pbscast_deploy.simulator.record import saved_row
from pbscast_deploy.simulator.rows import Row

START = datetime(2026, 11, 22, tzinfo=UTC)


def site(*, history: bool, seed: int = 0) -> Site:
    return Site("s", history, random.Random(seed), lambda: 1_795_340_217.5)


def saves_of(life: Life) -> list[Save]:
    return [save for step in life for save in step]


def observe(saves: list[Save]) -> Oracle:
    """The oracle's view of saves that are a millisecond apart."""
    rows: dict[str, Row] = {}
    seen = []
    for number, save in enumerate(saves):
        if save.table != "job":
            continue
        before = rows.get(save.key, Row({}, {}))
        assert (save.key in rows) == (save.op != "INSERT"), save
        kept = {k: v for k, v in before.attributes.items() if k not in save.removed}
        row = Row({**before.columns, **save.columns}, {**kept, **save.attributes})
        rows[save.key] = row
        at = START + timedelta(milliseconds=number)
        if save.op == "DELETE":
            del rows[save.key]
        seen.append(saved_row(at, save.op, save.key, None if save.op == "DELETE" else row))
    return expect(seen)


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize(
    ("kind", "with_history", "without"),
    [
        ("plain", End("finished", 0), End("finished", 0)),
        ("short", End("finished", 0), End("finished", 0)),
        ("held", End("finished", 0), End("finished", 0)),
        ("waiting", End("finished", 0), End("finished", 0)),
        ("altered", End("finished", 0), End("finished", 0)),
        ("requeued", End("finished", 0), End("finished", 0)),
        ("rerun", End("finished", 0), End("finished", 0)),
        ("suspended", End("finished", 0), End("finished", 0)),
        ("busy", End("finished", 0), End("finished", 0)),
        ("failed", End("failed", 8), End("failed", 8)),
        ("killed", End("terminated", 271), End("terminated", 271)),
        ("deleted", End("terminated", None), End("deleted", None)),
        ("orphaned", End("finished", None), End("deleted", None)),
    ],
)
def test_how_each_life_ends(*, history: bool, kind: str, with_history: End, without: End) -> None:
    oracle = observe(saves_of(single_life(site(history=history), 7, kind)))
    (life,) = oracle.lives.values()
    assert life.end == (with_history if history else without)
    assert life.present == history


def test_a_busy_workstation_shows_it() -> None:
    busy = observe(saves_of(single_life(site(history=True), 7, "busy"))).lives["7.s", 1]
    assert busy.visible[1:5] == [("R", 41), ("R", 42), ("U", 42), ("R", 42)]


def test_a_rerun_job_and_a_suspended_one_show_it() -> None:
    rerun = observe(saves_of(single_life(site(history=True), 7, "rerun"))).lives["7.s", 1]
    assert rerun.visible[3:9] == [("R", 60), ("E", 60), ("E", 61), ("E", 62), ("E", 63), ("Q", 10)]
    suspended = observe(saves_of(single_life(site(history=True), 7, "suspended"))).lives["7.s", 1]
    assert [pair for pair in suspended.visible if pair[0] == "S"] == [("S", 43), ("S", 45)]


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_an_array_ends_with_each_of_its_subjobs_once(*, history: bool, seed: int) -> None:
    oracle = observe(saves_of(array_life(site(history=history, seed=seed), 7)))
    assert all(incarnation == 1 for _, incarnation in oracle.lives)
    assert all(life.end is not None for life in oracle.lives.values())
    assert all(life.present == history for life in oracle.lives.values())
    assert ("7[].s", 1) in oracle.lives


def test_a_requeued_subjob_is_deleted_and_inserted_in_one_step() -> None:
    steps = [step for seed in range(20) for step in array_life(site(history=True, seed=seed), 7)]
    torn = [[save.op for save in step] for step in steps if len(step) > 1]
    assert torn
    assert all(ops == ["DELETE", "INSERT"] for ops in torn)


def test_jobs_are_of_real_size() -> None:
    saves = saves_of(single_life(site(history=True), 7, "plain"))
    names = {name for save in saves if save.table == "job" for name in save.attributes}
    assert 50 <= len(names) <= 70
    assert 500 <= len(saves[0].attributes["Variable_List"]) <= 2000


def test_the_same_seed_gives_the_same_lives() -> None:
    def draw(seed: int) -> list[Save]:
        one = site(history=True, seed=seed)
        return [save for number in range(50) for save in saves_of(random_life(one, number))]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
