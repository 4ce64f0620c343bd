from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pbscast.errors import AccessDeniedError
from pbscast.events import Site
from pbscast.requests import DelivererStatus, PublisherState, SiteStatus, StatusResponse
from pbscast.selection import Selection
from pbscast_fanout.askers import Asker, Role
from pbscast_fanout.rights import confined, visible_status

ALICE = Asker(Role.USER, "alice", frozenset({"sitea", "siteb"}), frozenset({"siteb"}))
NOW = datetime(2026, 11, 22, tzinfo=UTC)
STATUS = StatusResponse(
    worker="host:1",
    error="NATS at n1:4222 cannot be reached",
    sites=tuple(
        SiteStatus(
            site=Site(name),
            state=PublisherState.RETRYING,
            logged=9,
            published=8,
            since=NOW,
            error="the log at l1 cannot be reached",
        )
        for name in ("sitea", "sitec")
    ),
    deliveries=tuple(
        DelivererStatus(
            site=Site(name),
            state=PublisherState.CURRENT,
            delivered=8,
            subscriptions=70,
            joining=1,
            since=NOW,
        )
        for name in ("sitea", "sitec")
    ),
)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sites": ("sitec",)}, "sites: sitec: alice may see sitea, siteb alone"),
        ({"sites": ("sitea", "x")}, "sites: x: alice may see sitea, siteb alone"),
        ({"sites": ("sitec",), "kind": "queue"}, "sites: sitec: alice may see"),
        (
            {"sites": ("sitea",), "owners": ("alice", "bob")},
            "owners: bob: alice may see his own jobs alone",
        ),
    ],
)
def test_who_asks_for_others_by_name_is_refused(asked: dict[str, object], words: str) -> None:
    with pytest.raises(AccessDeniedError) as refusal:
        confined(ALICE, Selection.model_validate(asked))
    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"owners": ("bob",)},
        {"owners": ("bob",), "sites": ("sitea", "siteb")},
        {"owners": ("alice",), "sites": ("sitea",)},
        {"owners": ("root",), "sites": ("sitea",), "kind": "resv"},
    ],
)
def test_the_rest_is_confined(asked: dict[str, object]) -> None:
    confines = confined(ALICE, Selection.model_validate(asked)).confines
    seen = {
        (site, kind, owner)
        for site in ("sitea", "siteb", "sitec")
        for kind in ("job", "queue")
        for owner in ("alice", "bob", None)
        if confines.includes(site, kind, owner)
    }
    assert seen == {
        ("sitea", "job", "alice"),
        *(("siteb", "job", owner) for owner in ("alice", "bob", None)),
        *((site, "queue", o) for site in ("sitea", "siteb") for o in ("alice", "bob", None)),
    }


def test_a_user_is_told_how_far_his_sites_are_and_nothing_of_those_who_operate_them() -> None:
    seen = visible_status(ALICE, STATUS)
    assert [(site.site, site.published, site.lag, site.error) for site in seen.sites] == [
        ("sitea", 8, 1, None)
    ]
    assert (seen.worker, seen.error, seen.deliveries) == ("", None, ())


def test_others_are_told_all_of_their_sites() -> None:
    seen = visible_status(Asker(Role.OPERATOR, "olga", frozenset({"sitea"})), STATUS)
    assert (seen.worker, seen.error) == (STATUS.worker, STATUS.error)
    assert (seen.sites, seen.deliveries) == (STATUS.sites[:1], STATUS.deliveries[:1])
    assert visible_status(Asker(Role.AUDITOR, "ada"), STATUS) == STATUS
    assert visible_status(None, STATUS) is STATUS
