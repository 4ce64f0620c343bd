from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from pbscast_deploy.oracle import End, Life, Oracle, Saved, expect, read_record
from pbscast_deploy.simulator.record import Record, commits_of
from pbscast_deploy.simulator.trace import bundled_traces, read_trace

START = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Oracle]:
    return {site: expect(commits_of(read_trace(path))) for site, path in bundled_traces().items()}


def saved(
    op: Literal["INSERT", "UPDATE", "DELETE"],
    state: str = "",
    *,
    job: str = "1.s",
    after: float = 0,
    exit_status: int | None = None,
    history: bool = False,
    svrflags: int = 0,
) -> Saved:
    letter, _, substate = state.partition("/")
    return Saved(
        at=START + timedelta(seconds=after),
        op=op,
        job=job,
        state=letter,
        substate=int(substate or 0),
        svrflags=svrflags,
        history=history,
        exit_status=exit_status,
    )


def ending(state: str, exit_status: int | None = None, *, job: str = "1.s") -> End | None:
    """How a job ends whose row is deleted in `state`."""
    start = saved("INSERT", "Q/10", job=job)
    last = saved("UPDATE", state, exit_status=exit_status, job=job)
    return expect([start, last, saved("DELETE", job=job)]).lives[job, 1].end


def test_the_traces_hold_37_incarnations_of_which_36_end(recorded: dict[str, Oracle]) -> None:
    lives = [life for oracle in recorded.values() for life in oracle.lives.values()]
    assert len(lives) == 37
    assert sum(life.end is not None for life in lives) == 36
    assert recorded["sitea"].lives["8.sitea", 1] == Life(visible=[("W", 30)])


def test_how_the_recorded_jobs_ended(recorded: dict[str, Oracle]) -> None:
    reasons = {
        site: Counter(life.end.reason for life in oracle.lives.values() if life.end)
        for site, oracle in recorded.items()
    }
    assert reasons == {
        "sitea": Counter(finished=10, failed=6, terminated=7, moved=1),
        "siteb": Counter(finished=6, failed=3, deleted=3),
    }


@pytest.mark.parametrize(
    ("site", "job", "end"),
    [
        ("sitea", "2.sitea", End("failed", 7)),
        ("sitea", "4.sitea", End("terminated", None)),
        ("sitea", "5.sitea", End("terminated", 271)),
        ("sitea", "6[].sitea", End("failed", 1)),
        ("sitea", "6[4].sitea", End("failed", 4)),
        ("sitea", "7.sitea", End("finished", None)),
        ("sitea", "9.sitea", End("terminated", 271)),
        ("sitea", "18[2].sitea", End("terminated", 271)),
        ("sitea", "19.sitea", End("moved", None)),
        ("siteb", "19.sitea", End("finished", 0)),
        ("siteb", "2[].siteb", End("failed", 1)),
        ("siteb", "2[2].siteb", End("failed", 2)),
        ("siteb", "3.siteb", End("deleted", None)),
        ("siteb", "1002.siteb", End("deleted", None)),
    ],
)
def test_the_end_of(recorded: dict[str, Oracle], site: str, job: str, end: End) -> None:
    assert recorded[site].lives[job, 1].end == end


def test_suspension_is_visible_and_repetitions_are_not(recorded: dict[str, Oracle]) -> None:
    visible = recorded["sitea"].lives["9.sitea", 1].visible
    assert visible[:12] == [
        ("Q", 10),
        ("R", 41),
        ("R", 42),
        ("R", 60),
        ("E", 60),
        ("E", 61),
        ("E", 62),
        ("E", 63),
        ("Q", 10),
        ("R", 41),
        ("R", 42),
        ("S", 43),
    ]
    assert visible[12:14] == [("S", 45), ("R", 42)]


