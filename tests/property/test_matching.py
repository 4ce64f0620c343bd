"""The index against a plain look at every filter, by an independent reading of the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pbscast.events import AnyEvent, Change, EventName, Finalize, Gap, Incarnation, Kind
from pbscast.subscriptions import Filter
from pbscast_fanout.expressions import compile_expression
from pbscast_fanout.matching import Matcher, Objects, Past
from pbscast_fanout.matching.objects import Key

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SITES = ("a", "b")
JOBS = ("1.a", "6[].a", "6[1].a")
NODES = ("node1",)
DOMAINS = {
    "Job_Owner": ("alice", "bob"),
    "queue": ("workq", "express"),
    "project": ("p1", "p2"),
    "Job_Name": ("fit1", "fit22", "run", "f[1]"),
    "job_state": ("Q", "R", "S"),
    "Account_Name": ("x", "y"),
    "Resource_List.ncpus": ("1", "4"),
    "Resource_List.mem": ("1gb", "2gb"),
    "comment": ("here", "there"),
}
STANDING = {
    "owner": "Job_Owner",
    "queue": "queue",
    "project": "project",
    "name": "Job_Name",
    "state": "job_state",
}
WHERE = (
    "Resource_List.ncpus >= 2",
    'Account_Name == "x"',
    'Account_Name in ("x", "y") and Resource_List.mem > 1gb',
    'state == "R" and owner == "alice"',
    "not exists comment",
    'id == "1.a" or id == "6[].a"',
    'queue == "workq" or Account_Name == "y"',
    'site == "b"',
    'queue == "workq" and queue == "express"',
)


KEYS = ("s1", "s2", "s3", "s4", "s5", "s6")
ATTRIBUTES = ("Resource_List", "Resource_List.mem", "job_state", "comment", "queue")
OF_ALL = {"sites": SITES, "attributes": ATTRIBUTES}
OF_JOBS = {
    "ids": JOBS,
    "owners": DOMAINS["Job_Owner"],
    "queues": DOMAINS["queue"],
    "projects": DOMAINS["project"],
    "names": ("fit*", "fit1", "*1", "r?n", "f[*", "*", "run"),
    "states": DOMAINS["job_state"],
    "events": ("submit", "state", "modify", "finalize"),
    **OF_ALL,
}
OF_NODES = {
    "ids": NODES,
    "states": DOMAINS["job_state"],
    "events": ("create", "modify", "delete"),
    **OF_ALL,
}
THINGS = (
    ("a", Kind.JOB, JOBS[0]),
    ("b", Kind.JOB, JOBS[0]),
    ("a", Kind.JOB, JOBS[1]),
    ("a", Kind.JOB, JOBS[2]),
    ("a", Kind.NODE, NODES[0]),
)


Told = tuple[str, tuple[str, ...] | None, str]
"""A subscription, the attributes that it is told of, and the passage."""


class Chance:
    """Random steps, dense enough for what seldom meets. Hypothesis's own draws stay too thin."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def some(self, values: tuple[str, ...], most: int = 2) -> tuple[str, ...]:
        return tuple(self._random.sample(values, self._random.randint(1, min(most, len(values)))))

    def filter(self) -> Filter:
        kinds, criteria = self._random.choice(
            (
                ((Kind.JOB,), OF_JOBS),
                ((Kind.JOB,), OF_JOBS),
                ((Kind.JOB, Kind.SITE), OF_JOBS),
                ((Kind.NODE,), OF_NODES),
                (tuple(Kind), {**OF_ALL, "events": OF_NODES["events"]}),
            )
        )
        chosen: dict[str, Any] = {
            name: self.some(criteria[name]) for name in self.some(tuple(criteria))
        }
        if self._random.random() < 0.3:
            chosen["where"] = self._random.choice(WHERE)
        return Filter(kinds=kinds, **chosen)

    def only(self) -> str | None:
        return self._random.choice((None, None, *DOMAINS["Job_Owner"]))

    def step(self) -> tuple[Any, ...]:
        weights = {"change": 12, "end": 3, "gap": 1, "add": 3, "remove": 1, "ids": 2}
        weights |= {"attributes": 1, "restart": 1}
        (what,) = self._random.choices(tuple(weights), tuple(weights.values()))
        return (what, *self._details(what))

    def _details(self, what: str) -> tuple[Any, ...]:  # noqa: PLR0911 - one for each step
        choose = self._random.choice
        match what:
            case "change":
                names = self.some(tuple(DOMAINS), 3)
                removed = self.some(tuple(DOMAINS), 1) if self._random.random() < 0.2 else ()
                return choose(THINGS), {name: choose(DOMAINS[name]) for name in names}, removed
            case "end":
                return (choose(THINGS),)
            case "gap":
                return (choose(SITES),)
            case "add":
                return choose(KEYS), self.filter(), self.only()
            case "remove":
                return (choose(KEYS),)
            case "ids":
                return choose(KEYS), self.some(JOBS), self.some(JOBS)
            case "attributes":
                return choose(KEYS), self.some(ATTRIBUTES)
            case _:
                return ()


