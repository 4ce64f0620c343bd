from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, NoReturn, cast

import pytest
from harness.chain import leaf_of
from harness.plain_site import NOW, PlainSite

from pbscast.deliveries import BeginMessage, EventMessage, ObjectMessage, Passage, decode
from pbscast.events import Finalize, Kind, Reason, Site
from pbscast.lives import Standing
from pbscast.subscriptions import SubscribeRequest
from pbscast_fanout.matching import Interest, Match
from pbscast_fanout.subscriptions import joining, room
from pbscast_fanout.subscriptions.checkpoints import Checkpoint
from pbscast_fanout.subscriptions.composing import (
    Delivery,
    Telling,
    encode,
    encode_standing,
    object_tail,
)
from pbscast_fanout.subscriptions.definitions import Definition
from pbscast_fanout.subscriptions.duties import do_while_mine
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.joining import Join, Wish
from pbscast_fanout.subscriptions.membership import Membership
from pbscast_fanout.subscriptions.notes import are_late
from pbscast_fanout.subscriptions.room import Room
from pbscast_fanout.subscriptions.site import SiteDeliveries
from pbscast_fanout.subscriptions.stream import Place
from pbscast_store import chain

SITE = Site("sitea")


def definition(key: str = "one", revision: int = 1, **request: Any) -> Definition:
    asked = SubscribeRequest.model_validate(request)
    return Definition(key, asked, revision, ended=False, created=NOW)


def embarked(core: SiteDeliveries) -> Join:
    [wish] = core.errands()
    assert isinstance(wish, Wish)
    join = core.embark(wish)
    assert join is not None
    return join


def drawn(core: SiteDeliveries) -> list[Any]:
    turn = core.draw(1_000)
    return [
        decode(encode(SITE, delivery, number)) for number, delivery in enumerate(turn.deliveries, 1)
    ]


def test_who_holds_back_too_much_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MOST_HELD", 3)
    log, core = PlainSite(), SiteDeliveries(SITE, 10_000)
    core.begin()
    core.define(definition())
    first = embarked(core)
    for _ in range(4):
        log.change(Kind.JOB, "1.sitea", {"comment": "x"})
        core.take(log.records[-1])
    assert not core.is_wanted(first)
    core.bound(first)  # comes late, and does nothing
    second = embarked(core)
    assert (first.position, second.position) == (0, 4)
    core.offer(second, [standing for _, standing in log.stood(4)])
    core.bound(second)
    begin, stood, boundary = drawn(core)
    assert isinstance(begin, BeginMessage)
    assert isinstance(stood, ObjectMessage)
    assert (begin.position, stood.object.position, boundary.position) == (4, 4, 4)
    assert core.joining == 0


def test_a_definition_of_which_more_is_to_come_waits() -> None:
    core = SiteDeliveries(SITE, 10_000)
    core.begin()
    core.define(definition(ids=["1.sitea"], more=True))
    assert len(core) == 0
    core.define(definition(ids=["1.sitea", "2.sitea"], revision=2))
    assert embarked(core).ids == ("1.sitea", "2.sitea")


def test_a_site_that_is_not_asked_for() -> None:
    core = SiteDeliveries(SITE, 10_000)
    core.begin()
    core.define(definition(sites=["siteb"]))
    assert len(core) == 0


def changes(count: int, text: str = "x") -> PlainSite:
    log = PlainSite()
    for _ in range(count):
        log.change(Kind.JOB, "1.sitea", {"comment": text})
    return log


def live(core: SiteDeliveries, count: int) -> None:
    for number in range(count):
        core.resume(definition(f"sub{number:04}"), Joined(position=0, revision=1))


def test_an_event_is_one_turn_if_it_is_for_many() -> None:
    log, core = changes(3), SiteDeliveries(SITE, 10_000)
    live(core, 700)
    core.begin()
    burdened = []
    for record in log.records[:2]:
        core.take(record)
        burdened.append(core.is_burdened)
    sizes = [len(part.deliveries) for part in core.draw(400).parts()]
    assert sizes == [1_000, 400]
    assert [*burdened, core.is_burdened] == [False, True, False]


