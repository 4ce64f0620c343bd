from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pbscast import wire
from pbscast.deliveries import Passage
from pbscast.errors import ConflictError, NotFoundError, UsageError
from pbscast.events import AnyEvent, Change, Finalize, Gap, Incarnation
from pbscast.subscriptions import Filter
from pbscast_fanout.matching import Interest, Matcher, Objects, Past
from pbscast_fanout.matching.objects import Key

STANDING = {
    "owner": "alice",
    "queue": "workq",
    "project": "p1",
    "name": "fit7",
    "state": "R",
    "substate": 42,
}


def wanting(**fields: Any) -> Filter:
    return Filter.model_validate(fields)


class Site:
    """Matcher and objects, fed with one site's events."""

    def __init__(self, **filters: Filter) -> None:
        self.matcher = Matcher()
        self.objects = Objects(self.matcher.names)
        for key, criteria in filters.items():
            self.matcher.add(key, criteria)

    def tell(self, event: AnyEvent) -> dict[str, Passage]:
        found = self.matcher.match(event, self.objects.take(event))
        return {match.key: match.passage for match in found}


def header(**fields: Any) -> dict[str, Any]:
    return {
        "site": "sitea",
        "kind": "job",
        "id": "6[1].sitea",
        "position": 1,
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "incarnation": 1,
        "revision": 2,
        "provenance": "journal",
        **fields,
    }


def begun(**fields: Any) -> AnyEvent:
    first = {"event": "submit", "revision": 1}
    return Change(**header(**{**STANDING, **first, **fields}))


def change(event: str = "modify", **fields: Any) -> AnyEvent:
    return Change(event=event, **header(**{**STANDING, **fields}))  # type: ignore[arg-type]


def finalize(**fields: Any) -> AnyEvent:
    told = {**STANDING, "state": "F", "reason": "finished", **fields}
    return Finalize(event="finalize", **header(revision=9, **told))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("criteria", "is_told"),
    [
        ({}, True),
        ({"sites": ["sitea"]}, True),
        ({"sites": ["siteb"]}, False),
        ({"kinds": ["node"]}, False),
        ({"kinds": ["node", "job"]}, True),
        ({"ids": ["6[1].sitea"]}, True),
        ({"ids": ["6[].sitea"]}, True),
        ({"ids": ["6[2].sitea", "6.sitea"]}, False),
        ({"owners": ["bob", "alice"]}, True),
        ({"owners": ["bob"]}, False),
        ({"queues": ["workq"]}, True),
        ({"queues": ["express"]}, False),
        ({"projects": ["p1"]}, True),
        ({"projects": ["p2"]}, False),
        ({"names": ["fit7"]}, True),
        ({"names": ["fit"]}, False),
        ({"names": ["f?t*"]}, True),
        ({"names": ["run", "*7"]}, True),
        ({"names": ["fit[7]"]}, False),
        ({"states": ["R"]}, True),
        ({"states": ["Q"]}, False),
        ({"events": ["submit"]}, True),
        ({"events": ["usage"]}, False),
        ({"attributes": ["Resource_List"]}, True),
        ({"attributes": ["Resource_List.ncpus"]}, True),
        ({"attributes": ["Resource_List.mem", "Resource"]}, False),
        ({"where": 'Resource_List.ncpus >= 4 and state == "R"'}, True),
        ({"where": "Resource_List.ncpus > 4"}, False),
        ({"where": 'Account_Name == "x"'}, False),
        ({"where": 'queue == "workq" and name == "fit7"'}, True),
        ({"owners": ["alice"], "queues": ["express"]}, False),
    ],
)
def test_each_criterion(criteria: dict[str, Any], *, is_told: bool) -> None:
    site = Site(one=Filter.model_validate(criteria))
    told = site.tell(begun(changed={"Resource_List.ncpus": "4"}))
    assert told == ({"one": Passage.JOINED} if is_told else {})


def test_a_job_is_told_until_it_leaves_and_then_its_end() -> None:
    site = Site(workq=wanting(queues=("workq",)), express=wanting(queues=("express",)))
    assert site.tell(begun()) == {"workq": Passage.JOINED}
    assert site.tell(change("usage")) == {"workq": Passage.STAYED}
    moved = change("move", queue="express", changed={"queue": "express"})
    assert site.tell(moved) == {"workq": Passage.LEFT, "express": Passage.JOINED}
    assert site.tell(change("usage", queue="express")) == {"express": Passage.STAYED}
    ended = site.tell(finalize(queue="express"))
    assert ended == {"workq": Passage.ENDED, "express": Passage.ENDED}
    assert site.tell(change("purge", revision=10)) == {}
    assert len(site.objects) == 0


