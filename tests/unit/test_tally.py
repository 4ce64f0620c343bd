"""The tally and the picture notice what is wrong with a subscription."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pbscast.events import Change, Event, Finalize, Gap
from pbscast_deploy.demo.picture import Picture, find_differences
from pbscast_deploy.simulator.rows import Row
from pbscast_deploy.simulator.trace import Change as Written
from pbscast_deploy.tally import Tally

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COLUMNS = {"ji_svrflags": "33"}


def header(position: int, revision: int) -> dict[str, object]:
    return {
        "site": "sitea",
        "position": position,
        "time": NOON + timedelta(seconds=position),
        "kind": "job",
        "id": "1.sitea",
        "incarnation": 1,
        "revision": revision,
        "provenance": "journal",
    }


def change(position: int, revision: int, event: str, state: str, **changed: str) -> Change:
    fields = {"event": event, "state": state, "substate": 10, "changed": changed}
    return Change.model_validate(header(position, revision) | fields)


def story() -> list[Event]:
    end = {"event": "finalize", "reason": "finished", "exit_status": 0, "state": "F"}
    return [
        change(1, 1, "submit", "Q", Job_Name="a", job_state="Q", substate="10"),
        change(2, 2, "state", "R", job_state="R"),
        change(3, 3, "modify", "R", Job_Name="b"),
        change(4, 4, "state", "F", job_state="F", history_timestamp="1", Exit_status="0"),
        Finalize.model_validate(header(5, 5) | end),
    ]


def save(seq: int, op: str, **attributes: str) -> Written:
    stored = {name: f"11.{value}" for name, value in attributes.items()}
    return Written("sitea", seq, NOON, "job", op, "1.sitea", Row(COLUMNS, stored))


def trace() -> list[Written]:
    queued = {"Job_Name": "a", "job_state": "Q", "substate": "10"}
    running = queued | {"job_state": "R"}
    renamed = running | {"Job_Name": "b"}
    ended = renamed | {"job_state": "F", "history_timestamp": "1", "Exit_status": "0"}
    return [
        save(1, "INSERT", **queued),
        save(2, "UPDATE", **running),
        save(3, "UPDATE", **renamed),
        save(4, "UPDATE", **ended),
    ]


def hear(events: Sequence[Event]) -> tuple[Tally, list[str]]:
    tally, picture = Tally(), Picture()
    for event in events:
        tally.observe(event)
        picture.observe(event)
    return tally, find_differences({"sitea": trace()}, tally, picture)


def test_a_sound_story() -> None:
    tally, differences = hear(story())
    assert differences == []
    assert (tally.delivered, tally.finalized) == (5, 1)
    assert (tally.duplicates, tally.out_of_order, tally.gaps) == (0, 0, 0)


@pytest.mark.parametrize("lost", range(4))
def test_a_lost_event_is_out_of_order(lost: int) -> None:
    events = story()
    del events[lost]
    tally, _ = hear(events)
    assert (tally.out_of_order, tally.delivered) == (1, 4)


@pytest.mark.parametrize("lost", [0, 2, 3, 4])
def test_what_nothing_later_tells_is_a_difference(lost: int) -> None:
    events = story()
    del events[lost]
    assert hear(events)[1] != []


def test_a_repeated_event_is_counted() -> None:
    events = story()
    tally, differences = hear([*events[:3], events[1], *events[3:]])
    assert (tally.duplicates, tally.delivered, differences) == (1, 5, [])


def test_swapped_events_are_counted() -> None:
    events = story()
    events[1], events[2] = events[2], events[1]
    tally, _ = hear(events)
    assert tally.out_of_order > 0


def test_an_altered_value_is_a_difference() -> None:
    events = story()
    events[2] = change(3, 3, "modify", "R", Job_Name="c")
    _, differences = hear(events)
    assert differences == ["sitea job 1.sitea: Job_Name differs"]


def test_a_gap_is_counted() -> None:
    fields = {"event": "gap", "cause": "pause", "kind": "site", "id": "sitea"}
    tally, _ = hear([Gap.model_validate(header(1, 1) | fields)])
    assert tally.gaps == 1


def test_old_ends_are_forgotten_and_living_jobs_kept() -> None:
    tally = Tally()
    for number in range(5):
        for event in story():
            life = {"id": f"{number}.sitea", "position": event.position + 5 * number}
            tally.observe(event.model_copy(update=life))
    alive = change(26, 1, "submit", "Q").model_copy(update={"id": "9.sitea"})
    tally.observe(alive)
    tally.forget_all_but(2)
    assert {life.id for life in tally.jobs} == {"4.sitea", "9.sitea"}
