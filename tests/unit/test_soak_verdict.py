"""The verdict of the soak must see what it is there to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from harness.soak.lives import Heard, disagreements
from harness.soak.verdict import (
    Copy,
    Findings,
    LogBook,
    Pause,
    check_delivery,
    check_durable,
    check_gaps,
    check_lives,
    check_rows,
)

from pbscast import wire
from pbscast.events import Event
from pbscast_deploy.oracle import Saved

START = datetime(2026, 11, 22, tzinfo=UTC)
EVENTS = [Copy.of(number, b"event %d" % number) for number in range(1, 8)]

Op = Literal["INSERT", "UPDATE", "DELETE"]


def damaged(damage: Callable[[list[Copy]], object]) -> Findings:
    """What is found when the subscriber's copies are damaged so."""
    got, found = list(EVENTS), Findings()
    damage(got)
    check_delivery(found, "s", EVENTS, got)
    return found


def test_a_faithful_copy_is_without_fault() -> None:
    assert damaged(list).lines == []


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_lost_event(place: int) -> None:
    assert damaged(lambda got: got.pop(place)).lines == [
        f"lost: subscriber of s: {place + 1} never came"
    ]


@pytest.mark.parametrize("place", [1, 4, 7])
def test_a_repeated_event(place: int) -> None:
    assert damaged(lambda got: got.insert(place, got[0])).lines == [
        "duplicated: subscriber of s: 1 came again"
    ]


def test_swapped_events() -> None:
    def swap(got: list[Copy]) -> None:
        got[2], got[3] = got[3], got[2]

    assert damaged(swap).lines == ["disordered: subscriber of s: 3 came after 4"]


def test_an_altered_event() -> None:
    def alter(got: list[Copy]) -> None:
        got[4] = Copy.of(5, b"event five")

    assert damaged(alter).lines == ["altered: subscriber of s: 5 is not what the log holds"]


def test_an_invented_event() -> None:
    assert damaged(lambda got: got.append(Copy.of(8, b""))).lines == [
        "duplicated: subscriber of s: 8 is not in the log"
    ]


def saved(
    op: Op, state: str = "", *, job: str = "1.s", after: float = 0, exit_status: int | None = None
) -> Saved:
    letter, _, substate = state.partition("/")
    return Saved(
        START + timedelta(seconds=after),
        op,
        job,
        state=letter,
        substate=int(substate or 0),
        history=letter == "F",
        exit_status=exit_status,
    )


COMMITS = [
    saved("INSERT", "Q/10"),
    saved("UPDATE", "R/41"),
    saved("UPDATE", "R/42"),
    saved("UPDATE", "E/50", exit_status=0),
    saved("UPDATE", "F/92", exit_status=0),
]
STATES = [("Q", 10), ("R", 41), ("R", 42), ("E", 50), ("F", 92)]
END = ("finished", 0)


def judged(
    states: Sequence[tuple[str, int | None]],
    *ends: tuple[str, int | None],
    pauses: Sequence[Pause] = (),
    commits: Sequence[Saved] = COMMITS,
) -> Findings:
    found = Findings()
    check_lives(found, "s", commits, {"1.s": [Heard(list(states), list(ends))]}, pauses)
    return found


def pause(first: int, last: int) -> Pause:
    begin, end, moment = START, START + timedelta(seconds=1), timedelta(seconds=0.1)
    return Pause(first, last, begin, end, begin - moment, end + moment)


def test_a_life_told_as_committed() -> None:
    assert judged(STATES, END).lines == []


@pytest.mark.parametrize("missing", range(5))
def test_a_state_that_the_log_lacks(missing: int) -> None:
    assert judged(STATES[:missing] + STATES[missing + 1 :], END).lost


def test_states_that_the_log_swapped() -> None:
    assert judged([STATES[0], STATES[2], STATES[1], *STATES[3:]], END).disordered


def test_a_state_that_the_log_repeats() -> None:
    assert judged([*STATES[:3], STATES[1], STATES[2], *STATES[3:]], END).duplicated


def test_a_state_that_the_log_altered() -> None:
    assert judged([("Q", 11), *STATES[1:]], END).altered


def test_an_end_that_is_missing_repeated_or_another() -> None:
    assert judged(STATES).lost
    assert judged(STATES, END, END).duplicated
    assert judged(STATES, ("failed", 1)).altered


def test_a_life_that_the_log_lacks_or_invents() -> None:
    found = Findings()
    check_lives(found, "s", COMMITS, {}, [])
    check_lives(found, "s", [], {"2.s": [Heard([("Q", 10)])]}, [])
    assert (len(found.lost), len(found.duplicated)) == (1, 1)


def test_a_pause_excuses_its_own_states_only() -> None:
    assert judged([STATES[0], *STATES[3:]], END, pauses=[pause(2, 3)]).lines == []
    assert judged([STATES[0], *STATES[3:]], END, pauses=[pause(2, 2)]).lost
    assert judged([STATES[0], *STATES[3:]], END, pauses=[pause(6, 9)]).lost