def test_the_end_is_told_whatever_events_and_attributes_were_asked_for() -> None:
    site = Site(
        events=wanting(events=("submit",)),
        attributes=wanting(attributes=("comment",)),
        running=wanting(states=("R",), events=("usage",)),
    )
    assert site.tell(begun()) == {"events": Passage.JOINED}
    assert site.tell(change("state", state="E", old_state="R")) == {}
    assert set(site.tell(finalize())) == {"events", "attributes", "running"}


@pytest.mark.parametrize(
    "criteria",
    [
        wanting(events=("submit",), where="exists comment"),
        wanting(events=("submit",), names=("*7",)),
        wanting(events=("submit",), states=("R",)),
    ],
)
def test_a_departure_by_an_event_not_asked_for_is_noticed(criteria: Filter) -> None:
    others = {f"other{number}": wanting() for number in range(9)}
    site = Site(**others, one=criteria)
    assert "one" in site.tell(begun(changed={"comment": "x"}))
    gone = change("modify", name="else", state="H", removed=("comment",))
    assert "one" not in site.tell(gone)
    assert "one" in site.tell(finalize(name="else"))


def test_of_a_removed_id_not_even_the_end_is_told() -> None:
    site = Site(one=wanting(ids=("6[].sitea", "1.sitea"), states=("R",)))
    assert site.tell(begun()) == {"one": Passage.JOINED}
    assert site.tell(change("state", state="E", old_state="R")) == {"one": Passage.LEFT}
    assert site.matcher.change_ids("one", remove=["6[].sitea"]) == 1
    assert site.matcher.change_ids("one", add=["6[].sitea"]) == 2
    assert site.tell(finalize()) == {}
    assert site.tell(begun(incarnation=2)) == {"one": Passage.JOINED}


def test_without_its_last_id_it_is_about_nothing() -> None:
    site = Site(one=wanting(ids=("6[].sitea",)))
    assert site.matcher.change_ids("one", remove=["6[].sitea"]) == 0
    assert site.tell(begun()) == {}


def test_capture_is_told_to_who_asked_for_it() -> None:
    site = Site(
        jobs=wanting(),
        both=wanting(kinds=("job", "site"), owners=("bob",)),
        here=wanting(kinds=("site",), sites=("sitea",)),
        there=wanting(kinds=("site",), sites=("siteb",)),
        downs=wanting(kinds=("site",), events=("down",)),
    )
    gap = Gap(event="gap", cause="test", **header(kind="site", id="sitea"))  # type: ignore[arg-type]
    assert set(site.tell(gap)) == {"both", "here"}


def test_an_object_that_is_deleted_leaves() -> None:
    site = Site(nodes=wanting(kinds=("node",), attributes=("comment",)))
    node = {"kind": "node", "id": "node1"}
    site.objects.load([(Key("sitea", "node", "node1"), Past(incarnation=Incarnation(1)))])
    assert site.tell(change("modify", **node)) == {}
    assert site.tell(change("delete", **node)) == {"nodes": Passage.LEFT}


def test_an_event_is_cut_to_what_is_of_interest() -> None:
    event = change(
        changed={"Resource_List.mem": "1gb", "comment": "c"},
        removed=("Account_Name", "Resource_List.walltime"),
        columns={"ji_qrank": "7"},
        escaped=("comment",),
        omitted=("Resource_List.select", "Variable_List"),
    )
    interest = Interest.of(["Resource_List"])
    assert interest is not None
    assert isinstance(event, Change)
    cut = wire.decode(wire.encode_event(interest.cut(event)))
    assert isinstance(cut, Change)
    assert (cut.changed, cut.columns) == ({"Resource_List.mem": "1gb"}, {})
    assert (cut.removed, cut.escaped) == (("Resource_List.walltime",), ())
    assert cut.omitted == ("Resource_List.select",)
    assert (cut.queue, cut.state, cut.revision) == ("workq", "R", 2)
    assert Interest.of(["Resource_List", "Resource_List"]) is interest


def test_suspension_touches_the_state_that_qstat_shows() -> None:
    site = Site(one=wanting(attributes=("job_state",)))
    site.tell(begun())
    suspended = change("state", state="S", old_state="R", columns={"ji_svrflags": "512"})
    assert site.tell(suspended) == {"one": Passage.STAYED}


def test_a_pattern_of_many_stars_is_quick() -> None:
    site = Site(one=wanting(names=("*a" * 400 + "b",)))
    assert site.tell(begun(name="a" * 236)) == {}


def test_errors_name_what_is_wrong() -> None:
    matcher = Matcher()
    with pytest.raises(UsageError, match=r"^where: .*column"):
        matcher.add("one", wanting(where="ncpus >>= 4"))
    assert len(matcher) == 0
    matcher.add("one", wanting(owners=("alice",)))
    with pytest.raises(ConflictError, match="'one'"):
        matcher.add("one", wanting())
    with pytest.raises(UsageError, match="not about given ids"):
        matcher.change_ids("one", add=["1.sitea"])
    with pytest.raises(NotFoundError, match="'two'"):
        matcher.remove("two")
