from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from pbscast.errors import ConflictError, DecodeError, NotFoundError, UsageError
from pbscast.events import Kind
from pbscast.subscriptions import MOST_IDS, ModifyRequest, SubscribeRequest
from pbscast_fanout.subscriptions.definitions import (
    Definition,
    Draft,
    Head,
    check_id,
    define,
    draft,
    draft_new,
    is_id,
    modified,
    new_id,
    origin_of,
    pack,
    unpack,
)

ROOM = 1 << 20
KEY = "0123456789abcdef0123456789abcdef"
MANY = tuple(f"{number}.sitea.example.org" for number in range(20_000))


def wanting(**fields: Any) -> SubscribeRequest:
    return SubscribeRequest.model_validate(fields)


def changing(**fields: Any) -> ModifyRequest:
    return ModifyRequest.model_validate({"id": KEY, **fields})


def read_back(drafted: Draft, before: dict[str, bytes] | None = None) -> Definition:
    parts = {**(before or {}), **drafted.parts}
    head = Head.decode(drafted.body)
    return define(KEY, 7, head, [parts[name] for name in head.parts])


def after(request: SubscribeRequest, **fields: Any) -> SubscribeRequest:
    return modified(read_back(draft_new(request, ROOM)), changing(**fields))


@pytest.mark.parametrize("ids", [(), ("1.sitea",), MANY])
def test_what_is_kept_is_what_was_asked_for(ids: tuple[str, ...]) -> None:
    request = wanting(id=KEY, ids=ids, where='state == "R"', attributes=["comment"], more=True)
    definition = read_back(draft_new(request, ROOM))
    assert definition.request == request
    assert (definition.id, definition.revision, definition.ended) == (KEY, 7, False)
    assert definition.more


def test_few_ids_are_in_the_head_and_many_in_parts() -> None:
    few, many = draft_new(wanting(ids=["1.sitea"]), ROOM), draft_new(wanting(ids=MANY), ROOM)
    assert json.loads(few.body)["request"] == {"ids": ["1.sitea"]}
    assert not few.parts
    assert Head.decode(many.body).count == len(MANY)
    assert len(many.body) < 1000
    assert len(many.parts) == 3


def test_each_message_fits() -> None:
    ids = tuple(f"{secrets.token_hex(100)}.sitea" for _ in range(100))
    drafted = draft_new(wanting(kinds=["resv"], ids=ids), 4096)
    assert all(len(body) <= 4096 for body in (drafted.body, *drafted.parts.values()))
    assert read_back(drafted).request.ids == ids


def test_a_change_rewrites_only_the_parts_that_change() -> None:
    first = draft_new(wanting(ids=MANY), ROOM)
    request = modified(read_back(first), changing(add_ids=["99999.sitea"]))
    second = draft(first.head, request, ROOM, first.parts)
    assert read_back(second, dict(first.parts)).request.ids == (*MANY, "99999.sitea")
    assert len(second.parts) == 1
    assert second.head.parts[:2] == first.head.parts[:2]


@pytest.mark.parametrize("count", [0, 1, 8191, 8192, 8193])
def test_packing_can_be_undone(count: int) -> None:
    assert unpack(pack(MANY[:count], 20_000)) == MANY[:count]


@pytest.mark.parametrize("body", [b"", b"x", b"x\x9c", b'{"request": {}}', b"[]"])
def test_what_is_no_head_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(DecodeError, match="not the head of a subscription: "):
        Head.decode(body)


def test_what_is_no_part_is_said_to_be_none() -> None:
    with pytest.raises(DecodeError, match="not a part of a subscription"):
        unpack([b"x"])


def test_what_a_newer_release_keeps_besides_is_ignored() -> None:
    body = json.loads(draft_new(wanting(), ROOM).body) | {"colour": "red"}
    assert Head.decode(json.dumps(body).encode()).request == wanting()


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"ids": ["1." + "s" * 1000] * 1 + [f"{n}." + "s" * 1000 for n in range(20_000)]}, "ids: "),
        ({"owners": ["x" * 1000] * 1000}, "request: .* bytes, more than NATS takes"),
    ],
)
def test_what_is_too_large_is_refused(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        draft_new(wanting(**given), 500_000)


def test_ids_are_not_guessed_and_are_one_token() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert all(is_id(new_id()) for _ in range(100))


@pytest.mark.parametrize("text", ["", "*", ">", "a.b", KEY + "\n", KEY[:21], "x" * 1024, KEY + "é"])
def test_no_other_subject_is_asked_for(text: str) -> None:
    with pytest.raises(NotFoundError, match="there is no subscription ") as raised:
        check_id(text)
    assert len(str(raised.value)) < 200
    assert "\n" not in str(raised.value)


def test_a_changed_request_has_another_origin() -> None:
    request = wanting(id=KEY, ids=["1.sitea"])
    assert origin_of(request) == origin_of(wanting(ids=["1.sitea"]))
    assert origin_of(request) != origin_of(wanting(ids=["1.sitea"], lease=60))


def test_ids_are_added_and_removed() -> None:
    request = wanting(ids=["1.sitea", "2.sitea", "3.sitea"])
    changed = after(request, add_ids=["4.sitea", "1.sitea"], remove_ids=["2.sitea", "9.sitea"])
    assert changed.ids == ("1.sitea", "3.sitea", "4.sitea")


def test_ids_are_compared_as_they_are_written() -> None:
    changed = after(wanting(ids=["1.sitea", "2.sitea"]), remove_ids=["0001.sitea"])
    assert changed.ids == ("2.sitea",)


def test_attributes_are_replaced() -> None:
    request = wanting(attributes=["comment"])
    assert after(request, attributes=["queue"]).attributes == ("queue",)
    assert after(request, attributes=[]).attributes == ()


def test_a_part_says_whether_more_follows() -> None:
    request = wanting(ids=["1.sitea"], more=True)
    assert after(request, add_ids=["2.sitea"], more=True).more
    assert not after(request, add_ids=["2.sitea"]).more
    assert after(request, attributes=["comment"]).more


@pytest.mark.parametrize(
    ("request_", "change", "fault"),
    [
        (wanting(), {"add_ids": ["1.sitea"]}, "add_ids: the subscription is not about given ids"),
        (wanting(), {"remove_ids": ["1.sitea"]}, "remove_ids: the subscription is not about"),
        (wanting(ids=["1.sitea"]), {"remove_ids": ["1.sitea"]}, "remove_ids: the last id cannot"),
        (wanting(ids=["1.sitea"]), {"add_ids": ["x.sitea"]}, "add_ids: illegally formed job"),
        (wanting(kinds=[Kind.SITE]), {"attributes": ["comment"]}, "attributes: capture's own"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    request_: SubscribeRequest, change: dict[str, Any], fault: str
) -> None:
    with pytest.raises(UsageError, match=fault):
        after(request_, **change)


def test_no_more_ids_than_are_allowed() -> None:
    request = wanting(ids=[f"{number}.a" for number in range(MOST_IDS)])
    with pytest.raises(UsageError, match="add_ids: 100001 ids in all, more than 100000"):
        after(request, add_ids=["100000.a"])
    assert after(request, add_ids=["100000.a"], remove_ids=["0.a"]).ids[-1] == "100000.a"


def test_what_has_ended_is_not_changed() -> None:
    head = draft_new(wanting(ids=["1.sitea"]), ROOM).head.model_copy(update={"ended": True})
    ended = define(KEY, 7, head, ())
    with pytest.raises(ConflictError, match="has ended: subscribe anew"):
        modified(ended, changing(add_ids=["2.sitea"]))
