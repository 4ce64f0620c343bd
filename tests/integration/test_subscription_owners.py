"""What people are told by subscriptions of their own, by a worker behind a secured nats-server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from time import monotonic
from typing import Any

import pytest
from harness.auth import Gate, reach
from harness.fanning import write
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.manager import JetStreamManager

from pbscast.deliveries import (
    DELIVERIES,
    BoundaryMessage,
    CompleteMessage,
    EventMessage,
    ObjectMessage,
    SubscriptionMessage,
    decode,
)
from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast_fanout.askers import SLOTS, Asker, Role
from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.subscriptions import quotas
from pbscast_fanout.worker import Fanout
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

KEY = "0123456789abcdef0123456789abcdef"
ALICE, BOB = Asker(Role.USER, "alice"), Asker(Role.USER, "bob")


@pytest.fixture
async def service(gate: Gate, log: Log, tmp_path_factory: Any) -> AsyncIterator[Client]:
    """A client that may do everything, beside a worker."""
    credentials = tmp_path_factory.mktemp("service") / "creds"
    credentials.write_text(await gate.creds("pbscastd", Role.SERVICE))
    settings = FanoutSettings(
        nats=NatsSettings(
            servers=(gate.url,), credentials=credentials, tls_ca=gate.realm.authority, timeout=5
        )
    )
    async with gate.enter("pbscastd", Role.SERVICE) as client:
        worker = asyncio.create_task(Fanout(log, settings).run())
        yield client
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
        streams = JetStreamManager(client)
        for stream in await streams.streams_info():
            await streams.delete_stream(str(stream.config.name))


def change(job: str, owner: str, **changed: str) -> Draft:
    payload = ChangePayload(owner=owner, queue="workq", state="R", changed=changed)
    return _draft(Kind.JOB, job, EventName.STATE, payload)


def end(job: str, owner: str) -> Draft:
    payload = FinalizePayload(owner=owner, reason=Reason.FINISHED)
    return _draft(Kind.JOB, job, EventName.FINALIZE, payload)


def node(name: str) -> Draft:
    return _draft(Kind.NODE, name, EventName.CREATE, ChangePayload(state="free"))


def _draft(kind: Kind, name: str, event: EventName, payload: Any) -> Draft:
    return Draft(
        kind=kind,
        id=name,
        event=event,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=payload,
    )


class Person:
    """Somebody at a terminal, with no more than his credentials."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    @asynccontextmanager
    async def at(
        cls, gate: Gate, name: str, role: Role = Role.USER, sites: tuple[str, ...] = ()
    ) -> AsyncIterator[Person]:
        async with gate.enter(name, role, sites) as client:
            yield cls(client)

    async def ask(self, service: str, **request: Any) -> dict[str, Any] | str:
        """The answer; a text if it is a refusal."""
        async with asyncio.timeout(60):
            while True:
                with suppress(NoRespondersError, NatsTimeout):  # services are just starting
                    body = json.dumps(request).encode()
                    answer = await self.client.request(f"pbscast.v1.{service}", body, timeout=5)
                    refusal = (answer.headers or {}).get("Nats-Service-Error", "")
                    if not refusal:
                        return dict(json.loads(answer.data))
                    if not refusal.startswith("UnavailableError"):
                        return str(refusal)
                await asyncio.sleep(0.05)

    async def get(self, service: str, **request: Any) -> dict[str, Any]:
        answer = await self.ask(service, **request)
        assert isinstance(answer, dict), answer
        return answer

    async def subscribe(self, **request: Any) -> dict[str, Any]:
        return await self.get("subscribe", **request)

    async def pull(
        self, consumer: str, is_enough: Callable[[list[SubscriptionMessage]], object]
    ) -> list[SubscriptionMessage]:
        """Read and acknowledge until it is enough."""
        heard: list[SubscriptionMessage] = []
        inbox = self.client.new_inbox()
        come: asyncio.Queue[Msg] = asyncio.Queue()
        subscription = await self.client.subscribe(f"{inbox}.*", cb=come.put)
        pull = json.dumps({"batch": 1, "expires": 10**9}).encode()
        deadline = monotonic() + 40
        for number in count():
            if is_enough(heard):
                break
            assert monotonic() < deadline, heard
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{DELIVERIES}.{consumer}"
            await self.client.publish(subject, pull, reply=f"{inbox}.{number}")
            message = await come.get()
            if not (message.headers or {}).get("Status"):
                heard.append(decode(message.data))
                await self.client.request(message.reply, b"+ACK", timeout=30)
        await subscription.unsubscribe()
        return heard


@pytest.fixture
async def alice(gate: Gate, service: Client) -> AsyncIterator[Person]:
    async with Person.at(gate, "alice") as person:
        yield person


