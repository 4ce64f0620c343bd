from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from pbscast.errors import (
    ConflictError,
    FencedError,
    NotFoundError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from pbscast_fanout.answers import parse_token
from pbscast_fanout.connection import where
from pbscast_fanout.jetstream import refused
from pbscast_fanout.settings import NatsSettings, StreamSettings
from pbscast_fanout.streams import Plan, check_ours, limits

OURS: dict[str, Any] = {"subjects": ["pbs.v1.>"], "storage": "file", "retention": "limits"}
PLAN = Plan("PBS", "pbs.v1.>", limits(StreamSettings()))


def test_limits_are_in_jetstreams_words() -> None:
    settings = StreamSettings(max_age=timedelta(hours=1), max_bytes=10**9, replicas=3)
    assert limits(settings) == {
        "allow_atomic": True,
        "allow_direct": True,
        "discard": "old",
        "max_msg_size": -1,
        "max_age": 3_600 * 10**9,
        "max_bytes": 10**9,
        "num_replicas": 3,
        "duplicate_window": 10 * 10**9,
    }


def test_no_limit_and_a_window_no_longer_than_the_stream() -> None:
    endless = limits(StreamSettings(max_age=None))
    assert (endless["max_age"], endless["max_bytes"]) == (0, -1)
    assert limits(StreamSettings(max_age=timedelta(seconds=2)))["duplicate_window"] == 2 * 10**9


def test_only_what_differs_is_changed() -> None:
    current = {**OURS, **PLAN.settings, "placement": {"cluster": "east"}}
    assert PLAN.changes(current) == {}
    assert PLAN.changes({**current, "max_bytes": 5}) == {"max_bytes": -1}


@pytest.mark.parametrize(
    ("key", "value"),
    [("subjects", ["orders.>"]), ("storage", "memory"), ("retention", "workqueue")],
)
def test_a_foreign_stream_is_refused_in_one_line(key: str, value: object) -> None:
    check_ours(PLAN, OURS)
    with pytest.raises(ConflictError, match=f"PBS that is not ours: its {key} is") as caught:
        check_ours(PLAN, {**OURS, key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (10071, FencedError),
        (10164, FencedError),
        (10158, FencedError),
        (10201, FencedError),
        (10059, NotFoundError),
        (10065, ConflictError),
        (10039, UnsupportedError),
        (10008, UnavailableError),
    ],
)
def test_refusals_have_a_meaning(code: int, kind: type[PbscastError]) -> None:
    error = refused({"err_code": code, "description": "because"}, "pbs.v1.sitea.mark")
    assert type(error) is kind
    assert str(error) == f"JetStream refuses pbs.v1.sitea.mark: because ({code})"


def test_addresses_are_shown_without_secrets() -> None:
    settings = NatsSettings(servers=("nats://bob:secret@n1:4223", "tls://n2", "n3:99"))
    assert where(settings) == "n1:4223, n2:4222, n3:99"


@pytest.mark.parametrize(
    "token", ["", "sitea", "[]", '{"sitea":-1}', '{"sitea":"1"}', '{"a":1e99}']
)
def test_a_strange_token_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="after"):
        parse_token(token)


@pytest.mark.parametrize("server", ["http://n1", "nats://", "nats://n1:port", "nats://n1:0", ""])
def test_an_address_that_is_none_is_refused_without_showing_it(server: str) -> None:
    with pytest.raises(ValidationError, match="server 2 is no NATS address") as caught:
        NatsSettings(servers=("nats://n1", server))
    assert "n1" not in caught.value.errors(include_input=False, include_url=False)[0]["msg"]