def test_workstation_busy_is_u_unless_suspended() -> None:
    assert saved("UPDATE", "R/42", svrflags=0x4001).visible == ("U", 42)
    assert saved("UPDATE", "R/42", svrflags=0x4200).visible == ("S", 42)
    assert saved("UPDATE", "Q/10", svrflags=0x4200).visible == ("Q", 10)


@pytest.mark.parametrize(
    ("state", "exit_status", "end"),
    [
        ("E/53", 0, End("finished", 0)),
        ("E/53", 3, End("failed", 3)),
        ("E/50", 256, End("terminated", 256)),
        ("E/54", None, End("deleted", None)),
        ("E/53", None, End("deleted", None)),
        ("T/2", None, End("moved", None)),
        ("Q/10", -11, End("deleted", None)),
        ("R/42", None, End("deleted", None)),
    ],
)
def test_without_history_the_delete_ends_it(state: str, exit_status: int | None, end: End) -> None:
    assert ending(state, exit_status) == end


def test_the_early_f_of_an_array_is_no_verdict() -> None:
    assert ending("F/92", 1, job="2[].s") == End("failed", 1)
    assert ending("F/92", 0, job="2[].s") == End("finished", 0)


def test_purging_and_a_subjob_s_flip_to_f_are_no_second_end() -> None:
    oracle = expect(
        [
            saved("INSERT", "Q/10", job="1[1].s"),
            saved("UPDATE", "X/93", job="1[1].s", exit_status=2, history=True),
            saved("UPDATE", "F/93", job="1[1].s", exit_status=2, history=True, after=1),
            saved("DELETE", job="1[1].s", after=2),
        ]
    )
    life = oracle.lives["1[1].s", 1]
    assert life.end == End("failed", 2)
    assert life.ended_at == START
    assert not life.present


@pytest.mark.parametrize(("pause", "incarnations"), [(0.001, 1), (0.1, 1), (2, 1), (2.1, 2)])
def test_a_subjob_that_is_inserted_at_once_goes_on(pause: float, incarnations: int) -> None:
    job = "1[1].s"
    oracle = expect(
        [
            saved("INSERT", "Q/10", job=job),
            saved("DELETE", job=job, after=1),
            saved("INSERT", "Q/10", job=job, after=1 + pause),
            saved("UPDATE", "R/41", job=job, after=4),
        ]
    )
    assert len(oracle.lives) == incarnations
    assert oracle.lives[job, incarnations].visible == [("Q", 10), ("R", 41)]
    assert oracle.lives[job, incarnations].end is None


@pytest.mark.parametrize(("pause", "incarnations"), [(0.1, 1), (0.2, 2)])
def test_a_subjob_that_is_inserted_after_another_save(pause: float, incarnations: int) -> None:
    job = "1[1].s"
    oracle = expect(
        [
            saved("INSERT", "Q/10", job=job),
            saved("DELETE", job=job, after=1),
            saved("INSERT", "Q/10", job="2.s", after=1.05),
            saved("INSERT", "Q/10", job=job, after=1 + pause),
        ]
    )
    assert sum(name == job for name, _ in oracle.lives) == incarnations


def test_an_id_that_comes_back_is_another_incarnation() -> None:
    oracle = expect(
        [
            saved("INSERT", "Q/10"),
            saved("UPDATE", "M/94", history=True),
            saved("DELETE"),
            saved("INSERT", "H/20"),
        ]
    )
    assert oracle.lives["1.s", 1].end == End("moved", None)
    assert oracle.lives["1.s", 2].visible == [("H", 20)]


def test_a_record_file_says_the_same_and_a_cut_line_is_none(
    tmp_path: Path, recorded: dict[str, Oracle]
) -> None:
    path = tmp_path / "record.jsonl"
    record = Record(path)
    for commit in commits_of(read_trace(bundled_traces()["sitea"])):
        record(commit)
    record.close()
    with path.open("a") as file:
        file.write('{"at": "2026-')
    assert expect(read_record(path)) == record.oracle == recorded["sitea"]