@dataclass
class Thing:
    """An object as the log knows it."""

    incarnation: int = 1
    revision: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def standing(self) -> dict[str, str | None]:
        return {field: self.attributes.get(name) for field, name in STANDING.items()}

    def past(self) -> Past:
        return Past(
            incarnation=Incarnation(self.incarnation),
            attributes=dict(self.attributes),
            **self.standing,  # type: ignore[arg-type]
        )


@dataclass
class World:
    """Objects, and the events of what is done to them."""

    things: dict[tuple[str, Kind, str], Thing] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)

    def living(self) -> Iterator[tuple[Key, Past]]:
        for key, thing in self.things.items():
            if not thing.ended:
                yield Key(*key), thing.past()

    def change(
        self, key: tuple[str, Kind, str], values: dict[str, str], removed: tuple[str, ...]
    ) -> AnyEvent:
        thing = self.things.get(key)
        begins = thing is None or (thing.ended and bool(removed))
        if thing is None:
            thing = self.things[key] = Thing()
        elif begins:
            self.things[key] = thing = Thing(thing.incarnation + 1)
        if begins:
            values = {name: domain[0] for name, domain in DOMAINS.items()} | values
        changed = {name: new for name, new in values.items() if thing.attributes.get(name) != new}
        gone = tuple(name for name in removed if name in thing.attributes and name not in changed)
        old = thing.attributes.get("job_state")
        for name in gone:
            del thing.attributes[name]
        thing.attributes.update(changed)
        first, later = ("submit", "state") if key[1] is Kind.JOB else ("create", "modify")
        if begins or old == thing.attributes.get("job_state"):
            later, old = "modify", None
        return Change(
            event=first if begins else later,  # type: ignore[arg-type]
            changed=changed,
            removed=gone,
            old_state=old,
            **self.header(key, thing),
        )

    def end(self, key: tuple[str, Kind, str]) -> AnyEvent | None:
        thing = self.things.get(key)
        if thing is None or thing.ended:
            return None
        thing.ended = True
        header = self.header(key, thing)
        if key[1] is Kind.JOB:
            return Finalize(event="finalize", reason="finished", **header)  # type: ignore[arg-type]
        return Change(event="delete", **header)  # type: ignore[arg-type]

    def gap(self, site: str) -> AnyEvent:
        header = self.header((site, Kind.SITE, site), Thing())
        return Gap(event="gap", cause="test", **header)  # type: ignore[arg-type]

    def header(self, key: tuple[str, Kind, str], thing: Thing) -> dict[str, Any]:
        site, kind, name = key
        self.positions[site] = self.positions.get(site, 0) + 1
        thing.revision += 1
        return {
            "site": site,
            "kind": kind,
            "id": name,
            "position": self.positions[site],
            "time": NOW,
            "incarnation": thing.incarnation,
            "revision": thing.revision,
            "provenance": "journal",
            **(thing.standing if kind is not Kind.SITE else {}),
        }


