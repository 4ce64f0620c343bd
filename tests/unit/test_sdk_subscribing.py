"""Requests for subscriptions: checked here, and in parts that fit into a message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbscast.errors import UsageError
from pbscast.subscribing import (
    check_key,
    check_place,
    modify_request,
    split_modify,
    split_subscribe,
    subscribe_request,
)
from pbscast.subscriptions import ModifyRequest, SubscribeRequest

ROOM = 3000


def _size(request: SubscribeRequest | ModifyRequest) -> int:
    return len(request.model_dump_json(exclude_defaults=True).encode())


def test_one_value_stands_for_a_list_and_each_gets_an_id_of_its_own() -> None:
    request = subscribe_request("19.sitea", {"owners": "alice", "where": "exists comment"})
    assert request.ids == ("19.sitea",)
    assert request.owners == ("alice",)
    assert request.id != subscribe_request("19.sitea", {}).id


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"states": "Z"}, "unknown state 'Z'"),
        ({"owners": ()}, "owners: give at least one"),
        ({"lease": 1}, "lease: has to be at least 10, in seconds"),
        ({"delivery": "at-most-once", "shared": True}, "shared: .* another process"),
        ({"events": "purge"}, "events: 'purge'"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(options: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        subscribe_request(None, options)  # type: ignore[arg-type]


def test_what_a_program_kept_is_checked() -> None:
    assert check_place(json.loads('{"sitea": [4, 40]}')) == {"sitea": (4, 40)}
    for place in ([1], {"sitea": 4}, {"sitea": ["x", 1]}):
        with pytest.raises(UsageError, match="place: not what"):
            check_place(place)  # type: ignore[arg-type]
    for key in ("", "*", "0" * 31, "A" * 32):
        with pytest.raises(UsageError, match="not the id of a subscription"):
            check_key(key)


def test_ids_have_to_be_complete() -> None:
    with pytest.raises(UsageError, match="lacks its server"):
        subscribe_request("19", {})


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=400))
def test_parts_fit_and_make_the_whole(numbers: set[int]) -> None:
    ids = tuple(f"{number}.sité" for number in numbers)
    whole = subscribe_request(ids, {"queues": ("workq", "fast")})
    first, parts = split_subscribe(whole, ROOM)
    every: list[SubscribeRequest | ModifyRequest] = [first, *parts]
    assert all(_size(part) <= ROOM for part in every)
    assert tuple(job for part in parts for job in part.add_ids) == ids[len(first.ids) :]
    assert first.ids == ids[: len(first.ids)]
    assert [part.more for part in every] == [*[True] * len(parts), False]
    assert first.model_copy(update={"ids": ids, "more": False}) == whole


@given(st.integers(0, 300), st.integers(1, 300), st.booleans())
def test_a_change_in_parts(added: int, removed: int, attributes: bool) -> None:  # noqa: FBT001
    add, remove = (
        [f"{number}.{site}" for number in range(count)]
        for site, count in (("sitea", added), ("siteb", removed))
    )
    whole = modify_request("s", add, remove, ["comment"] if attributes else None)
    parts = split_modify(whole, ROOM)
    assert all(_size(part) <= ROOM for part in parts)
    assert [job for part in parts for job in part.add_ids] == add
    assert [job for part in parts for job in part.remove_ids] == remove
    assert parts[-1].attributes == (("comment",) if attributes else None)
    assert [part.more for part in parts] == [*[True] * (len(parts) - 1), False]


def test_what_does_not_fit_without_ids_is_refused() -> None:
    ids = [f"{number}.sitea" for number in range(100)]
    whole = subscribe_request(ids, {"owners": [f"user{number}" for number in range(200)]})
    with pytest.raises(UsageError, match="too large for the NATS server"):
        split_subscribe(whole, ROOM)