def test_large_messages_are_few_to_a_turn() -> None:
    log, core = changes(1, "x" * 500_000), SiteDeliveries(SITE, 1_000_000)
    live(core, 20)
    core.begin()
    core.take(log.records[0])
    assert core.is_burdened
    assert [len(part.deliveries) for part in core.draw(400).parts()] == [9, 9, 2]


def test_who_joins_catches_up_however_much_happens() -> None:
    log, core = changes(1_000), SiteDeliveries(SITE, 10_000)
    core.begin()
    core.define(definition("one"))
    core.define(definition("two"))
    for errand in core.errands():
        assert isinstance(errand, Wish)
        join = core.embark(errand)
        assert join is not None
    waiting = [core._members[key] for key in ("one", "two")]
    for record in log.records[:500]:
        core.take(record)
    for member in waiting:
        core.bound(cast("Join", member.errand))
    for start in range(500, 1_000, 250):
        for record in log.records[start : start + 250]:
            core.take(record)
        core.draw(400)
    core.draw(400)
    assert core.joining == 0


def test_room_is_taken_and_given_back() -> None:
    space = Room()
    log, core = changes(4), SiteDeliveries(SITE, 10_000, space)
    core.begin()
    for key in ("told", "removed", "left"):
        core.define(definition(key))
    joins = {wish.key: core.embark(cast("Wish", wish)) for wish in core.errands()}  # type: ignore[union-attr]
    for record in log.records:
        core.take(record)
    assert space._used > 3 * 4 * 300
    core.remove("removed")
    core.bound(cast("Join", joins["told"]))
    while core.is_telling:
        core.draw(1_000)
    assert core.joining == 1
    core.close()
    assert space._used == 0


async def test_who_finds_no_room_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 10)
    space = Room()
    space.add(10)
    waiting = asyncio.create_task(space.wait())
    await asyncio.sleep(0)
    space.add(5)
    await asyncio.sleep(0)
    assert not waiting.done()
    space.add(-6)
    await waiting


def test_what_is_put_off_begins_anew() -> None:
    core = SiteDeliveries(SITE, 10_000)
    core.begin()
    core.define(definition())
    first = embarked(core)
    again = core.put_off(first)
    assert isinstance(again, Wish)
    assert core.put_off(first) is None
    assert core.put_off(again) is again
    assert not core.is_telling
    second = core.embark(again)
    assert second is not None
    core.bound(second)
    assert [message.what for message in drawn(core)] == ["begin", "boundary"]


def test_who_begins_where_an_event_is_replayed_has_left_nothing() -> None:
    log, core = PlainSite(), SiteDeliveries(SITE, 10_000)
    log.change(Kind.JOB, "1.sitea", {"state": "Q"})
    log.change(Kind.JOB, "1.sitea", {"state": "R"})
    log.end(Kind.JOB, "1.sitea")
    core.resume(definition("before", states=["Q"]), Joined(position=0, revision=1))
    core.resume(definition("behind", states=["Q"]), Joined(position=2, revision=1))
    for record in log.records[:2]:
        core.replay(record)
    core.begin()
    core.take(log.records[2])
    assert [delivery.key for delivery in core.draw(1).deliveries] == ["before"]


def test_replaying_costs_nothing_for_who_is_not_concerned() -> None:
    log, core = changes(1), SiteDeliveries(SITE, 10_000)
    live(core, 3)
    core._members = cast("Any", {})  # which it does not look at
    core.replay(log.records[0])
    assert core.position == 1


def test_whose_notes_hold() -> None:
    """Those that the last who began knew, or made."""
    notes = {
        "known": Joined(position=1, revision=1, session="a", noted=3),
        "late": Joined(position=1, revision=1, session="a", noted=5),
        "made": Joined(position=1, revision=1, session="b", noted=6),
    }
    assert are_late(notes, Checkpoint(9, session="b", noted=3)) == {"late"}
    assert are_late(notes, None) == set()


def test_what_the_chain_says_of_the_next_event() -> None:
    log = changes(1)
    [record] = log.records
    chained = replace(record, digest=chain.link(chain.GENESIS, leaf_of(record)))
    assert chained.follows(chain.GENESIS)
    assert not chained.follows(bytes(31) + b"x")
    assert record.follows(chain.GENESIS)
    assert chained.follows(None)