@dataclass
class Reference:
    """Looks at every filter; remembers every job that ever belonged."""

    filters: dict[str, Filter] = field(default_factory=dict)
    only: dict[str, str | None] = field(default_factory=dict)
    by_ids: set[str] = field(default_factory=set)
    belonged: set[tuple[str, tuple[str, Kind, str]]] = field(default_factory=set)

    def add(self, key: str, criteria: Filter, only: str | None) -> None:
        self.filters[key], self.only[key] = criteria, only
        if criteria.ids:
            self.by_ids.add(key)

    def remove(self, key: str) -> None:
        del self.filters[key]
        self.by_ids.discard(key)
        self.belonged = {(other, life) for other, life in self.belonged if other != key}

    def change_ids(self, key: str, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
        ids = tuple((set(self.filters[key].ids) - set(remove)) | set(add))
        self.filters[key] = self.filters[key].model_copy(update={"ids": ids})
        self.belonged = {
            (other, life) for other, life in self.belonged if other != key or self.names(key, life)
        }

    def names(self, key: str, thing: tuple[str, Kind, str]) -> bool:
        ids = self.filters[key].ids
        array = "6[].a" if thing[2].startswith("6[") else thing[2]
        return key not in self.by_ids or thing[2] in ids or array in ids

    def belongs(self, key: str, thing: tuple[str, Kind, str], attributes: dict[str, str]) -> bool:
        wanted = self.filters[key]
        if not self.may_see(key, thing[1], attributes.get("Job_Owner")):
            return False
        stands = {name: attributes.get(attribute) for name, attribute in STANDING.items()}
        stands |= {"site": thing[0], "kind": thing[1], "id": thing[2]}
        simple = ("site", "kind", "owner", "queue", "project", "state")
        if any(
            getattr(wanted, f"{name}s") and stands[name] not in getattr(wanted, f"{name}s")
            for name in simple
        ):
            return False
        name = stands["name"]
        if wanted.names and not any(
            name is not None and fnmatchcase(name, pattern.replace("[", "[[]"))
            for pattern in wanted.names
        ):
            return False
        if wanted.where and not compile_expression(wanted.where).matches(
            lambda name: stands.get(name, attributes.get(name))
        ):
            return False
        return self.names(key, thing)

    def may_see(self, key: str, kind: Kind, owner: str | None) -> bool:
        return kind is not Kind.JOB or self.only[key] in (None, owner)

    def expect(
        self, event: AnyEvent, before: dict[str, str] | None, now: dict[str, str] | None
    ) -> set[Told]:
        """`None` for an object that is not there."""
        thing = (event.site, event.kind, event.id)
        found: set[Told] = set()
        for key, wanted in self.filters.items():
            if event.kind is Kind.SITE:
                if (
                    event.kind in wanted.kinds
                    and (not wanted.sites or event.site in wanted.sites)
                    and (not wanted.events or event.event in wanted.events)
                ):
                    found.add((key, None, "stayed"))
                continue
            did = before is not None and self.belongs(key, thing, before)
            does = now is not None and self.belongs(key, thing, now)
            if did or does:
                self.belonged.add((key, thing))
            if isinstance(event, Finalize):
                if (key, thing) in self.belonged:
                    found.add((key, None, "ended"))
                continue
            assert isinstance(event, Change)
            passage = {(True, True): "stayed", (True, False): "left", (False, True): "joined"}
            if not (did or does) or (wanted.events and event.event not in wanted.events):
                continue
            if (
                wanted.attributes
                and event.event is not EventName.DELETE
                and not self.touched(wanted, event)
            ):
                continue
            names = tuple(sorted(wanted.attributes)) or None
            found.add((key, names, passage[did, does]))
        if isinstance(event, Finalize):
            self.belonged = {(key, life) for key, life in self.belonged if life != thing}
        return self.visible(event, found)

    def visible(self, event: AnyEvent, found: set[Told]) -> set[Told]:
        owner = getattr(event, "owner", None)
        return {told for told in found if self.may_see(told[0], event.kind, owner)}

    def touched(self, wanted: Filter, event: Change) -> bool:
        touched = {*event.changed, *event.removed}
        touched |= {name.split(".")[0] for name in touched}
        return bool(touched & set(wanted.attributes))


class Run:
    """The matcher and the reference, side by side."""

    def __init__(self) -> None:
        self.world, self.reference = World(), Reference()
        self.matcher = Matcher()
        self.objects = Objects(self.matcher.names)

    def step(self, step: tuple[Any, ...]) -> None:
        getattr(self, step[0])(*step[1:])

    def add(self, key: str, criteria: Filter, only: str | None) -> None:
        if key in self.reference.filters:
            self.remove(key)
        self.matcher.add(key, criteria, only=only)
        self.reference.add(key, criteria, only)
        self.objects.load(self.world.living())

    def remove(self, key: str) -> None:
        if key in self.reference.filters:
            self.matcher.remove(key)
            self.reference.remove(key)

    def ids(self, key: str, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
        if key in self.reference.by_ids:
            self.matcher.change_ids(key, add=add, remove=remove)
            self.reference.change_ids(key, add, remove)

    def attributes(self, key: str, names: tuple[str, ...]) -> None:
        if key in self.reference.filters:
            self.matcher.change_attributes(key, names)
            changed = self.reference.filters[key].model_copy(update={"attributes": names})
            self.reference.filters[key] = changed

    def restart(self) -> None:
        departures = list(self.matcher.departures())
        self.matcher = Matcher()
        for key, criteria in self.reference.filters.items():
            only = self.reference.only[key]
            if key in self.reference.by_ids and not criteria.ids:
                self.matcher.add(key, criteria.model_copy(update={"ids": ("9.a",)}), only=only)
                self.matcher.change_ids(key, remove=("9.a",))
            else:
                self.matcher.add(key, criteria, only=only)
        self.matcher.restore(departures)
        self.objects = Objects(self.matcher.names)
        self.objects.load(self.world.living())

    def gap(self, site: str) -> None:
        self.compare(self.world.gap(site), None, None)

    def end(self, key: tuple[str, Kind, str]) -> None:
        thing = self.world.things.get(key)
        if (event := self.world.end(key)) is not None and thing is not None:
            now = None if event.event == "delete" else thing.attributes
            self.compare(event, dict(thing.attributes), now)

    def change(
        self, key: tuple[str, Kind, str], values: dict[str, str], removed: tuple[str, ...]
    ) -> None:
        thing = self.world.things.get(key)
        before = None if thing is None else dict(thing.attributes)
        if thing is not None and thing.ended and not removed:
            if key[1] is Kind.JOB:  # The log's later bookkeeping.
                event = self.world.change(key, values, removed)
                assert self.matcher.match(event, self.objects.take(event)) == []
            return
        event = self.world.change(key, values, removed)
        now = self.world.things[key].attributes
        self.compare(event, None if event.revision == 1 else before, dict(now))

    def compare(
        self, event: AnyEvent, before: dict[str, str] | None, now: dict[str, str] | None
    ) -> None:
        matches = self.matcher.match(event, self.objects.take(event))
        found = {
            (
                match.key,
                None if match.interest is None else tuple(sorted(match.interest.names)),
                match.passage.value,
            )
            for match in matches
        }
        assert len(found) == len(matches)
        assert found == self.reference.expect(event, before, now)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_the_index_finds_what_a_look_at_every_filter_finds(seed: int) -> None:
    run, chance = Run(), Chance(seed)
    for key in KEYS:
        run.add(key, chance.filter(), chance.only())
    for _ in range(120):
        run.step(chance.step())
    assert len(run.objects) == len(list(run.world.living()))
    for key in list(run.reference.filters):
        run.matcher.remove(key)
    assert not list(run.matcher.names)
    assert not list(run.matcher.departures())
    index = run.matcher._index
    parts = (index.ids, *index._fields.values(), index._prefixes, index._kinds, index._events)
    assert not any((*parts, run.matcher._capture, index._attributes, index._lengths))
