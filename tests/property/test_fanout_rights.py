"""Whatever a log holds and whatever is asked: who is answered learns what he may see, all of it.

Answers to a person are compared with those to one who may see everything, less what that person may
not see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import pytest
from harness.fanning import write

from pbscast import requests
from pbscast.errors import AccessDeniedError, NotFoundError, PbscastError
from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    Payload,
    Provenance,
    Reason,
)
from pbscast.selection import Selection
from pbscast_fanout.answers import Answers
from pbscast_fanout.askers import Asker, Role
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

BEGAN: Final = datetime.now(UTC) - timedelta(days=1)
SITES: Final = ("sitea", "siteb", "sitec")
IDS: Final = ("1.s", "2.s", "3.s", "6[].s", "6[1].s", "6[2].s", "7[].s", "7[1].s")
OWNERS: Final = ("alice", "alice", "bob", "carol", None, "")
ASKERS: Final = (
    Asker(Role.USER, "alice"),
    Asker(Role.USER, "alice", frozenset({"sitea", "siteb"})),
    Asker(Role.USER, "alice", frozenset(), frozenset({"siteb"})),
    Asker(Role.USER, "bob", frozenset({"sitea", "sitec"}), frozenset({"sitec"})),
    Asker(Role.USER, "nobody"),
    Asker(Role.OPERATOR, "olga", frozenset({"siteb"})),
    Asker(Role.AUDITOR, "ada"),
)
MODELS: Final[dict[str, type[requests.Paged]]] = {
    "history": requests.HistoryRequest,
    "jobs": requests.JobsRequest,
    "snapshot": requests.SnapshotRequest,
    "at": requests.AtRequest,
    "difference": requests.DifferenceRequest,
}
ROWS: Final = {"history": "events", "jobs": "lives"}

Row = dict[str, Any]
Lives = dict[tuple[str, str, str, int], str | None]
"""Whose each life is: by site, kind, id and incarnation."""


class Site:
    """Draws what happens at a site: ids are used again, by others as well."""

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self.random = random
        self.owners: dict[str, str | None] = {}

    def drafts(self, count: int) -> Iterator[Draft]:
        for number in range(count):
            kind, what, event, payload, edges = self._happening()
            time = BEGAN + timedelta(minutes=number, seconds=self.random.random())
            yield Draft(kind, what, event, time, Provenance.JOURNAL, payload, **edges)

    def _happening(self) -> tuple[Kind, str, EventName, Payload, dict[str, Any]]:
        if self.random.random() < 0.15:
            if self.random.random() < 0.3:
                return Kind.SITE, self.name, EventName.GAP, GapPayload(cause="x"), {}
            queue = ChangePayload(state="free", changed={"comment": "x"})
            return Kind.QUEUE, "workq", EventName.MODIFY, queue, {}
        job = self.random.choice(IDS)
        state = self.random.choice("QRH")
        where: dict[str, Any] = {"queue": self.random.choice(["workq", "long"]), "name": "STDIN"}
        if job not in self.owners:
            self.owners[job] = owner = self.random.choice(OWNERS)
            submitted = ChangePayload(owner=owner, state="Q", changed={"Priority": "1"}, **where)
            return Kind.JOB, job, EventName.SUBMIT, submitted, {"begins": True}
        if self.random.random() < 0.25:
            reason = self.random.choice([Reason.FINISHED, Reason.MOVED, Reason.DELETED])
            end = FinalizePayload(owner=self.owners.pop(job), state="F", reason=reason, **where)
            return Kind.JOB, job, EventName.FINALIZE, end, {"ends": True}
        if self.random.random() < 0.03:  # which PBS does not do
            self.owners[job] = self.random.choice(OWNERS)
        changed = {"comment": self.random.choice(["a", "b"])}
        change = ChangePayload(owner=self.owners[job], state=state, changed=changed, **where)
        return Kind.JOB, job, EventName.STATE, change, {}


@dataclass
class World:
    """A log, what answers from it, and whose all its lives are."""

    answers: Answers
    lives: Lives
    ends: dict[str, int]

    def may_see(self, asker: Asker, row: Row) -> bool:
        """In other words than the code's."""
        told = [row[name] for name in ("data", "before", "after") if row.get(name)] or [row]
        site, kind = told[0]["site"], told[0].get("kind", "job")
        if asker.sites and site not in asker.sites:
            return False
        if asker.role is not Role.USER or kind != "job" or site in asker.open_sites:
            return True
        return all(one.get("owner") == asker.name for one in told)

    def is_his(self, asker: Asker, row: Row) -> bool:
        """As `may_see`, and of a life whose last owner he is."""
        one = row.get("data") or row.get("after") or row
        key = one["site"], one.get("kind", "job"), one["id"], one["incarnation"]
        return self.may_see(asker, row) and self.may_see(asker, self.life(key))

    def life(self, key: tuple[str, str, str, int]) -> Row:
        site, kind, name, incarnation = key
        owner = self.lives[key]
        return {
            "site": site,
            "kind": kind,
            "id": name,
            "incarnation": incarnation,
            "owner": owner,
        }

    def is_known(self, asker: Asker, asked: Row) -> bool:
        """Whether of each id there is a life that the asker may see."""
        kind, sites = asked["kind"], asked.get("sites") or self.ends

        def names(wanted: str, found: str) -> bool:
            number, _, end = wanted.partition("[].")
            return wanted == found or (
                bool(end) and found.startswith(f"{number}[") and found.endswith(f"].{end}")
            )

        visible = [
            key
            for key in self.lives
            if key[0] in sites and key[1] == kind and self.may_see(asker, self.life(key))
        ]
        return all(any(names(wanted, key[2]) for key in visible) for wanted in asked.get("ids", ()))


