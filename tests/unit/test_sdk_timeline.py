"""Lives folded from events, and the lines they are drawn on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from harness.stream import BEGIN, SiteLog
from hypothesis import given, settings
from hypothesis import strategies as st

from pbscast import wire
from pbscast.events import AnyEvent, Finalize
from pbscast.scale import Scale, brief, cells, ticks
from pbscast.terminal.steps import describe, describe_end, steps_of
from pbscast.timeline import Alteration, Course, Span, Timeline

SECOND = timedelta(seconds=1)


def timeline(*messages: object) -> Timeline:
    return Timeline.of(wire.decode(getattr(message, "body")) for message in messages)  # noqa: B009


def only(found: Timeline) -> Course:
    (course,) = found.courses
    return course


def test_a_life_is_its_states_its_end_and_its_times() -> None:
    site = SiteLog("sitea")
    course = only(timeline(*site.life("1.sitea", name="sim", project="p")))
    assert [(span.state, (span.begin - BEGIN).seconds) for span in course.spans] == [
        ("Q", 1),
        ("R", 2),
        ("E", 3),
        ("F", 4),
    ]
    assert course.ended == BEGIN + 5 * SECOND
    assert (course.owner, course.queues, course.project) == ("alice", ["workq"], "p")
    assert course.durations(BEGIN) == dict.fromkeys("QREF", SECOND)
    assert (course.waited, course.ran) == (SECOND, SECOND)
    assert course.end is not None
    assert course.whole


def test_what_goes_on_has_no_end() -> None:
    site = SiteLog("sitea")
    submit, run = list(site.life("1.sitea"))[:2]
    course = only(timeline(submit, run))
    assert course.spans[-1] == Span("R", BEGIN + 2 * SECOND, None)
    assert course.durations(BEGIN + 10 * SECOND)["R"] == 8 * SECOND
    assert (course.ended, course.ran) == (None, None)
    # A clock that is behind takes nothing away.
    assert course.durations(BEGIN)["R"] == timedelta()


def test_bookkeeping_after_the_end_is_told_but_no_time_of_the_life() -> None:
    site = SiteLog("sitea")
    messages = [*site.life("6[1].sitea"), site.job("6[1].sitea", state="X", old_state="F")]
    course = only(timeline(*messages))
    assert course.ended == BEGIN + 5 * SECOND
    assert course.state == "F"
    assert len(course.entries) == 6


def test_alterations_know_what_was_before() -> None:
    site = SiteLog("sitea")
    course = only(
        timeline(
            site.job("1.sitea", "submit", state="H", changed={"Hold_Types": "u", "Priority": "0"}),
            site.job("1.sitea", "modify", state="H", changed={"Priority": "5"}),
            site.job("1.sitea", state="Q", changed={"Hold_Types": "n"}, removed=("depend",)),
            site.job("1.sitea", "usage", changed={"resources_used.mem": "1kb"}),
        )
    )
    assert [entry.alterations for entry in course.entries][1:3] == [
        (Alteration("Priority", "0", "5"),),
        (Alteration("Hold_Types", "u", "n"), Alteration("depend", None, None)),
    ]
    assert course.usage == {"mem": "1kb"}


def test_an_incarnation_is_a_life_of_its_own() -> None:
    site = SiteLog("sitea")
    found = timeline(*site.life("1.sitea"), *site.life("1.sitea"), site.node("n1"))
    assert [course.key.incarnation for course in found.courses] == [1, 2]


letters = st.sampled_from("QHRSE")
steps = st.lists(st.tuples(letters, st.integers(-5, 1000)), min_size=1, max_size=12)


@settings(max_examples=40)
@given(steps, st.booleans())
def test_spans_are_gapless_in_order_and_add_up(
    changes: list[tuple[str, int]],
    ends: bool,  # noqa: FBT001
) -> None:
    site = SiteLog("sitea")
    time = BEGIN
    events: list[AnyEvent] = []
    for number, (state, after) in enumerate(changes):
        time += timedelta(seconds=after)
        message = site.job("1.sitea", "submit" if number == 0 else "state", state=state)
        events.append(wire.decode(message.body).model_copy(update={"time": time}))
    if ends:
        last = wire.decode(site.job("1.sitea", "finalize").body)
        events.append(last.model_copy(update={"time": time, "state": changes[-1][0]}))
    course = only(Timeline.of(events))
    now = max(event.time for event in events)
    assert course.began == course.spans[0].begin
    for one, other in zip(course.spans, course.spans[1:], strict=False):
        assert one.end == other.begin >= one.begin
        assert one.state != other.state
    assert sum(course.durations(now).values(), timedelta()) == now - course.began
    assert (course.ended == now) if ends else (course.ended is None)


@given(
    st.lists(st.integers(0, 10_000), min_size=2, max_size=20),
    st.integers(1, 120),
    st.integers(-3000, 3000),
    st.integers(1, 9000),
)
def test_cells_run_from_left_to_right_and_show_all_there_is_room_for(
    cuts: list[int], width: int, begin: int, length: int
) -> None:
    at = [BEGIN + timedelta(seconds=cut) for cut in sorted(cuts)]
    spans = [Span("Q", one, other) for one, other in pairwise(at)]
    scale = Scale(
        BEGIN + timedelta(seconds=begin), BEGIN + timedelta(seconds=begin + length), width
    )
    line = cells(spans, scale)
    shown = [index for index in line if index is not None]
    assert len(line) == width
    assert shown == sorted(shown)
    for index in shown:
        left, right = scale.place(spans[index].begin), scale.place(spans[index].end or scale.end)
        assert right >= 0
        assert left <= width


def test_a_short_span_is_visible_between_long_ones() -> None:
    at = [BEGIN + timedelta(seconds=second) for second in (0, 5000, 5001, 10_000)]
    spans = [Span(state, at[i], at[i + 1]) for i, state in enumerate("QRE")]
    line = cells(spans, Scale(at[0], at[-1], 10))
    assert line == [0, 0, 0, 0, 0, 1, 2, 2, 2, 2]


@given(st.integers(1, 400_000_000), st.integers(20, 300))
def test_ticks_are_within_and_never_closer_than_asked(length: int, width: int) -> None:
    scale = Scale(BEGIN, BEGIN + timedelta(seconds=length), width)
    found = ticks(scale, 14)
    assert all(scale.begin <= time <= scale.end for time in found)
    places = [scale.place(time) for time in found]
    assert all(b - a >= 13.9 for a, b in pairwise(places))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.26, "260ms"),
        (9.96, "10s"),
        (59.7, "1m 00s"),
        (190, "3m 10s"),
        (7500, "2h 05m"),
        (100_000, "1d 03h"),
    ],
)
def test_lengths_in_two_units(seconds: float, text: str) -> None:
    assert brief(timedelta(seconds=seconds)) == text


def test_substates_and_usage_are_read_as_one_step() -> None:
    site = SiteLog("sitea")
    used = [{"resources_used.cput": f"00:00:0{n}"} for n in range(4)]
    course = only(
        timeline(
            site.job("1.s", "submit", state="Q", substate=10, changed={"Job_Name": "x"}),
            site.job("1.s", old_state="Q", substate=41, changed={"exec_host": "n1/0"}),
            site.job("1.s", old_substate=41, substate=42, changed={"session_id": "7"}),
            *(site.job("1.s", "usage", changed=changed) for changed in used),
        )
    )
    submit, run, usage = steps_of(course.entries)
    assert (submit.others, submit.alterations) == (["Job_Name"], [])
    assert (run.states, run.substates, run.count) == (["Q", "R"], [41, 42], 2)
    assert usage.count == 4
    assert usage.alterations == [Alteration("resources_used.cput", None, "00:00:03")]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Alteration("Priority", "0", "5"), "Priority 0 > 5"),
        (Alteration("Resource_List.walltime", None, "01:00"), "walltime 01:00"),
        (Alteration("comment", "x", None), "comment x removed"),
        (Alteration("comment", None, "ended " * 20), f"comment {'ended ' * 20}"),
        (Alteration("Hold_Types", None, "u"), "held by user"),
        (Alteration("Hold_Types", "us", "s"), "hold by user released"),
        (Alteration("Hold_Types", "u", "n"), "hold by user released"),
        (Alteration("Variable_List", None, "x" * 100), f"Variable_List {'x' * 60}.. (100 letters)"),
    ],
)
def test_alterations_in_words(item: Alteration, text: str) -> None:
    assert describe(item, ">", "..") == text


def test_ends_in_words() -> None:
    site = SiteLog("sitea")

    def end(**payload: object) -> str:
        event = wire.decode(site.job("1.s", "finalize", **payload).body)
        assert isinstance(event, Finalize)
        return describe_end(event)

    assert end() == "finished"
    assert end(reason="failed", exit_status=7) == "failed, exit status 7"
    assert end(reason="terminated", exit_status=271).endswith("271 (SIGTERM)")
    assert end(reason="terminated", exit_status=256 + 200).endswith("(signal 200)")
    assert end(reason="moved", destination="q@b") == "moved to q@b"


@pytest.mark.parametrize(
    ("comments", "by"),
    [
        (["Job run at noon on (n1:ncpus=1) and terminated by bob@n1.example"], "bob@n1.example"),
        (["Not Running: and terminated by bob@n1", "Job run on (n1) and finished"], None),
        (["Job run on (n1) and terminated by bob@n1", None], None),
        (["Job Array Began at noon and terminated"], None),
        ([], None),
    ],
)
def test_who_had_a_job_deleted_is_known_from_its_last_comment(
    comments: list[str | None], by: str | None
) -> None:
    site = SiteLog("sitea")
    changes = [
        {"removed": ["comment"]} if text is None else {"changed": {"comment": text}}
        for text in comments
    ]
    told = [site.job("1.sitea", "submit"), *(site.job("1.sitea", **change) for change in changes)]
    course = only(timeline(*told))
    assert course.ended_by is None, "it goes on"
    course = only(timeline(*told, site.job("1.sitea", "finalize", reason="terminated")))
    assert course.ended_by == by
    assert course.end is not None
    said = describe_end(course.end, course.ended_by)
    assert said == ("terminated" if by is None else f"terminated by {by}")


def test_local_noon_is_a_round_time() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    scale = Scale(noon - timedelta(hours=1), noon + timedelta(hours=1), 60)
    assert noon in ticks(scale, 14)
