"""The order of several sites' histories, hand-overs, and folds: without any server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pbscast import wire
from pbscast.events import ChangePayload, FinalizePayload, Payload, Reason
from pbscast.handovers import HandOvers
from pbscast_store.folding import Fold, fold_lives, standing_of
from pbscast_store.history import Moved, Stretch, find_arrivals, merge
from pbscast_store.records import Record
from pbscast_store.source import LifeSpan, Place

START = datetime(2026, 11, 22, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def place(site: str, position: int, second: float, job: str = "1.a") -> Place:
    return Place(site, position, at(second), at(second), 100, job, 1)


def merged(stretches: dict[str, Stretch], limit: int = 100, **options: Any) -> Any:
    starts = dict.fromkeys(stretches, 0)
    return merge(stretches, starts, limit, 10_000, options.pop("arrivals", {}), **options)


def test_a_page_ends_where_a_site_has_not_been_searched_further() -> None:
    """What it will find may belong before what others have."""
    unfinished = Stretch([place("a", 1, 1)], searched=500, ended=False)
    whole = Stretch([place("b", 1, 0), place("b", 2, 2)], searched=2, ended=True)
    page = merged({"a": unfinished, "b": whole})
    assert [(one.site, one.position) for one in page.places] == [("b", 1), ("a", 1)]
    assert page.positions == {"a": 500, "b": 1}
    assert page.more


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_site_of_which_nothing_is_known_yet_lets_nobody_pass(newest_first: bool) -> None:  # noqa: FBT001 - a parameter
    searching = Stretch([], searched=200_000, ended=False)
    whole = Stretch([place("b", 1, 0)], searched=1, ended=True)
    page = merged({"a": searching, "b": whole}, newest_first=newest_first)
    assert page.places == []
    assert page.positions == {"a": 200_000, "b": 0}
    assert page.more


def test_a_page_ends_by_number_and_by_bytes() -> None:
    stretch = Stretch([place("a", n, n) for n in range(1, 6)], searched=5, ended=True)
    assert merged({"a": stretch}, limit=2).positions == {"a": 2}
    small = merge({"a": stretch}, {"a": 0}, 100, 250, {})
    assert [one.position for one in small.places] == [1, 2]
    assert len(merge({"a": stretch}, {"a": 0}, 100, 1, {}).places) == 1
    assert not merged({"a": stretch}).more


def test_there_and_back_again_is_told_in_order() -> None:
    """Site b's clock is 5 seconds behind; the job goes from a to b and returns."""
    lives = [
        Moved("a", "1.a", 1, 2, at(0), at(10), "moved"),
        Moved("b", "1.a", 1, 2, at(5), at(14), "moved"),
        Moved("a", "1.a", 3, 4, at(20), at(30), "finished"),
    ]
    arrivals = find_arrivals(lives)
    stretches = {
        "a": Stretch([place("a", n, s) for n, s in ((1, 0), (2, 10), (3, 20), (4, 30))], 4, True),  # noqa: FBT003
        "b": Stretch([place("b", 1, 5), place("b", 2, 14)], 2, True),  # noqa: FBT003
    }
    page = merged(stretches, arrivals=arrivals)
    story = [(one.site, one.position) for one in page.places]
    assert story == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3), ("a", 4)]


def record(position: int, payload: Payload, job: str = "1.a", site: str = "a") -> Record:
    return Record(
        site=site,
        position=position,
        time=at(position),
        kind="job",
        id=job,
        incarnation=1,
        revision=position,
        event="finalize" if isinstance(payload, FinalizePayload) else "state",
        provenance="journal",
        owner=None,
        payload=wire.encode_payload(payload),
        logged=at(position),
        digest=None,
    )


def test_a_hand_over_needs_two_sites() -> None:
    moved = FinalizePayload(reason=Reason.MOVED, destination="q@b")
    leaving = record(2, moved).decode()
    arriving = record(1, ChangePayload(), site="b").decode()
    same = record(1, ChangePayload()).decode()
    forward = HandOvers()
    assert [forward.note(event) for event in (same, leaving, same)] == [None, None, None]
    found = forward.note(arriving)
    assert found is not None
    assert (found.source, found.target, found.destination) == ("a", "b", "q@b")
    assert forward.note(arriving) is None
    backward = HandOvers(newest_first=True)
    assert [backward.note(event) for event in (arriving, leaving, same)] == [None, found, None]


async def test_lives_are_folded_up_to_their_cuts() -> None:
    async def records() -> AsyncIterator[Record]:
        yield record(1, ChangePayload(changed={"a": "1", "b": "1"}))
        yield record(4, ChangePayload(changed={"a": "2"}, removed=("b",), columns={"c": "3"}))
        yield record(2, ChangePayload(changed={"a": "9"}), "2.a")

    lives = [LifeSpan("1.a", 1, 1, 4), LifeSpan("3.a", 1, 3, 3), LifeSpan("2.a", 1, 2, 2)]
    found = [item async for item in fold_lives(records(), lives, [3, 3, 2])]
    assert [(item.index, item.before, item.after) for item in found] == [
        (0, Fold({"a": "1", "b": "1"}, {}), Fold({"a": "2"}, {"c": "3"})),
        (2, Fold({"a": "9"}, {}), Fold({"a": "9"}, {})),
    ]


def test_standing_is_known_from_a_beginning_that_goes_beyond_it() -> None:
    payload = ChangePayload(owner="ä", state="Q", substate=10, changed={"v": "x" * 100})
    text = wire.encode_payload(payload)
    known = {"owner": "ä", "state": "Q", "substate": 10}
    told = [standing_of(text[:length], is_whole=False) for length in range(1, len(text))]
    assert told[-1] == known
    assert all(item in (None, known) for item in told)
    assert standing_of(text, is_whole=True) == known
    assert standing_of("{}", is_whole=True) == {}