@pytest.fixture
async def bob(gate: Gate, service: Client) -> AsyncIterator[Person]:
    async with Person.at(gate, "bob") as person:
        yield person


def up_to(job: str) -> Callable[[list[SubscriptionMessage]], bool]:
    """Whether the end of a job, or of everything, has been told."""
    return lambda heard: any(
        isinstance(item, CompleteMessage)
        or (isinstance(item, EventMessage) and item.event.id == job)
        for item in heard
    )


def begun(heard: list[SubscriptionMessage]) -> bool:
    """Whether all that stood has been told."""
    return any(isinstance(item, BoundaryMessage) for item in heard)


def objects(heard: list[SubscriptionMessage]) -> set[str]:
    """What they are about."""
    standing = {item.object.id for item in heard if isinstance(item, ObjectMessage)}
    return standing | {item.event.id for item in heard if isinstance(item, EventMessage)}


CUNNING: list[dict[str, Any]] = [
    {},
    {"ids": ["1.sitea", "2.sitea", "3.sitea", "9.sitea"]},
    {"where": 'owner == "bob" or owner == "alice"'},
    {"where": 'not (owner == "alice") or id == "9.sitea"'},
    {"where": 'exists secret or id == "9.sitea"'},
    {"owners": ["alice", "bob"], "queues": ["workq"]},
    {"states": ["R"], "attributes": ["secret", "comment"]},
    {"kinds": ["job", "node"], "states": ["R", "free", "F"]},
    {"kinds": list(Kind)},
    {"events": ["state", "finalize"]},
]
"""What matches bob's jobs, if alice might see them, and one job of hers that comes last."""


async def test_nothing_is_told_of_jobs_of_others(log: Log, alice: Person) -> None:
    await write(log, "sitea", [change("1.sitea", "alice"), change("2.sitea", "bob", secret="x")])
    made = [await alice.subscribe(**asked) for asked in CUNNING]
    stood = [await alice.pull(one["consumer"], begun) for one in made]
    await write(
        log,
        "sitea",
        [
            change("2.sitea", "bob", comment="x"),
            change("3.sitea", "bob", secret="y"),
            node("n1"),
            change("1.sitea", "bob", comment="given away"),
            end("2.sitea", "bob"),
            end("3.sitea", "bob"),
            change("9.sitea", "alice", secret="mine", comment="mine"),
        ],
    )
    for asked, one, before in zip(CUNNING, made, stood, strict=True):
        heard = before + await alice.pull(one["consumer"], up_to("9.sitea"))
        jobs = {name for name in objects(heard) if name.endswith(".sitea")}
        assert jobs <= {"1.sitea", "9.sitea"}, asked
        assert "9.sitea" in jobs, asked
        assert all(getattr(item.event, "owner", None) != "bob" for item in heard
                   if isinstance(item, EventMessage)), asked  # fmt: skip
        assert ("n1" in objects(heard)) == ("node" in asked.get("kinds", ())), asked


async def test_a_job_of_another_is_as_one_that_there_is_not(log: Log, alice: Person) -> None:
    await write(log, "sitea", [change("1.sitea", "alice"), change("2.sitea", "bob")])
    theirs = await alice.subscribe(ids=["1.sitea", "2.sitea"])
    nobodys = await alice.subscribe(ids=["1.sitea", "77.sitea"])
    stood = {one["id"]: await alice.pull(one["consumer"], begun) for one in (theirs, nobodys)}
    await write(log, "sitea", [end("2.sitea", "bob"), end("1.sitea", "alice")])
    told = []
    for one in (theirs, nobodys):
        heard = stood[one["id"]] + await alice.pull(one["consumer"], up_to("1.sitea"))
        told.append([item.model_dump(exclude={"subscription"}) for item in heard])
    assert told[0] == told[1]
    listed = (await alice.get("list"))["subscriptions"]
    assert [(item["ids"], item["pending"]) for item in listed] == [(2, 1), (2, 1)]
    # Neither is complete: what is told after it would be the next message.
    await alice.get("modify", id=theirs["id"], remove_ids=["2.sitea"])
    assert [type(item) for item in await alice.pull(theirs["consumer"], len)] == [CompleteMessage]