async def world_of(log: Log, seed: int) -> World:
    random = Random(seed)
    ends = {}
    for name in SITES:
        ends[name] = await write(log, name, Site(name, random).drafts(40))
    lives: Lives = {}
    for kind in (Kind.JOB, Kind.QUEUE, Kind.SITE):
        for life in (await log.lives(Selection(kind=kind))).lives:
            lives[life.site, kind, life.id, life.incarnation] = life.owner
    return World(Answers(log, lambda: 1 << 20), lives, ends)


def some(random: Random, values: tuple[Any, ...], chance: float) -> list[Any]:
    unique = sorted(set(filter(None, values)))
    return random.sample(unique, random.randint(1, 2)) if random.random() < chance else []


def drawn(random: Random, world: World) -> tuple[str, Row]:
    """A question and its request."""
    service = random.choice(sorted(MODELS))
    asked: Row = {
        "kind": random.choice(["job"] * 5 + ["queue", "site"]),
        "limit": random.choice([1, 5, 100, 100]),
        "sites": some(random, SITES, 0.3),
        "owners": some(random, OWNERS, 0.2),
        "states": some(random, ("Q", "R", "H"), 0.2),
        "queues": some(random, ("workq", "long"), 0.2),
        "names": some(random, ("ST*", "nothing"), 0.1),
    }
    if asked["kind"] == "job":
        asked["ids"] = some(random, IDS, 0.5)
    if asked["kind"] == "site":
        asked["states"] = []
    moments = sorted(BEGAN + timedelta(minutes=random.randint(1, 61)) for _ in range(2))
    if service == "at":
        asked["moment"] = moments[0]
        if random.random() < 0.5:
            asked["moment"] = {site: random.randint(1, end) for site, end in world.ends.items()}
    if service == "difference":
        asked |= {"begin": moments[0], "end": moments[1] + timedelta(minutes=1)}
    if service in ROWS:
        asked["newest_first"] = random.random() < 0.5
    return service, {name: value for name, value in asked.items() if value != []}


async def told(world: World, asker: Asker | None, service: str, asked: Row) -> list[Row]:
    """The rows of all pages."""
    ask: Callable[..., Any] = getattr(world.answers, service)
    rows: list[Row] = []
    after = None
    while True:
        request = MODELS[service].model_validate({**asked, "after": after})
        page = json.loads(await ask(request, asker))
        rows += page[ROWS.get(service, "objects")]
        if asker is not None and asker.sites:
            assert set(page.get("positions", ())) <= asker.sites
        after = page["next"]
        if after is None:
            return rows


def names_others(asker: Asker, asked: Row) -> bool:
    """Whether somebody or some place is named that the asker may not see."""
    sites = set(asked.get("sites", ()))
    if asker.sites and sites - asker.sites:
        return True
    if asker.role is not Role.USER or asked["kind"] != "job":
        return False
    is_open = asker.open_sites & sites if sites else asker.open_sites
    return not is_open and bool(set(asked.get("owners", ())) - {asker.name})


