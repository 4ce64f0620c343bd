"""What holds for every name, value and event."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from pbscast import wire
from pbscast.criteria import Criteria, aliases
from pbscast.events import Change, ChangePayload, Kind, escape, unescape
from pbscast.ids import JobId, split_subjob
from pbscast.subjects import (
    NONE,
    covers,
    encode_id,
    encode_token,
    event_subject,
    is_covered,
)

NAMES = st.text(min_size=0, max_size=12)
TRICKY = st.text(alphabet="-./%2D*> ab[]\\é\x00", min_size=0, max_size=8)
TEXTS = NAMES | TRICKY
STORED = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12) | TRICKY
JOB_IDS = st.builds(
    JobId,
    number=st.integers(0, 99),
    server=st.none() | st.sampled_from(["sitea", "pbs.example.org"]),
    is_array=st.booleans(),
    index=st.none(),
) | st.builds(
    JobId,
    number=st.integers(0, 99),
    server=st.none() | st.just("sitea"),
    is_array=st.just(value=False),
    index=st.integers(0, 9),
)
# NATS: no white space, no empty token, no wildcard, no dot inside a token.
LEGAL_TOKEN = re.compile(r"[!-~]+")


@given(TEXTS)
def test_tokens_are_legal_and_come_back(text: str) -> None:
    for encode in (encode_token, encode_id):
        token = encode(text)
        assert LEGAL_TOKEN.fullmatch(token)
        assert not set(token) & set(".*>")
        assert decoded(token.replace("/", ".") if encode is encode_id else token) == text


def decoded(token: str) -> str:
    """As a client in any language gets the name back."""
    return "" if token == NONE else unquote(token, errors="surrogatepass")


@given(TEXTS, TEXTS)
def test_different_names_never_share_a_token(one: str, other: str) -> None:
    assert (encode_token(one) == encode_token(other)) == (one == other)
    assert (encode_id(one) == encode_id(other)) == (one == other)


@given(site=TEXTS, owner=TEXTS, name=TEXTS, other=st.tuples(TEXTS, TEXTS, TEXTS))
def test_different_jobs_never_share_a_subject(
    site: str, owner: str, name: str, other: tuple[str, str, str]
) -> None:
    subject = event_subject(site=site, kind="job", object_id=name, event="state", owner=owner)
    twin = event_subject(
        site=other[0], kind="job", object_id=other[2], event="state", owner=other[1]
    )
    assert subject.count(".") == 7
    assert decoded(subject.split(".")[2]) == site
    assert (subject == twin) == ((site, owner, name) == other)


@given(JOB_IDS)
def test_job_ids_come_back(job_id: JobId) -> None:
    assert JobId.parse(str(job_id)) == job_id


@given(st.binary(max_size=40) | st.text(alphabet="\\x41é", max_size=20).map(str.encode))
def test_escaped_bytes_come_back(raw: bytes) -> None:
    text, escaped = escape(raw)
    assert (unescape(text) if escaped else text.encode()) == raw


@given(
    site=STORED.filter(bool),
    name=STORED,
    owner=st.none() | STORED,
    changed=st.dictionaries(STORED, STORED, max_size=4),
    removed=st.lists(STORED, max_size=3),
    substate=st.none() | st.integers(-1, 200),
    position=st.integers(1, 2**62),
    time=st.datetimes(
        min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - as above
        timezones=st.just(UTC),
    ),
)
def test_the_wire_form_is_canonical_and_comes_back(
    *,
    site: str,
    name: str,
    owner: str | None,
    changed: dict[str, str],
    removed: list[str],
    substate: int | None,
    position: int,
    time: datetime,
) -> None:
    payload = ChangePayload(owner=owner, changed=changed, removed=tuple(removed), substate=substate)
    body = wire.encode(
        site=site,
        position=position,
        time=time,
        kind="job",
        object_id=name,
        incarnation=1,
        revision=1,
        event="state",
        provenance="journal",
        payload=wire.encode_payload(payload),
    )
    event = wire.decode(body)
    assert isinstance(event, Change)
    assert (event.site, event.id, event.position, event.time) == (site, name, position, time)
    assert (event.owner, event.changed, event.removed) == (owner, changed, tuple(removed))
    assert wire.encode_event(event) == body
    # Whoever takes the object apart and puts it together compactly gets the same bytes.
    again = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":"))
    assert again.encode() == body


CRITERIA = st.fixed_dictionaries(
    {},
    optional={
        "job_ids": st.lists(JOB_IDS.map(str), min_size=1, max_size=30),
        "sites": st.lists(st.sampled_from(["sitea", "siteb", "c.d"]), min_size=1),
        "owners": st.lists(st.sampled_from(["alice", "b.ob", "-"]), min_size=1),
        "queues": st.just(["workq"]),
        "states": st.just(["R"]),
        "kinds": st.lists(st.sampled_from(["job", "node", "site"]), min_size=1),
        "events": st.lists(st.sampled_from(["state", "finalize", "modify", "gap"]), min_size=1),
    },
)


def an_event(
    site: str, kind: str, name: str, event: str, owner: str | None, queue: str, state: str
) -> Change:
    return Change.model_validate(
        {
            "site": site,
            "position": 1,
            "time": datetime(2026, 1, 1, tzinfo=UTC),
            "kind": kind,
            "id": name,
            "incarnation": 1,
            "revision": 1,
            "event": event,
            "provenance": "journal",
            "owner": owner if kind == Kind.JOB else None,
            "queue": queue,
            "state": state,
        }
    )


EVENTS = st.builds(
    an_event,
    site=st.sampled_from(["sitea", "siteb", "c.d"]),
    kind=st.sampled_from(["job", "node"]),
    name=JOB_IDS.filter(lambda job_id: job_id.server is not None).map(str),
    event=st.sampled_from(["state", "modify", "submit"]),
    owner=st.sampled_from(["alice", "b.ob", "-", None]),
    queue=st.sampled_from(["workq", "long"]),
    state=st.sampled_from(["R", "Q"]),
)


@given(options=CRITERIA, event=EVENTS)
def test_the_servers_filters_let_through_whatever_matches(
    options: dict[str, Any], event: Change
) -> None:
    criteria = Criteria.of(options.pop("job_ids", None), **options)
    filters = criteria.filters()
    if criteria.matches(event):
        assert covers(filters.subjects, event.subject)


@given(options=CRITERIA)
def test_filters_are_few_and_do_not_overlap(options: dict[str, Any]) -> None:
    subjects = Criteria.of(options.pop("job_ids", None), **options).filters().subjects
    assert 1 <= len(subjects) <= 50
    assert not any(is_covered(one, other) for one in subjects for other in subjects if one != other)


@given(JOB_IDS)
def test_a_job_is_meant_by_its_aliases(job_id: JobId) -> None:
    text = str(job_id)
    parent, _ = split_subjob(text)
    assert {text, text.partition(".")[0], parent, parent.partition(".")[0]} == set(aliases(text))