async def test_others_subscriptions_are_as_if_there_were_none(alice: Person, bob: Person) -> None:
    his = (await bob.subscribe(ids=["1.sitea"], id=KEY))["id"]
    other = "f" * 32
    for service, more in (
        ("renew", {"resume": True, "acknowledged": True}),
        ("modify", {"add_ids": ["2.sitea"]}),
        ("modify", {"attributes": ["comment"]}),
        ("unsubscribe", {}),
    ):
        answers = [str(await alice.ask(service, id=key, **more)) for key in (his, other)]
        assert answers[0].replace(his, other) == answers[1]
        assert service == "unsubscribe" or answers[1].startswith("NotFoundError")
    assert (await alice.get("list"))["subscriptions"] == []
    assert [item["id"] for item in (await bob.get("list"))["subscriptions"]] == [his]
    # The id cannot be had by another, by the words for one that somebody had before.
    for asked in ({"ids": ["1.sitea"]}, {"ids": ["2.sitea"]}, {}):
        refusal = str(await alice.ask("subscribe", id=his, **asked))
        assert refusal == f"ConflictError: id: subscription '{his}' has ended: take another id"
    assert (await bob.get("renew", id=his))["consumer"] == BOB.slot(1)
    assert (await alice.subscribe(ids=["1.sitea"]))["consumer"].startswith("user-alice-")


async def test_each_has_a_slot_of_its_own(log: Log, alice: Person, service: Client) -> None:
    made = [await alice.subscribe(ids=[f"{number}.sitea"]) for number in range(SLOTS)]
    assert {one["consumer"] for one in made} == {ALICE.slot(n + 1) for n in range(SLOTS)}
    refusal = str(await alice.ask("subscribe"))
    assert refusal.startswith(f"ConflictError: alice has {SLOTS} subscriptions with delivery at-")
    # Asked again it is the same one, not another.
    again = {"id": KEY, "delivery": "at-most-once"}
    assert await alice.subscribe(**again) | {"expires": ""} == await alice.subscribe(**again) | {
        "expires": ""
    }
    # A slot is given to the next one, who is told nothing that was for the one before.
    await write(log, "sitea", [change("5.sitea", "alice"), end("5.sitea", "alice")])
    gone = made[5]
    await alice.pull(gone["consumer"], begun)
    await alice.get("unsubscribe", id=gone["id"])
    new = await alice.subscribe(ids=["6.sitea"], id="1" * 32)
    assert new["consumer"] == gone["consumer"]
    assert (await alice.subscribe(ids=["6.sitea"], id="1" * 32))["consumer"] == new["consumer"]
    stood = await alice.pull(new["consumer"], begun)
    await write(log, "sitea", [change("6.sitea", "alice")])
    heard = stood + await alice.pull(new["consumer"], up_to("6.sitea"))
    assert {item.subscription for item in heard} == {new["id"]}
    assert len(await JetStreamManager(service).consumers_info(DELIVERIES)) == SLOTS


async def test_a_reader_that_was_away_goes_on(log: Log, alice: Person) -> None:
    await write(log, "sitea", [node("n1")])
    one = await alice.subscribe(queues=["workq"])
    await alice.pull(one["consumer"], begun)
    await write(log, "sitea", [change("1.sitea", "alice"), change("2.sitea", "alice")])
    await alice.pull(one["consumer"], up_to("1.sitea"))
    back = await alice.get("renew", id=one["id"], resume=True, acknowledged=True)
    assert back["consumer"] == one["consumer"]
    assert back["acknowledged"] == {"sitea": 3}
    heard = await alice.pull(one["consumer"], up_to("2.sitea"))
    assert [item.n for item in heard if not isinstance(item, CompleteMessage)] == [4]


async def test_a_shared_one_is_read_by_its_owner_alone(
    log: Log, alice: Person, bob: Person
) -> None:
    await write(log, "sitea", [node("n1")])
    one = await alice.subscribe(queues=["workq"], shared=True)
    await alice.pull(one["consumer"], begun)
    await write(log, "sitea", [change("1.sitea", "alice")])
    assert objects(await alice.pull(one["consumer"], up_to("1.sitea"))) == {"1.sitea"}
    assert (await alice.get("renew", id=one["id"], resume=True))["unhandled"] == 0
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{DELIVERIES}.{one['consumer']}"
    with pytest.raises(NoRespondersError):
        await bob.client.request(subject, b"1", timeout=30)