@pytest.mark.parametrize(
    "place", [Place(7), Place(7, "key"), Place(7, None, "ab"), Place(7, "key", "ab")]
)
def test_a_place_survives_a_header(place: Place) -> None:
    found = Place.parse(place.as_header())
    assert (found, found.digest) == (place, place.digest)


def telling(limit: int, **values: str) -> tuple[Telling, Standing]:
    log = PlainSite()
    log.change(Kind.JOB, "1.sitea", {"state": "Q", **values})
    log.change(Kind.JOB, "1.sitea", {"state": "R", **values})
    record = log.records[-1]
    [(_, standing)] = log.stood(2)
    return Telling(record, record.decode(), limit), standing


def match(passage: str, *names: str) -> Match:
    return Match("one", Interest.of(names), Passage(passage))


def test_what_is_too_large_for_a_message_is_cut() -> None:
    limit = 3_000
    teller, standing = telling(limit, comment="x" * 2_000, Variable_List="y" * 2_500)
    delivery = teller.delivery(match("joined"), None, kept=True)
    assert delivery.arrival is not None
    shown = encode_standing(standing, None, limit - len(delivery.tail))
    body = encode(SITE, delivery, 7, shown)
    assert len(body) <= limit + 512
    message = decode(body)
    assert isinstance(message, EventMessage)
    assert message.event.omitted
    assert message.standing is not None
    assert message.standing.omitted
    assert len(object_tail(standing, None, limit)) <= limit + 100


def test_what_is_told_alike_is_encoded_once() -> None:
    teller, _ = telling(10_000, comment="here", Account_Name="x")
    whole = [teller.delivery(match("stayed"), None, kept=True).tail for _ in range(2)]
    cut = [teller.delivery(match("stayed", "comment"), None, kept=True).tail for _ in range(2)]
    assert whole[0] is whole[1]
    assert cut[0] is cut[1]
    event = json.loads(b"{" + cut[0])["event"]["data"]
    assert event["changed"] == {"comment": "here"}


def test_a_finalize_is_whole_and_names_where_the_job_went() -> None:
    log = PlainSite()
    log.change(Kind.JOB, "1.sitea", {"state": "Q"})
    log.end(Kind.JOB, "1.sitea", Reason.MOVED)
    record = log.records[-1]
    teller = Telling(record, record.decode(), 10_000)
    delivery = teller.delivery(match("ended"), None, kept=True)
    message = decode(encode(SITE, delivery, 1, to=Site("siteb")))
    assert isinstance(message, EventMessage)
    assert isinstance(message.event, Finalize)
    assert message.to == "siteb"


def test_what_nobody_keeps_has_no_number() -> None:
    body = encode(SITE, Delivery("one", kept=False, tail=b'"what":"begin","position":1}'), None)
    assert json.loads(body) == {
        "subscription": "one",
        "site": "sitea",
        "what": "begin",
        "position": 1,
    }


class Workers:
    """As Membership."""

    def __init__(self) -> None:
        self.is_mine = False
        self.changed = asyncio.Event()

    async def known(self, seconds: float) -> None:
        assert seconds > 0

    def mine(self, thing: str) -> bool:
        return thing == "sitea" and self.is_mine

    async def wait_changed(self) -> None:
        await self.changed.wait()

    def become(self, *, is_mine: bool) -> None:
        self.is_mine = is_mine
        self.changed.set()
        self.changed = asyncio.Event()


async def test_a_duty_is_done_while_it_is_the_workers() -> None:
    workers, doing = Workers(), asyncio.Event()
    idle = asyncio.Event()

    async def work() -> NoReturn:
        doing.set()
        try:
            await asyncio.Event().wait()
        finally:
            idle.set()
        raise AssertionError

    task = asyncio.create_task(do_while_mine(cast("Membership", workers), "sitea", work))
    await asyncio.sleep(0.01)
    assert not doing.is_set()
    for _ in range(2):
        workers.become(is_mine=True)
        await doing.wait()
        workers.become(is_mine=True)  # others came or went
        await asyncio.sleep(0.01)
        assert not idle.is_set()
        workers.become(is_mine=False)
        await idle.wait()
        doing.clear()
        idle.clear()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_duty_that_fails_says_so() -> None:
    workers = Workers()
    workers.is_mine = True

    async def work() -> NoReturn:
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        await do_while_mine(cast("Membership", workers), "sitea", work)
