from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pbscast.errors import UsageError
from pbscast.subjects import event_subject
from pbscast_deploy.auth.keys import Key, Kind
from pbscast_deploy.auth.layout import (
    Policy,
    Principal,
    asker_in,
    pbs_account,
    personal_account,
)
from pbscast_fanout.askers import Role

PBS, SIGNER = Key.make(Kind.ACCOUNT).public, Key.make(Kind.ACCOUNT).public

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
sites = st.lists(st.sampled_from(("sitea", "siteb", "b-1")), max_size=2, unique=True)


@st.composite
def principals(draw: st.DrawFn) -> Principal:
    role = draw(st.sampled_from([role for role in Role if role is not Role.SERVICE]))
    chosen = tuple(draw(sites)) or (("sitea",) if role is Role.OPERATOR else ())
    return Principal(draw(names), role, chosen)


def imports(principal: Principal) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = personal_account(principal, Policy(), PBS, SIGNER)["imports"]
    return found


def overlap(one: str, other: str) -> bool:
    """Whether there is a subject that both match."""
    for left, right in zip(one.split("."), other.split("."), strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return one.count(".") == other.count(".")


@given(principals(), principals())
@settings(max_examples=25, deadline=None)
def test_no_two_persons_share_what_they_can_send_to(one: Principal, other: Principal) -> None:
    assume((one.name, one.role) != (other.name, other.role))
    assert one.account != other.account
    others = imports(other)
    for mine in imports(one):
        for theirs in others:
            if "service" in (mine["type"], theirs["type"]) or "live" in mine["subject"]:
                assert not overlap(mine["subject"], theirs["subject"])


@given(names, names, sites)
@settings(max_examples=25, deadline=None)
def test_a_user_sees_no_job_of_another(one: str, other: str, chosen: list[str]) -> None:
    assume(one != other)
    streams = [
        item["subject"]
        for item in imports(Principal(one, Role.USER, tuple(chosen)))
        if item["type"] == "stream"
    ]
    for site in ("sitea", "siteb", "b-1", "sitec"):
        for owner in (one, other):
            subject = event_subject(
                site=site, kind="job", object_id="1.s", event="state", owner=owner
            )
            is_seen = any(overlap(stream, subject) for stream in streams)
            assert is_seen == (owner == one and (not chosen or site in chosen))


@given(principals())
@settings(max_examples=25, deadline=None)
def test_of_jetstream_persons_can_pull_and_acknowledge_alone(principal: Principal) -> None:
    allowed = ("$JS.hub.API.CONSUMER.MSG.NEXT.", "$JS.ACK.PBS_DELIVERIES.", "pbscast.v1.as.")
    account = personal_account(principal, Policy(), PBS, SIGNER)
    for item in account["imports"]:
        if item["type"] == "service":
            assert item["subject"].startswith(allowed)
            assert (
                not item["subject"].startswith("$")
                or principal.name.split(".")[0] in (item["subject"])
            )
    assert account["exports"] == []
    assert "disk_storage" not in account["limits"]


@given(principals())
@settings(max_examples=25, deadline=None)
def test_imports_are_of_what_is_exported(principal: Principal) -> None:
    exports = [(item["subject"], item["type"]) for item in pbs_account(SIGNER)["exports"]]
    for item in imports(principal):
        assert any(
            overlap(item["subject"], subject) and item["type"] == kind for subject, kind in exports
        )


@pytest.mark.parametrize("name", ["", "a b", "*", ">", "a*", "-a", ".a", "a\n", "{{name()}}", "é"])
def test_a_name_that_would_mean_something_in_a_subject_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        Principal(name, Role.USER)


def test_sites_fit_the_role() -> None:
    with pytest.raises(UsageError, match="name them"):
        Principal("carol", Role.OPERATOR)
    with pytest.raises(UsageError, match="name none"):
        Principal("pbscastd", Role.SERVICE, ("sitea",))


def test_the_services_are_told_who_asks() -> None:
    closed, of_sites = Policy(), Policy({"sitea": True, "siteb": False})
    alice, operator = Principal("a.b", Role.USER), Principal("carol", Role.OPERATOR, ("siteb",))
    confined = Principal("alice", Role.USER, ("siteb",))
    assert alice.asker(closed).subject == "pbscast.v1.as.user.-.a%2Eb"
    assert alice.asker(of_sites).subject == "pbscast.v1.as.user.siteb,sitea+.a%2Eb"
    assert confined.asker(of_sites).subject == "pbscast.v1.as.user.siteb.alice"
    for policy in (closed, of_sites):
        assert operator.asker(policy).subject == "pbscast.v1.as.operator.siteb.carol"


@given(names, sites, st.dictionaries(st.sampled_from(("sitea", "siteb")), st.booleans()))
@settings(max_examples=25, deadline=None)
def test_what_a_user_sees_comes_once_and_is_what_the_services_are_told(
    name: str, chosen: list[str], decided: dict[str, bool]
) -> None:
    user = Principal(name, Role.USER, tuple(chosen))
    account = personal_account(user, Policy(decided), PBS, SIGNER)
    streams = [item["subject"] for item in account["imports"] if item["type"] == "stream"]
    asker = user.asker(Policy(decided))
    for site in ("sitea", "siteb", "b-1"):
        for owner in (name, f"{name}x"):
            subject = event_subject(
                site=site, kind="job", object_id="1.s", event="state", owner=owner
            )
            is_within = not asker.sites or site in asker.sites
            is_seen = is_within and (owner == name or site in asker.open_sites)
            assert sum(overlap(stream, subject) for stream in streams) == is_seen
            assert (site in asker.open_sites) <= decided.get(site, False)


@given(principals(), *[st.dictionaries(st.sampled_from(("sitea", "siteb")), st.booleans())] * 2)
@settings(max_examples=25, deadline=None)
def test_with_other_rights_one_reaches_nothing_that_was_made_before(
    principal: Principal, before: dict[str, bool], after: dict[str, bool]
) -> None:
    policies = Policy(before), Policy(after)
    askers = [principal.asker(policy) for policy in policies]
    reached = [
        {
            item["subject"]
            for item in personal_account(principal, policy, PBS, SIGNER)["imports"]
            if item["subject"].startswith(("$JS.", "pbscast.live."))
        }
        for policy in policies
    ]
    if askers[0] == askers[1]:
        assert reached[0] == reached[1]
    else:
        assert not reached[0] & reached[1]
    assert [asker_in({"nats": {"imports": imports(principal)}})] == [principal.asker(Policy())]