def positions_of(asker: Asker, asked: Row) -> Row:
    """The request with positions of those sites alone that he asks about and may see."""
    moment = asked.get("moment")
    if not isinstance(moment, dict):
        return asked
    sites = set(asked.get("sites") or moment) & set(asker.sites or moment)
    return {**asked, "moment": {site: moment[site] for site in sites}}


async def test_the_visible_part_is_told_and_nothing_else(log: Log) -> None:
    world = await world_of(log, 1)
    random = Random(1)
    counts = {"told": 0, "hidden": 0, "refused": 0, "unknown": 0}
    for _ in range(80):
        asker = random.choice(ASKERS)
        service, asked = drawn(random, world)
        if names_others(asker, asked):
            with pytest.raises(AccessDeniedError):
                await told(world, asker, service, asked)
            counts["refused"] += 1
            continue
        asked = positions_of(asker, asked)
        if not world.is_known(asker, asked):
            with pytest.raises(NotFoundError, match="the log has no"):
                await told(world, asker, service, asked)
            counts["unknown"] += 1
            continue
        mine = await outcome(world, asker, service, asked)
        everybodys = await outcome(world, None, service, asked)
        if isinstance(everybodys, str):
            assert mine == everybodys, (asker, service, asked)
            continue
        visible = [row for row in everybodys if world.is_his(asker, row)]
        if service == "history":  # where others' moves have a say in the order of sites
            mine, visible = by_site(mine), by_site(visible)
        assert mine == visible, (asker, service, asked)
        counts["told"] += len(visible)
        counts["hidden"] += len(everybodys) - len(visible)
    assert min(counts.values()) > 1, counts


async def outcome(world: World, asker: Asker | None, service: str, asked: Row) -> list[Row] | str:
    """The rows, or the words of a refusal."""
    try:
        return await told(world, asker, service, asked)
    except PbscastError as error:
        return f"{type(error).__name__}: {error}"


def by_site(rows: list[Row] | str) -> list[Row]:
    assert not isinstance(rows, str)
    return sorted(rows, key=lambda row: row["data"]["site"])


async def test_an_event_is_told_in_full_to_whom_it_concerns(log: Log) -> None:
    world = await world_of(log, 11)
    hidden = 0
    for asker in ASKERS:
        for site, end in world.ends.items():
            if asker.sites and site not in asker.sites:
                with pytest.raises(AccessDeniedError):
                    await event(world, asker, site, 1)
                continue
            with pytest.raises(NotFoundError) as beyond:
                await event(world, asker, site, end + 1)
            for position in range(1, end + 1):
                full = await event(world, None, site, position)
                if world.may_see(asker, json.loads(full["text"])):
                    assert await event(world, asker, site, position) == full
                    continue
                with pytest.raises(NotFoundError) as refusal:
                    await event(world, asker, site, position)
                assert str(refusal.value) == str(beyond.value).replace(
                    f":{end + 1}", f":{position}"
                )
                hidden += 1
    assert hidden > 50


async def event(world: World, asker: Asker | None, site: str, position: int) -> Row:
    request = requests.EventRequest.model_validate({"site": site, "position": position})
    answer: Row = json.loads(await world.answers.event(request, asker))
    return answer


async def test_a_token_made_by_hand_leads_to_nothing_else(log: Log) -> None:
    world = await world_of(log, 4)
    asker = ASKERS[1]
    for service in MODELS:
        asked: Row = {"kind": "job", "limit": 100}
        if service == "at":
            asked["moment"] = BEGAN + timedelta(minutes=30)
        if service == "difference":
            asked |= {"begin": BEGAN + timedelta(minutes=5), "end": BEGAN + timedelta(minutes=50)}
        ask: Callable[..., Any] = getattr(world.answers, service)
        for position in (0, 1, 20, 40):
            token = (
                json.dumps({"sitea": position, "siteb": position})
                if service in ROWS
                else json.dumps(["siteb", position])
            )
            request = MODELS[service].model_validate({**asked, "after": token})
            rows = json.loads(await ask(request, asker))[ROWS.get(service, "objects")]
            assert all(world.is_his(asker, row) for row in rows)
        # Nor does one that names a site which is not his.
        token = json.dumps({"sitec": 1} if service in ROWS else ["sitec", 1])
        request = MODELS[service].model_validate({**asked, "after": token})
        if service in ROWS:
            with pytest.raises(NotFoundError, match="no such site: sitec"):
                await ask(request, asker)
        else:
            assert json.loads(await ask(request, asker))["objects"] == []
