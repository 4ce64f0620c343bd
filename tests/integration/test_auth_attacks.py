"""An attacker with good credentials, a real nats-server, and what he must not get.

Each attempt is made by `alice`, as she is let in, and by `eve`, whose token allows everything, so
that nothing but her account's imports stands in her way. And by a service, to see that the attempts
are worth something: within the account PBS nearly each of them succeeds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from harness.auth import Gate, reach
from harness.auth_attempts import ATTEMPTS, VICTIMS_INBOX, Attempt
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, StorageType
from nats.js.errors import NotFoundError

from pbscast_deploy.auth.keys import Key
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.telling import tell
from pbscast_deploy.auth.tokens import decode, encode
from pbscast_fanout.askers import Role

STREAMS = {
    "PBS": ("pbs.v1.sitea.>",),
    "PBS_DELIVERIES": ("pbscast.deliver.v1.>",),
    "KV_PBS_SUBSCRIPTIONS": ("$KV.PBS_SUBSCRIPTIONS.>",),
}
PEOPLE = ("alice", "eve", "bob")
PULL_FROM = "$JS.API.CONSUMER.MSG.NEXT"
HONEST_LIVE = (
    ("pbscast.live.v1.sitea.user-bob-8adf3844.two", b"of bob"),
    ("pbscast.live.v1.sitea.user-alice-8adf3844.one", b"of alice"),
    ("pbs.v1.siteb.job.bob.1/sitea.-.state", b"of bob"),
)
BOBS = (b"of bob", b"of all")
HONEST = (
    ("pbs.v1.sitea.job.bob.1/sitea.-.state", b"of bob"),
    ("pbs.v1.sitea.job.alice.1/sitea.-.state", b"of alice"),
    ("pbs.v1.sitea.job.eve.1/sitea.-.state", b"of eve"),
    ("pbs.v1.sitea.queue.workq.modify", b"of all"),
    ("pbs.v1.sitea.mark", b"of all"),
    ("pbscast.deliver.v1.sitea.two", b"of bob"),
    ("pbscast.deliver.v1.sitea.one", b"of alice"),
    ("$KV.PBS_SUBSCRIPTIONS.one", b"of bob"),
)


async def open_wide(gate: Gate, name: str) -> str:
    """Credentials of a user whose key may give everything."""
    realm = gate.realm
    issued = realm.issue(Principal(name, Role.USER), timedelta(hours=1))
    claims = decode(issued.account)
    for scope in claims["nats"]["signing_keys"]:
        scope["template"] |= {"pub": {}, "sub": {}}
    root = Key.load(realm.system_credentials.with_name("root.nk"))
    await tell(realm, [gate.url], [encode({**claims, "iat": claims["iat"] + 1}, root)])
    return issued.content


class Stage:
    """Streams with something in them, services that answer, bob, and somebody who sees all."""

    def __init__(self, gate: Gate, service: Client, bob: Client) -> None:
        self.gate = gate
        self.service = service
        self.bob = bob
        self.seen: list[Msg] = []
        """All that was sent within the account PBS."""
        self.bobs: list[Msg] = []
        self.before: dict[str, Any] = {}

    async def begin(self) -> None:
        await self.service.subscribe("pbscast.v1.as.>", cb=self._serve)
        await self.service.subscribe(">", cb=self._see)
        for subject in ("pbs.v1.>", "pbscast.live.>", VICTIMS_INBOX.replace("{victim}", "bob")):
            await self.bob.subscribe(subject, cb=self._to_bob)
        await reach(self.bob)

    async def renew(self) -> None:
        """Make the streams, and what is in them, anew."""
        jetstream = self.service.jetstream()
        for name, subjects in STREAMS.items():
            with suppress(NotFoundError):
                await jetstream.delete_stream(name)
            await jetstream.add_stream(
                name=name, subjects=list(subjects), allow_direct=True, storage=StorageType.MEMORY
            )
        for subject, body in HONEST:
            await self.service.publish(subject, body)
        for person in PEOPLE:
            told = "two" if person == "bob" else "one"
            await self._slot("PBS", person, f"pbs.v1.*.job.{person}.>")
            await self._slot("PBS_DELIVERIES", person, f"pbscast.deliver.v1.*.{told}")
        # Something of bob's is delivered, so that it could be acknowledged.
        bobs = f"{PULL_FROM}.PBS_DELIVERIES.user-bob-8adf3844-1"
        await self.service.request(bobs, b"1", timeout=30, old_style=True)
        await self.settle()
        self.before = await self.state()

    async def settle(self) -> None:
        """Let what is under way arrive, and forget it."""
        await reach(self.service)
        await reach(self.bob)
        self.seen.clear()
        self.bobs.clear()

    async def _slot(self, stream: str, person: str, subject: str) -> None:
        await self.service.jetstream().add_consumer(
            stream,
            durable_name=f"user-{person}-8adf3844-1",
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
        )

    async def _serve(self, message: Msg) -> None:
        if message.reply:
            await message.respond(json.dumps({"of": message.subject}).encode())

    async def _see(self, message: Msg) -> None:
        self.seen.append(message)

    async def _to_bob(self, message: Msg) -> None:
        self.bobs.append(message)

    async def state(self) -> dict[str, Any]:
        """What is stored, which consumers there are, and what bob's have delivered."""
        state: dict[str, Any] = {}
        streams = await self._api("STREAM.LIST")
        for stream in streams["streams"] or ():
            name = stream["config"]["name"]
            state[name] = (stream["config"], stream["state"]["messages"])
            for consumer in (await self._api(f"CONSUMER.LIST.{name}"))["consumers"] or ():
                progress = [consumer[key] for key in ("delivered", "ack_floor", "num_ack_pending")]
                is_bobs = consumer["name"] == "user-bob-8adf3844-1"
                # What somebody pulls from his own is no breach.
                state[f"{name} {consumer['name']}"] = (
                    consumer["config"],
                    progress if is_bobs else None,
                )
        return state

    async def _api(self, verb: str) -> Any:
        answer = await self.service.request(f"$JS.API.{verb}", timeout=30)
        return json.loads(answer.data)

    async def breaches(self, me: str) -> list[str]:
        """What has happened to others that must not."""
        after = await self.state()
        changed = {
            key for key in {**self.before, **after} if self.before.get(key) != after.get(key)
        }
        return [
            *(f"changed: {key}" for key in changed),
            *(f"in PBS: {show(message)}" for message in self.seen if not is_usual(me, message)),
            *(f"bob got {show(message)}" for message in self.bobs if message.data not in BOBS),
        ]