def test_the_last_state_must_be_told_even_if_it_came_in_a_pause() -> None:
    assert judged(STATES, END, pauses=[pause(5, 5)]).lines == []
    assert judged(STATES[:4], pauses=[pause(5, 5)]).lost


def test_who_is_deleted_in_a_pause_may_have_vanished() -> None:
    commits = [*COMMITS[:3], saved("DELETE")]
    assert judged(STATES[:3], ("vanished", None), commits=commits, pauses=[pause(4, 4)]).lines == []
    assert judged(STATES[:3], ("vanished", None), commits=commits).altered
    assert judged(STATES[:3], commits=commits, pauses=[pause(4, 4)]).lost


def test_who_was_deleted_and_came_again_in_a_pause_has_an_end() -> None:
    commits = [*COMMITS[:3], saved("DELETE"), saved("INSERT", "Q/10")]
    for ends, is_lost in (([("vanished", None)], False), ([], True)):
        found = Findings()
        heard = {"1.s": [Heard([*STATES[:3]], [*ends]), Heard([*STATES[:1]])]}
        check_lives(found, "s", commits, heard, [pause(4, 4)])
        assert bool(found.lines) is is_lost


def test_who_came_and_went_in_a_pause_may_be_unknown() -> None:
    commits = [saved("INSERT", "Q/10"), saved("DELETE")]
    found = Findings()
    check_lives(found, "s", commits, {}, [pause(1, 2)])
    assert found.lines == []
    check_lives(found, "s", commits, {}, [pause(2, 2)])
    assert found.lost


def subjob(pause_between: float) -> list[tuple[Saved, bool]]:
    return [
        (saved("INSERT", "Q/10", job="1[1].s"), True),
        (saved("DELETE", job="1[1].s", after=1), True),
        (saved("INSERT", "Q/10", job="1[1].s", after=1 + pause_between), True),
    ]


def test_a_subjob_that_runs_again_goes_on_or_begins_anew_by_the_clock() -> None:
    goes_on = [Heard([("Q", 10)])]
    anew = [Heard([("Q", 10)], [("deleted", None)]), Heard([("Q", 10)])]
    assert disagreements(subjob(0.001), goes_on) is None
    assert disagreements(subjob(0.001), anew) is not None
    assert disagreements(subjob(0.09), goes_on) is None
    assert disagreements(subjob(0.09), anew) is None
    assert disagreements(subjob(9), goes_on) is not None
    assert disagreements(subjob(9), anew) is None


def event(position: int, revision: int, incarnation: int) -> Event:
    return wire.decode(
        wire.encode(
            site="s",
            position=position,
            time=START,
            kind="job",
            object_id="1.s",
            incarnation=incarnation,
            revision=revision,
            event="state",
            provenance="journal",
            payload='{"state":"Q","substate":10}',
        )
    )


def read(*places: tuple[int, int, int]) -> Findings:
    book = LogBook("s")
    for position, incarnation, revision in places:
        book.read(event(position, revision, incarnation), b"")
    book.close()
    return book.found


def test_revisions_have_no_gaps() -> None:
    assert read((1, 1, 1), (2, 1, 2), (3, 2, 1)).lines == []
    assert read((1, 1, 1), (2, 1, 3)).disordered
    assert read((1, 1, 1), (2, 1, 1)).disordered
    assert read((1, 1, 1), (2, 3, 1)).disordered
    assert read((1, 1, 2)).disordered


def test_positions_have_no_gaps() -> None:
    assert read((1, 1, 1), (3, 1, 2)).lines == ["lost: log of s: 2 never came"]


def gap(begin: float | None, end: float) -> Event:
    since = None if begin is None else (START + timedelta(seconds=begin)).isoformat()
    until = (START + timedelta(seconds=end)).isoformat()
    payload = f'{{"begin":"{since}","end":"{until}","cause":"pause"}}'
    return wire.decode(
        wire.encode(
            site="s",
            position=1,
            time=START,
            kind="site",
            object_id="s",
            incarnation=1,
            revision=1,
            event="gap",
            provenance="journal",
            payload=payload.replace('"begin":"None",', ""),
        )
    )


@pytest.mark.parametrize(
    ("begin", "end", "complaints"),
    [(0, 1, 0), (-5, 1.05, 0), (None, 2, 0), (0.5, 1, 1), (0, 0.5, 1), (3, 4, 2)],
)
def test_a_pause_must_be_told_and_nothing_else(
    begin: float | None, end: float, complaints: int
) -> None:
    book, found = LogBook("s"), Findings()
    book.read(gap(begin, end), b"")
    check_gaps(found, "s", book.gaps, [pause(1, 1)])
    assert len(found.lines) == complaints


def test_rows_and_what_was_committed() -> None:
    found = Findings()
    row = {("job", "1.s"): {"job_state": b"F", "mtime": b"1"}}
    check_rows(found, "s", row, {("job", "1.s"): {"job_state": b"F", "mtime": b"2"}})
    check_durable(found, "s", COMMITS, row)
    assert found.lines == []
    check_rows(found, "s", row, {("job", "1.s"): {"job_state": b"E"}})
    check_durable(found, "s", COMMITS[:4], row)
    check_durable(found, "s", COMMITS, {})
    assert len(found.lost) == 3
