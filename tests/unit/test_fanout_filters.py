from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbscast.errors import AccessDeniedError, UsageError
from pbscast.events import Kind
from pbscast.subjects import covers, event_subject, intersection, is_covered, mark_subject
from pbscast_fanout.askers import Asker, Role
from pbscast_fanout.filters import check_filters, narrowed

SITES = ("sitea", "siteb", "x.y")
NAMES = ("alice", "bob", "a.b", "")
KINDS = tuple(Kind)
ASKERS = st.builds(
    Asker,
    st.sampled_from([Role.USER, Role.OPERATOR, Role.AUDITOR]),
    st.sampled_from([name for name in NAMES if name]),
    st.frozensets(st.sampled_from(SITES), max_size=2),
).flatmap(
    lambda asker: st.builds(
        Asker,
        st.just(asker.role),
        st.just(asker.name),
        st.just(asker.sites),
        st.frozensets(st.sampled_from(sorted(asker.sites or SITES)), max_size=2),
    )
)
EVERY = [
    *(mark_subject(site) for site in SITES),
    *(
        event_subject(site=site, kind=kind, object_id=name, event=event, owner=owner)
        for site in SITES
        for kind in KINDS
        for name in ("1.sitea", "6[2].sitea", "job", "alice")
        for event in ("state", "modify")
        for owner in (NAMES if kind is Kind.JOB else ("",))
    ),
]
"""A subject of each form."""
ALIKE = st.sampled_from(EVERY).flatmap(
    lambda subject: st.tuples(
        *(st.sampled_from([token, token, "*"]) for token in subject.split(".")[2:]),
    ).flatmap(
        lambda tokens: st.sampled_from(
            [
                ".".join(["pbs", "v1", *tokens]),
                *(
                    ".".join(["pbs", "v1", *tokens[:length], ">"])
                    for length in range(len(tokens) + 1)
                ),
            ]
        )
    )
)
"""Filters of which each matches something."""


def may_see(asker: Asker, subject: str) -> bool:
    """In other words than the code's."""
    _, _, site, *rest = subject.split(".")
    named = {"x%2Ey": "x.y"}.get(site, site)
    if asker.sites and named not in asker.sites:
        return False
    if asker.role is not Role.USER or rest[0] != "job" or named in asker.open_sites:
        return True
    return rest[1] == {"a.b": "a%2Eb"}.get(asker.name, asker.name)


@given(ASKERS, st.lists(ALIKE, min_size=1, max_size=4, unique=True))
def test_of_what_is_asked_for_what_may_be_seen_is_left_and_nothing_else(
    asker: Asker, subjects: list[str]
) -> None:
    seen = {one: [s for s in EVERY if covers([one], s) and may_see(asker, s)] for one in subjects}
    check_filters(subjects)
    try:
        left = narrowed(asker, subjects)
    except AccessDeniedError as error:
        [refused] = [one for one in subjects if str(error).startswith(f"{one}: ")]
        assert not seen[refused]
        return
    assert {s for s in EVERY if covers(left, s)} == {s for own in seen.values() for s in own}
    assert not any(is_covered(one, other) for one in left for other in left if one != other)


@given(ASKERS, ALIKE)
def test_what_may_be_seen_wholly_is_left_as_it_is(asker: Asker, subject: str) -> None:
    try:
        [left] = narrowed(asker, narrowed(asker, [subject])[:1])
    except AccessDeniedError:
        return
    assert (left,) == narrowed(asker, [left])


@pytest.mark.parametrize(
    "subject",
    ["pbs.v1.*.job.alice.>", "pbs.v1.sitea.queue.>", "pbs.v1.*.*.*.modify", "pbs.v1.*.mark"],
)
def test_what_people_write_stays(subject: str) -> None:
    assert narrowed(Asker(Role.USER, "alice"), [subject]) == (subject,)


def test_a_job_is_asked_for_without_its_owner() -> None:
    asked = ["pbs.v1.*.job.*.1/sitea.-.*"]
    assert narrowed(Asker(Role.USER, "alice"), asked) == ("pbs.v1.*.job.alice.1/sitea.-.*",)


@pytest.mark.parametrize(
    "subject",
    [
        *("pbs.v1.*.job.bob.>", "pbs.v1.sitea.job.bob.*.*.*", "pbs.v1.*.job.-.>"),
        *("pbs.v1.siteb.>", "pbs.v1.siteb.mark", "pbs.v1.siteb.job.alice.>", "pbs.v1.sitea.job"),
    ],
)
def test_what_is_others_is_refused(subject: str) -> None:
    alice = Asker(Role.USER, "alice", frozenset({"sitea"}))
    with pytest.raises(AccessDeniedError):
        narrowed(alice, ["pbs.v1.sitea.queue.>", subject])


def test_who_may_see_all_of_some_sites_asks_for_one_owner_everywhere() -> None:
    olga = Asker(Role.OPERATOR, "olga", frozenset({"sitea"}))
    assert narrowed(olga, ["pbs.v1.*.job.bob.>"]) == ("pbs.v1.sitea.job.bob.>",)


def test_who_may_see_everything_is_told_what_he_asks_for() -> None:
    assert narrowed(Asker(Role.AUDITOR, "ada"), ["pbs.v1.>"]) == ("pbs.v1.>",)


def test_a_refusal_says_what_may_be_seen() -> None:
    alice = Asker(Role.USER, "alice", frozenset({"sitea"}))
    with pytest.raises(AccessDeniedError) as refusal:
        narrowed(alice, ["pbs.v1.sitea.job.alice.>", "pbs.v1.*.job.bob.>"])
    assert str(refusal.value) == (
        "pbs.v1.*.job.bob.>: nothing of that is alice's to see, who may see"
        " pbs.v1.sitea.job.alice.*.*.*, pbs.v1.sitea.*.*.*, pbs.v1.sitea.mark"
    )


def test_one_request_is_not_divided_without_end() -> None:
    many = Asker(Role.OPERATOR, "olga", frozenset(f"site{number}" for number in range(10)))
    with pytest.raises(UsageError, match="more than 256 filters"):
        narrowed(many, [f"pbs.v1.*.job.*.{number}/s.-.*" for number in range(30)])


@pytest.mark.parametrize(
    "subject",
    [
        *("", "pbs", "pbs.v1", "other.>", ">", "*.v1.>", "pbs.v1..job.>", "pbs.v1.>.job"),
        *("pbs.v1.a b", "pbs.v1.s\n", "pbs.v1.al*.>", "pbs.v1.job>", "pbs.v1.s\x00"),
    ],
)
def test_what_is_no_filter_of_the_stream_is_refused(subject: str) -> None:
    with pytest.raises(UsageError, match="is no filter of the stream"):
        check_filters(["pbs.v1.>", subject])


@given(ALIKE, ALIKE)
def test_an_intersection_matches_what_both_do(one: str, other: str) -> None:
    both = intersection(one, other)
    assert both == intersection(other, one)
    matched = [s for s in EVERY if covers([one], s) and covers([other], s)]
    assert matched == ([] if both is None else [s for s in EVERY if covers([both], s)])
