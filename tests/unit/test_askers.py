from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbscast.subjects import decode_token, encode_token
from pbscast_fanout.askers import Asker, Role, named_in

SITES = st.frozensets(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,5}", fullmatch=True), max_size=3)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
PEOPLE = [role for role in Role if role is not Role.SERVICE]
ASKERS = st.builds(Asker, st.sampled_from(PEOPLE), NAMES, SITES, SITES)


@given(ASKERS)
def test_a_subject_says_who_asks(asker: Asker) -> None:
    found = Asker.parse(f"{asker.subject}.history")
    assert found is not None
    assert (found.role, found.name, found.open_sites) == (
        asker.role,
        asker.name,
        asker.open_sites,
    )
    assert found.sites == (asker.sites | asker.open_sites if asker.sites else frozenset())


@given(ASKERS, ASKERS)
def test_owners_are_told_apart(one: Asker, other: Asker) -> None:
    same = (one.role, one.name) == (other.role, other.name)
    assert (one.owner == other.owner) is same
    assert "." not in one.owner


@given(ASKERS, ASKERS)
def test_what_is_made_for_one_is_of_no_use_with_other_rights(one: Asker, other: Asker) -> None:
    parsed = [Asker.parse(f"{asker.subject}.history") for asker in (one, other)]
    assert [asker and asker.pass_name for asker in parsed] == [one.pass_name, other.pass_name]
    assert (one.pass_name == other.pass_name) is (one.subject == other.subject)


@given(ASKERS, st.integers(1, 99))
def test_a_consumers_name_says_whose_it_is(asker: Asker, number: int) -> None:
    assert named_in(asker.slot(number)) == (asker.owner, asker.rights, number)


@pytest.mark.parametrize("name", ["user-alice-1", "a" * 32, "service-alice-8adf3844-1", "reader-1"])
def test_other_consumers_are_nobodys(name: str) -> None:
    assert named_in(name) is None


@pytest.mark.parametrize(
    "subject",
    [
        "pbscast.v1.history",
        "pbscast.v1.as.user.-.alice",
        "pbscast.v1.as.user.-.alice.history.more",
        "pbscast.v1.as.root.-.alice.history",
        "pbscast.v1.as.service.-.alice.history",
        "pbscast.v1.as.user.-.-.history",
        "pbscast.v1.as.user.+.alice.history",
        "pbscast.v1.as.user.-.ali%zzce.history",
        "pbscast.v1.as.user.-.%61lice.history",
    ],
)
def test_what_the_server_has_not_made_is_nobodys(subject: str) -> None:
    assert Asker.parse(subject) is None


@given(st.text(max_size=30))
def test_tokens_are_decoded(text: str) -> None:
    assert decode_token(encode_token(text)) == text
