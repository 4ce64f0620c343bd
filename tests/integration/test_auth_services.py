"""An attacker with good credentials, a real worker with a log behind a secured nats-server.

What alice asks about bob's is compared with what she is told of what nobody has: no answer may
differ, and none may hold anything of bob's. Then a service asks the same, to see that it is worth
asking.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from harness.auth import Gate, reach
from harness.auth_attempts import ASKING, Attempt
from harness.fanning import until, write
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import NotFoundError
from nats.js.manager import JetStreamManager

from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast_fanout import openings
from pbscast_fanout.askers import SLOTS, Role
from pbscast_fanout.services import AT_ONCE, PER_SECOND
from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.turns import ONES
from pbscast_fanout.worker import Fanout
from pbscast_store.confines import Confined
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.search import LifePage

SECRET = "of bob"
CONTROL = "f" * 32
BOBS = {
    "victim": "bob",
    "job": "2.sitea",
    "id": "2/sitea",
    "array": "6[].sitea",
    "subjob": "6[1].sitea",
    "name": "bobsname",
    "queue": "bobsqueue",
    "position": "3",
}
NOBODYS = {
    "victim": "ghost",
    "job": "99.sitea",
    "id": "99/sitea",
    "array": "96[].sitea",
    "subjob": "96[1].sitea",
    "name": "ghostsname",
    "queue": "ghostsqueue",
    "position": "99",
    "subscription": "9" * 32,
}
POSITION = re.compile(r'"position":[0-9]+,?|"positions": {"sitea": [0-9]+}')
VOLATILE = re.compile(r'"(consumer|created|expires|opening)": ?("[^"]*"|[0-9]+),?')
_ROUNDS = count(1)


def draft(kind: Kind, name: str, event: EventName, payload: Any) -> Draft:
    return Draft(kind, name, event, datetime.now(UTC), Provenance.JOURNAL, payload)


def change(job: str, owner: str, comment: str) -> Draft:
    payload = ChangePayload(
        owner=owner,
        queue=f"{owner}squeue",
        name=f"{owner}sname",
        state="R",
        changed={"comment": f"{comment} of {owner}"},
    )
    return draft(Kind.JOB, job, EventName.STATE, payload)


def end(job: str, owner: str) -> Draft:
    payload = FinalizePayload(
        owner=owner,
        queue=f"{owner}squeue",
        name=f"{owner}sname",
        state="F",
        reason=Reason.DELETED,
        exit_status=77,
    )
    return draft(Kind.JOB, job, EventName.FINALIZE, payload)


LOGGED = [
    change("1.sitea", "alice", "first"),
    change("2.sitea", "bob", "first"),
    change("2.sitea", "bob", "second"),
    change("6[].sitea", "bob", "array"),
    change("6[1].sitea", "bob", "subjob"),
    change("3.sitea", "bob", "third"),
    draft(Kind.QUEUE, "workq", EventName.MODIFY, ChangePayload(changed={"enabled": "True"})),
    end("3.sitea", "bob"),
    change("2.sitea", "bob", "last"),
]


@pytest.fixture(autouse=True)
def readers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that bob does not pull from is not forgotten in the course of a test."""
    monkeypatch.setattr(openings, "INACTIVE_THRESHOLD", 600.0)


@dataclass
class Stage:
    """What alice attacks: a log, a worker, and what is bob's there."""

    gate: Gate
    log: Log
    service: Client
    bob: Client
    bobs: dict[str, str] = field(default_factory=dict)
    kept: str = ""

    async def begin(self) -> None:
        """Bob registers something, and reads the stream."""
        made = await ask(self.bob, "subscribe", ids=["2.sitea"], lease=600)
        opened = await ask(self.bob, "open", subjects=["pbs.v1.*.job.bob.>"])
        self.bobs = {**BOBS, "subscription": made["id"], "reader": opened["consumer"]}
        self.kept = made["consumer"]

    @property
    def nobodys(self) -> dict[str, str]:
        return {**NOBODYS, "reader": self.bobs["reader"].replace("bob", "ghost")}

    async def state(self) -> tuple[Any, ...]:
        """What bob has."""
        jetstream = self.service.jetstream()
        state: list[Any] = [await ask(self.bob, "list")]
        for stream, name in (("PBS", self.bobs["reader"]), ("PBS_DELIVERIES", self.kept)):
            with suppress(NotFoundError):
                info = await jetstream.consumer_info(stream, name)
                state += [info.name, info.config, info.delivered]
        return tuple(state)

    async def tidy(self) -> None:
        """Take away what an attacker has opened."""
        jetstream = self.service.jetstream()
        for consumer in await jetstream.consumers_info("PBS"):
            if consumer.name.startswith(("user-alice-", "reader-")):
                await jetstream.delete_consumer("PBS", consumer.name)