async def test_what_is_told_at_most_once_comes_to_its_owner_alone(
    log: Log, alice: Person, bob: Person
) -> None:
    heard: list[Msg] = []
    overheard: list[Msg] = []
    over = asyncio.Event()

    async def hear(message: Msg) -> None:
        heard.append(message)
        if b"complete" in message.data:
            over.set()

    async def overhear(message: Msg) -> None:
        overheard.append(message)

    await write(log, "sitea", [change("1.sitea", "alice")])
    await bob.client.subscribe("pbscast.live.v1.>", cb=overhear)
    await reach(bob.client)
    await alice.client.subscribe(f"pbscast.live.v1.*.{KEY}", cb=hear)
    await reach(alice.client)
    one = await alice.subscribe(id=KEY, ids=["1.sitea"], delivery="at-most-once")
    assert (one["subject"], one["consumer"]) == (f"pbscast.live.v1.*.{KEY}", None)
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        while len(heard) < 3:  # until its boundary  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await write(log, "sitea", [change("2.sitea", "bob"), end("1.sitea", "alice")])
    async with asyncio.timeout(30):
        await over.wait()
    assert objects([decode(item.data) for item in heard]) == {"1.sitea"}
    assert {item.subject for item in heard} == {
        f"pbscast.live.v1.sitea.{KEY}",
        f"pbscast.live.v1.-.{KEY}",
    }
    await reach(bob.client)
    assert overheard == []


async def test_who_may_see_less_is_told_no_more(log: Log, gate: Gate, service: Client) -> None:
    for site in ("sitea", "siteb"):
        await write(log, site, [change(f"1.{site}", "bob")])
    async with Person.at(gate, "carol", Role.OPERATOR, ("sitea", "siteb")) as carol:
        wide, narrow, other = [
            await carol.subscribe(sites=sites) for sites in ([], ["sitea"], ["siteb", "sitea"])
        ]
        assert str(await carol.ask("subscribe", sites=["sitea", "sitec"])) == (
            "AccessDeniedError: sites: sitec: carol may see sitea, siteb alone"
        )
        heard = await carol.pull(wide["consumer"], lambda heard: len(objects(heard)) == 2)
        assert objects(heard) == {"1.sitea", "1.siteb"}
    await asyncio.sleep(1.1)  # a later token, for the server
    async with Person.at(gate, "carol", Role.OPERATOR, ("sitea",)) as carol:
        refusal = str(await carol.ask("renew", id=wide["id"]))
        assert refusal == (
            f"AccessDeniedError: subscription '{wide['id']}' has ended: carol may no longer see all"
            " that it was registered for: subscribe anew"
        )
        assert str(await carol.ask("renew", id=wide["id"])).startswith("NotFoundError")
        refusal = str(await carol.ask("modify", id=other["id"], attributes=["comment"]))
        assert refusal.startswith("AccessDeniedError")
        moved = (await carol.get("renew", id=narrow["id"]))["consumer"]
        assert objects(await carol.pull(moved, len)) == set()  # begin
    found = await JetStreamManager(service).consumers_info(DELIVERIES)
    assert [info.name for info in found] == [moved]


async def test_who_may_see_more_is_told_it(log: Log, gate: Gate, service: Client) -> None:
    for site in ("sitea", "siteb"):
        await write(log, site, [change(f"1.{site}", "bob")])
    async with Person.at(gate, "carol", Role.OPERATOR, ("sitea",)) as carol:
        one = await carol.subscribe(id=KEY)
        await carol.pull(one["consumer"], lambda heard: objects(heard) == {"1.sitea"})
    await asyncio.sleep(1.1)
    async with Person.at(gate, "carol", Role.OPERATOR, ("sitea", "siteb")) as carol:
        again = await carol.subscribe(id=KEY)
        assert again["consumer"] != one["consumer"]
        await carol.pull(again["consumer"], lambda heard: "1.siteb" in objects(heard))


async def test_nobody_uses_up_what_all_share(
    alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "MOST_IDS_OWNED", 3)
    monkeypatch.setattr(quotas, "MOST_WHERE_OWNED", 30)
    monkeypatch.setattr(quotas, "MOST_LIVE", 2)
    one = await alice.subscribe(ids=["1.sitea", "2.sitea"], lease=30 * 86_400)
    assert one["lease"] == quotas.LONGEST_LEASE_OWNED
    assert str(await alice.ask("subscribe", ids=["1.sitea", "2.sitea"])).startswith(
        "ConflictError: ids: alice's subscriptions would name 4 in all, more than 3: end one"
    )
    await alice.subscribe(ids=["3.sitea"])
    await alice.get("modify", id=one["id"], add_ids=["2.sitea"])  # asked again, say
    refusal = str(await alice.ask("modify", id=one["id"], add_ids=["4.sitea"]))
    assert refusal.startswith("ConflictError: ids: alice's subscriptions would name 4 in all")
    await alice.subscribe(where='owner == "alice"', delivery="at-most-once")
    refusal = str(await alice.ask("subscribe", where='owner != "alice"'))
    assert refusal.startswith("ConflictError: where: the expressions of alice's subscriptions")
    await alice.subscribe(delivery="at-most-once")
    refusal = str(await alice.ask("subscribe", delivery="at-most-once"))
    assert refusal.startswith("ConflictError: alice has 2 subscriptions with delivery at-most-")
