from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn, cast

import pytest
from harness.plain_site import NOW, PlainSite

from pbscast.deliveries import BeginMessage, EventMessage, ObjectMessage, Passage, decode
from pbscast.events import Finalize, Kind, Reason, Site
from pbscast.lives import Standing
from pbscast.subscriptions import SubscribeRequest
from pbscast_fanout.matching import Interest, Match
from pbscast_fanout.subscriptions import joining
from pbscast_fanout.subscriptions.composing import (
    Delivery,
    Telling,
    encode,
    encode_standing,
    object_tail,
)
from pbscast_fanout.subscriptions.definitions import Definition
from pbscast_fanout.subscriptions.duties import do_while_mine
from pbscast_fanout.subscriptions.joining import Join, Wish
from pbscast_fanout.subscriptions.membership import Membership
from pbscast_fanout.subscriptions.site import SiteDeliveries

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