@pytest.fixture
async def stage(gate: Gate, log: Log, tmp_path: Path) -> AsyncIterator[Stage]:
    credentials = tmp_path / "service.creds"
    credentials.write_text(await gate.creds("pbscastd", Role.SERVICE))
    nats = NatsSettings(
        servers=(gate.url,), credentials=credentials, tls_ca=gate.realm.authority, timeout=5
    )
    await write(log, "sitea", LOGGED)
    async with (
        gate.enter("pbscastd", Role.SERVICE) as service,
        gate.enter("bob") as bob,
        working(Fanout(log, FanoutSettings(nats=nats))),
    ):
        await published(service, len(LOGGED))
        stage = Stage(gate, log, service, bob)
        await stage.begin()
        yield stage
        streams = JetStreamManager(service)
        for stream in await streams.streams_info():
            await streams.delete_stream(str(stream.config.name))


@asynccontextmanager
async def working(fanout: Fanout) -> AsyncIterator[None]:
    task = asyncio.create_task(fanout.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def published(client: Client, position: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(NoRespondersError):
                status = await ask(client, "status")
                if any(site["published"] >= position for site in status["sites"]):
                    return
            await asyncio.sleep(0.02)


async def ask(client: Client, service: str, **request: Any) -> Any:
    """The answer, or the line that refuses one; waits while a worker is starting."""
    async with asyncio.timeout(30):
        while True:
            body = json.dumps(request).encode()
            answer = await client.request(f"pbscast.v1.{service}", body, timeout=20)
            refusal = (answer.headers or {}).get("Nats-Service-Error", "")
            if not refusal.startswith("UnavailableError"):
                return refusal or json.loads(answer.data)
            await asyncio.sleep(0.02)


class Attacker:
    """Somebody who asks, and hears."""

    def __init__(self, client: Client, stage: Stage) -> None:
        self._client = client
        self._stage = stage
        self._heard: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()

    async def begin(self) -> None:
        await self._client.subscribe("pbscast.live.v1.>", cb=self._hear)
        await self._client.subscribe("_INBOX.attack.>", cb=self._hear)
        await self._follow(
            await ask(
                self._client, "subscribe", id=CONTROL, ids=["1.sitea"], delivery="at-most-once"
            )
        )

    async def _hear(self, message: Msg) -> None:
        refusal = (message.headers or {}).get("Nats-Service-Error", "")
        self._heard.append((message.subject, refusal.encode() or message.data))
        self._news.set()

    async def heard(self, attempt: Attempt, values: dict[str, str]) -> list[bytes]:
        """All that is answered, and told meanwhile of what happens to bob's jobs."""
        self._heard.clear()
        for number, send in enumerate(attempt.sends):
            subject, body = (fill(text, values) for text in (send.subject, send.body))
            if subject.startswith("pbscast."):
                answer = await self._client.request(subject, body.encode(), timeout=20)
                await self._hear(answer)
                if subject.endswith(".subscribe") and not answer.headers:
                    await self._follow(json.loads(answer.data))
                if subject.endswith(".open") and not answer.headers:
                    await self._read(json.loads(answer.data))
            else:  # a pull may be answered by much or nothing
                reply = f"_INBOX.attack.{number}"
                await self._client.publish(subject, body.encode(), reply=reply)
        await reach(self._client)
        await self._go_on()
        return [data for _, data in self._heard]

    async def _follow(self, made: dict[str, Any]) -> None:
        """Wait until a subscription has been told how things stand."""
        subject = f"pbscast.live.v1.sitea.{made['id']}"
        await self._until(
            lambda: any(told == subject and b'"boundary"' in data for told, data in self._heard)
        )

    async def _read(self, opened: dict[str, Any]) -> None:
        """Pull all that there is."""
        reply = f"_INBOX.attack.{opened['consumer']}"
        pull = f"$JS.API.CONSUMER.MSG.NEXT.PBS.{opened['consumer']}"
        await self._client.publish(pull, b'{"batch":500,"no_wait":true}', reply=reply)
        await self._until(lambda: (reply, b"") in self._heard)

    async def _go_on(self) -> None:
        """Let something happen to bob's job, and wait for what happens to alice's next."""
        sign = f"round {next(_ROUNDS)}"
        happening = [change("2.sitea", "bob", sign), change("1.sitea", "alice", sign)]
        await write(self._stage.log, "sitea", happening)
        last = f"{sign} of alice".encode()
        await self._until(lambda: any(last in data for _, data in self._heard))

    async def _until(self, has_come: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not has_come():
                self._news.clear()
                await self._news.wait()


def fill(text: str, values: dict[str, str]) -> str:
    for name, value in {**values, "me": "alice"}.items():
        text = text.replace('"{position}"', values["position"]).replace(f"{{{name}}}", value)
    return text


def plain(answers: list[bytes], values: dict[str, str]) -> list[str]:
    """Answers without what was asked, and without what changes by itself."""
    words = [(f"sitea:{values['position']}", "<position>")]
    words += [(value, f"<{name}>") for name, value in values.items() if name != "position"]
    found = []
    for answer in answers:
        if b"round" in answer:  # which happened to alice's job
            continue
        text = VOLATILE.sub("", answer.decode())
        if '"begin"' in text or '"boundary"' in text or '"positions"' in text:
            text = POSITION.sub("", text)  # the site's, which everybody may know
        for word, name in words:
            text = text.replace(word, name)
        found.append(text)
    return sorted(found)


async def breaches(stage: Stage, attacker: Attacker, attempt: Attempt) -> list[str]:
    """What an attempt has achieved."""
    before = await stage.state()
    values = {**stage.bobs, "fresh": token_hex(16)[1:]}
    mine = await attacker.heard(attempt, values)
    found = [f"heard {one[:200]!r}" for one in mine if SECRET.encode() in one]
    after = await stage.state()
    if after != before:
        found.append(f"changed: {before} -> {after}")
    await stage.tidy()
    if not is_about(attempt):
        return found
    others = {**stage.nobodys, "fresh": token_hex(16)[1:]}
    nobodys = await attacker.heard(attempt, others)
    await stage.tidy()
    told, untold = plain(mine, values), plain(nobodys, others)
    if told != untold:
        found.append(f"told apart: {told} {untold}")
    return found


def is_about(attempt: Attempt) -> bool:
    """Whether somebody's things are named in it."""
    text = " ".join(send.subject + send.body for send in attempt.sends)
    return any(f"{{{name}}}" in text for name in (*BOBS, "subscription", "reader"))


@asynccontextmanager
async def attacking(stage: Stage, role: Role) -> AsyncIterator[Attacker]:
    async with stage.gate.enter("alice" if role is Role.USER else "mallory", role) as client:
        attacker = Attacker(client, stage)
        await attacker.begin()
        yield attacker


async def test_no_question_tells_anything_of_anothers(stage: Stage) -> None:
    async with attacking(stage, Role.USER) as attacker:
        found = {attempt.what: await breaches(stage, attacker, attempt) for attempt in ASKING}
    assert {what: how for what, how in found.items() if how} == {}
    # And she is answered what is hers: there is something to be had.
    async with stage.gate.enter("alice") as alice:
        for service, rows in (("history", "events"), ("jobs", "lives"), ("snapshot", "objects")):
            assert len((await ask(alice, service))[rows]) >= 1


async def test_every_question_would_tell_something_within_the_account(stage: Stage) -> None:
    vain = []
    async with attacking(stage, Role.SERVICE) as attacker:
        for attempt in ASKING:
            found = await breaches(stage, attacker, attempt)
            if not found:
                vain.append(attempt.what)
            if any(breach.startswith("changed") for breach in found):
                await ask(stage.bob, "unsubscribe", id=stage.bobs["subscription"])
                await ask(stage.bob, "close", consumer=stage.bobs["reader"])
                await stage.begin()
    # Nobody at all can have a reader that is more than that.
    assert vain == ["a reader that delivers elsewhere, or keeps more"]


async def test_one_person_does_not_hold_up_the_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = stage.log.lives
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow_for_alice(confined: Confined, **more: Any) -> LifePage:
        if confined.confines.owner == "alice":
            asked.set()
            await go_on.wait()
        return await lives(confined, **more)

    monkeypatch.setattr(stage.log, "lives", slow_for_alice)
    async with stage.gate.enter("alice") as alice:
        flood = [alice.request("pbscast.v1.jobs", b"{}", timeout=30) for _ in range(150)]
        answering = asyncio.gather(*flood)
        await asked.wait()
        for _ in range(5):
            assert len((await ask(stage.bob, "jobs"))["lives"]) == 4
        go_on.set()
        refusals = [(answer.headers or {}).get("Nats-Service-Error") for answer in await answering]
    assert refusals.count(None) == ONES
    [refusal] = set(filter(None, refusals))
    assert refusal.startswith("UnavailableError: 20 requests of yours are being answered")


async def test_nobody_takes_up_readers_subscriptions_or_time(stage: Stage) -> None:
    async with stage.gate.enter("alice") as alice:
        opened = [await ask(alice, "open", subjects=["pbs.v1.>"]) for _ in range(SLOTS)]
        assert all("consumer" in answer for answer in opened)
        for service, request in (
            ("open", {"subjects": ["pbs.v1.>"]}),
            ("open", {"subjects": [f"pbs.v1.s{number}.>" for number in range(101)]}),
            ("subscribe", {"where": " or ".join(["x matches '*a*'"] * 257)}),
            ("subscribe", {"where": "not " * 33 + "x == 1"}),
            ("history", {"ids": [f"{number}.s" for number in range(1001)]}),
        ):
            refusal = await ask(alice, service, **request)
            assert refusal.startswith(("ConflictError: ", "UsageError: ")), (service, refusal)
        for number in range(SLOTS):
            await ask(alice, "subscribe", ids=[f"{number}.sitea"], lease=3600)
        refusal = await ask(alice, "subscribe", ids=["1.sitea"])
        assert refusal.startswith("ConflictError: "), refusal
        listed = (await ask(alice, "list"))["subscriptions"]
        assert len(listed) == SLOTS
        for one in listed:
            await ask(alice, "unsubscribe", id=one["id"])
    assert "consumer" in await ask(stage.bob, "open", subjects=["pbs.v1.>"])
    assert "consumer" in await ask(stage.bob, "subscribe", ids=["3.sitea"])


async def test_who_asks_without_a_pause_is_passed_over(stage: Stage) -> None:
    answers: list[bytes] = []

    async def hear(message: Msg) -> None:
        answers.append(message.data)

    clock = asyncio.get_running_loop().time
    async with stage.gate.enter("alice") as alice:
        await alice.subscribe("_INBOX.flood", cb=hear)
        await reach(alice)
        begin = clock()
        for _ in range(10 * AT_ONCE):
            await alice.publish("pbscast.v1.status", b"{}", reply="_INBOX.flood")
        await reach(alice)
        assert (await ask(stage.bob, "status"))["sites"]
        await until(lambda: len(answers) >= AT_ONCE)
        assert len(answers) <= AT_ONCE + PER_SECOND * (clock() - begin) + 1
        async with asyncio.timeout(20):
            while True:  # and soon he is answered again
                with suppress(NatsTimeout):
                    await alice.request("pbscast.v1.status", b"{}", timeout=0.5)
                    break