def is_usual(me: str, message: Msg) -> bool:
    """Whether a message in the account PBS is one that the attacker may cause, or none of his."""
    mine = (
        f"pbscast.v1.as.user.-.{me}.",
        "pbscast.v1.as.user.-.bob.honest",
        *(
            f"{pull}.{stream}.user-{me}-8adf3844-"
            for pull in (PULL_FROM, PULL_FROM.replace("JS", "JS.hub"))
            for stream in ("PBS", "PBS_DELIVERIES")
        ),
        f"$JS.ACK.PBS_DELIVERIES.user-{me}-8adf3844-",
    )
    if message.subject == VICTIMS_INBOX.replace("{victim}", "bob"):
        return False
    others = ("$JS.API.STREAM.LIST", "$JS.API.CONSUMER.LIST.", "$JS.EVENT.", "_R_.", "_INBOX.")
    return message.subject.startswith((*mine, *others)) or (
        message.subject,
        message.data,
    ) in (*HONEST, *HONEST_LIVE)


def is_leak(me: str, message: Msg, sent: set[bytes]) -> bool:
    """Whether a message tells the attacker what is not for him."""
    data = message.data
    if data in sent or data in (b"of all", f"of {me}".encode()):
        return False
    if not data:
        # A refusal has a status; what is got directly has where it was stored.
        return "Nats-Sequence" in (message.headers or {})
    content = json.loads(data) if data.startswith(b"{") else {}
    if "server" in content:
        # Servers tell everybody of his own account.
        return b"bob" in data or b"pbscastd" in data
    is_own = str(content.get("of", "")).startswith(f"pbscast.v1.as.user.-.{me}.")
    return not is_own and "error" not in content


def show(message: Msg) -> str:
    return f"{message.subject} {message.headers or ''} {message.data[:80]!r}"


async def play(stage: Stage, attacker: Client, me: str, attempt: Attempt) -> list[str]:
    """Make an attempt while others go about their work; return what it has achieved."""
    heard: list[Msg] = []
    sent: set[bytes] = set()
    accounts = stage.gate.realm.accounts()

    async def hear(message: Msg) -> None:
        heard.append(message)

    def fill(text: str) -> str:
        account, token = next(iter(accounts.items()))
        known = {"me": me, "victim": "bob", "account": account, "token": token}
        for name, value in known.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    listening = [
        await attacker.subscribe(fill(subject), cb=hear)
        for subject in (f"_INBOX.{me}.*", *attempt.listens)
    ]
    for number, send in enumerate(attempt.sends):
        body = fill(send.body).encode()
        sent.add(body)
        reply = fill(send.reply) if send.reply else f"_INBOX.{me}.{number}"
        await attacker.publish(fill(send.subject), body, reply=reply)
    await reach(attacker)
    for subject, body in HONEST_LIVE:
        await stage.service.publish(subject, body)
    await stage.bob.request("pbscast.v1.honest", timeout=30)
    # Of what does not happen nobody is told: JetStream's own threads get a moment.
    await asyncio.sleep(0.01)
    found = await stage.breaches(me)
    await reach(attacker)
    for subscription in listening:
        await subscription.unsubscribe()
    return [*found, *(f"heard {show(one)}" for one in heard if is_leak(me, one, sent))]


@asynccontextmanager
async def attacking(gate: Gate, name: str, creds: str) -> AsyncIterator[tuple[Stage, Client]]:
    async with gate.enter("pbscastd", Role.SERVICE) as service, gate.enter("bob") as bob:
        stage = Stage(gate, service, bob)
        await stage.begin()
        await stage.renew()
        attacker = await gate.connect(creds)
        try:
            yield stage, attacker
        finally:
            await attacker.close()


@pytest.mark.parametrize("me", ["alice", "eve"])
async def test_nothing_succeeds(gate: Gate, me: str) -> None:
    creds = await (gate.creds(me) if me == "alice" else open_wide(gate, me))
    async with attacking(gate, me, creds) as (stage, attacker):
        found = {}
        for attempt in ATTEMPTS:
            if breaches := await play(stage, attacker, me, attempt):
                found[attempt.what] = breaches
                await stage.renew()
            await stage.settle()
    assert found == {}


async def test_every_attempt_would_succeed_within_the_account(gate: Gate) -> None:
    async with attacking(gate, "alice", await gate.creds("mallory", Role.SERVICE)) as (stage, one):
        vain = []
        for attempt in ATTEMPTS:
            breaches = await play(stage, one, "alice", attempt)
            if not breaches:
                vain.append(attempt.what)
            if any(breach.startswith("changed") for breach in breaches):
                await stage.renew()
            await stage.settle()
    assert vain == []
