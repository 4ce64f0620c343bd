"""What the owner of a subscription may see, and whether he has lost some of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbscast.errors import AccessDeniedError, ConflictError
from pbscast.subscriptions import Delivery, SubscribeRequest
from pbscast_fanout.askers import SLOTS, Asker, Role
from pbscast_fanout.subscriptions import quotas
from pbscast_fanout.subscriptions.definitions import Definition, Head, draft_new
from pbscast_fanout.subscriptions.owners import Owner

SITES = ("sitea", "siteb", "sitec")
_SOME = st.sets(st.sampled_from(SITES)).map(frozenset)
USERS = st.builds(
    lambda sites, opened: Asker(Role.USER, "alice", sites | opened if sites else sites, opened),
    _SOME,
    _SOME,
)
OTHERS = st.builds(Asker, st.sampled_from([Role.OPERATOR, Role.AUDITOR]), st.just("alice"), _SOME)
ASKERS = USERS | OTHERS


def sees(owner: Owner, site: str, job_owner: str) -> bool:
    return owner.covers(site) and owner.only_at(site) in (None, job_owner)


@given(ASKERS)
def test_a_head_keeps_who_asked(asker: Asker) -> None:
    owner = Owner.of(asker)
    assert (owner.token, owner.slot(3)) == (asker.owner, asker.slot(3))
    assert owner.pass_name == asker.pass_name
    body = draft_new(SubscribeRequest(), 4096, owner, 3).body
    head = Head.decode(body)
    assert (head.owner, head.slot) == (owner, 3)
    assert head.consumer("a" * 32) == asker.slot(3)


@given(st.tuples(USERS, USERS) | st.tuples(OTHERS, OTHERS), st.sets(st.sampled_from(SITES)))
def test_who_may_see_all_that_he_could_before(
    rights: tuple[Asker, Asker], confined: set[str]
) -> None:
    before, after = rights
    old, new = Owner.of(before), Owner.of(replace(after, role=before.role))
    # A site that nobody has named stands for all of which there are many more.
    sites = confined or {*SITES, "another"}
    lost = [
        (site, job_owner)
        for site, job_owner in product(sites, ("alice", "bob"))
        if sees(old, site, job_owner) and not sees(new, site, job_owner)
    ]
    assert old.is_within(new, confined) == (not lost)


def test_a_site_beyond_ones_rights_is_refused_whether_there_is_one_or_not() -> None:
    owner = Owner(role=Role.AUDITOR, name="dora", sites=("siteb",))
    with pytest.raises(AccessDeniedError, match="sites: sitez: dora may see siteb alone"):
        owner.check_sites(["siteb", "sitez", "sitea"])
    Owner(role=Role.AUDITOR, name="dora").check_sites(["sitez"])


def test_where_messages_go() -> None:
    request = SubscribeRequest(delivery=Delivery.AT_MOST_ONCE)
    created = Head.decode(draft_new(request, 4096).body).created
    owner = Owner(role=Role.USER, name="a.b")
    one = Definition("k", request, 1, ended=False, created=created, owner=owner, slot=17)
    assert (one.address, one.consumer) == ("user-a%2Eb-8adf3844.k", None)


def test_slots_of_both_deliveries_differ() -> None:
    kept, live = (quotas.numbers(delivery) for delivery in Delivery)
    assert not set(kept) & set(live)
    assert max(kept) == SLOTS


def test_the_limits_of_one_person() -> None:
    many = Head.decode(draft_new(SubscribeRequest(where="x" * 4096), 9000).body)
    heads = [many.model_copy(update={"count": quotas.MOST_IDS_OWNED - 1})]
    quotas.check_ids("alice", heads, 1)
    with pytest.raises(ConflictError, match=r"ids: .* 200001 in all, more than 200000: end one"):
        quotas.check_ids("alice", heads, 2)
    quotas.check_where("alice", [many], "x" * 4096)
    quotas.check_where("alice", [many] * 2, None)
    with pytest.raises(ConflictError, match=r"where: .* 8193 characters in all, more than 8192"):
        quotas.check_where("alice", [many] * 2, "x")
