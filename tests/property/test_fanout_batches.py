from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pbscast import wire
from pbscast.requests import EventResponse
from pbscast_fanout.answers import fitting, join, piece
from pbscast_fanout.batches import Message, compose
from pbscast_fanout.fences import HEADROOM, split
from pbscast_store.records import Record

RECORD = Record(
    site="sitea",
    position=1,
    time=datetime(2026, 1, 2, tzinfo=UTC),
    kind="job",
    id="1.sitea",
    incarnation=1,
    revision=1,
    event="modify",
    provenance="journal",
    owner="alice",
    payload="{}",
    logged=datetime(2026, 1, 2, tzinfo=UTC),
    digest=None,
)

json_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)
payloads = st.fixed_dictionaries(
    {"changed": st.dictionaries(json_text, json_text, max_size=20)},
    optional={
        "owner": json_text,
        "removed": st.lists(json_text, max_size=20),
        "columns": st.dictionaries(json_text, json_text, max_size=5),
    },
)


def message(size: int) -> Message:
    return Message(RECORD, "pbs.v1.sitea.job.alice.1/sitea.-.modify", b"x" * size, cut=False)


def record_of(payload: dict[str, object], position: int = 1) -> Record:
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return replace(RECORD, payload=text, position=position)


@given(
    sizes=st.lists(st.integers(0, 20_000), max_size=60),
    max_messages=st.integers(1, 10),
    max_bytes=st.integers(1, 50_000),
)
def test_splitting_keeps_order_and_bounds(
    sizes: list[int], max_messages: int, max_bytes: int
) -> None:
    messages = [message(size) for size in sizes]
    batches = list(split(messages, max_messages=max_messages, max_bytes=max_bytes))
    assert [item for batch in batches for item in batch] == messages
    for batch in batches:
        size = sum(len(item.body) + HEADROOM for item in batch)
        assert 1 <= len(batch) <= max_messages
        assert size <= max_bytes or len(batch) == 1


@given(payload=payloads, limit=st.integers(1_000, 8_000))
def test_an_event_always_fits_and_stays_an_event(payload: dict[str, object], limit: int) -> None:
    record = record_of(payload)
    composed = compose(record, limit + HEADROOM)
    assert composed.cut == (len(record.encode()) > limit)
    assert len(composed.body) <= limit
    event, full = json.loads(composed.body)["data"], json.loads(record.encode())["data"]
    assert wire.decode(composed.body).position == 1
    assert composed.cut == ("omitted" in event)
    for name, value in event.get("changed", {}).items():
        assert full["changed"][name] == value
    if event.get("omitted", ["*"]) != ["*"]:
        kept = {*event["changed"], *event.get("columns", {}), *event["omitted"]}
        assert kept == {*full["changed"], *full.get("columns", {})}


@given(sizes=st.lists(st.integers(0, 500), min_size=1, max_size=50), room=st.integers(500, 5_000))
def test_as_many_events_as_fit_are_answered(sizes: list[int], room: int) -> None:
    bodies = [b'"' + b"x" * size + b'"' for size in sizes]
    count = fitting(bodies, room)
    answer = join("events", bodies[:count], None)
    assert count >= 1
    assert len(answer) <= room + 100
    assert count == len(bodies) or len(join("events", bodies[: count + 1], None)) > room
    assert json.loads(answer) == {"events": ["x" * size for size in sizes[:count]], "next": None}


@given(text=st.text(st.characters(codec="utf-8", min_codepoint=32)), room=st.integers(68, 300))
def test_pieces_fit_and_join(text: str, room: int) -> None:
    joined, offset = "", 0
    while True:
        answer = piece(text, offset, room)
        assert len(answer) <= room
        response = EventResponse.model_validate_json(answer)
        joined += response.text
        if response.next is None:
            break
        offset = response.next
    assert joined == text
