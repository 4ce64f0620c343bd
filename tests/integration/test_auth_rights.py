"""What each role can do with the credentials it is given, and how much of it, with nats-server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import nats.errors
import pytest
from harness.auth import Gate, reach
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, StorageType
from nats.js.errors import NotFoundError

from pbscast_deploy.auth import layout
from pbscast_deploy.auth.layout import Policy, Principal
from pbscast_fanout.askers import SLOTS, Role

EVENTS = (
    "pbs.v1.sitea.job.alice.1/sitea.-.state",
    "pbs.v1.sitea.job.bob.2/sitea.-.state",
    "pbs.v1.siteb.job.alice.3/siteb.-.state",
    "pbs.v1.siteb.job.bob.4/siteb.-.state",
    "pbs.v1.sitea.node.n1.modify",
    "pbs.v1.siteb.node.n2.modify",
    "pbs.v1.sitea.site.-.gap",
    "pbs.v1.sitea.mark",
    "pbs.v1.siteb.mark",
)


@pytest.fixture
async def service(gate: Gate) -> AsyncIterator[Client]:
    """A service in the account PBS, with the streams, that says who asks."""

    async def serve(message: Msg) -> None:
        await message.respond(message.subject.encode())

    async with gate.enter("pbscastd", Role.SERVICE) as client:
        for name, subject in (("PBS", "pbs.v1.>"), ("PBS_DELIVERIES", "pbscast.deliver.v1.>")):
            with suppress(NotFoundError):
                await client.jetstream().delete_stream(name)
            await client.jetstream().add_stream(
                name=name, subjects=[subject], storage=StorageType.MEMORY
            )
        await client.subscribe("pbscast.v1.as.*.*.*.*", cb=serve)
        await reach(client)
        yield client


async def slot(service: Client, stream: str, name: str, subject: str) -> None:
    await service.jetstream().add_consumer(
        stream, durable_name=name, filter_subject=subject, ack_policy=AckPolicy.EXPLICIT
    )


async def seen_live(service: Client, client: Client, principal: Principal) -> set[str]:
    """Which of all events somebody sees who asks for all of them."""
    heard: set[str] = set()
    done = asyncio.Event()

    async def hear(message: Msg) -> None:
        heard.add(message.subject)
        if message.subject.endswith(".end"):
            done.set()

    await client.subscribe("pbs.v1.>", cb=hear)
    await client.subscribe("pbscast.live.v1.>", cb=hear)
    await reach(client)
    for subject in EVENTS:
        await service.publish(subject, b"event")
    await service.publish(f"pbscast.live.v1.-.{principal.asker(Policy()).pass_name}.end", b"")
    async with asyncio.timeout(30):
        await done.wait()
    return heard - {"pbscast.live.v1.-.end"}


@pytest.mark.parametrize(
    ("principal", "wanted"),
    [
        (Principal("alice", Role.USER), {0, 2, 4, 5, 6, 7, 8}),
        (Principal("alice", Role.USER, ("siteb",)), {2, 5, 8}),
        (Principal("carol", Role.OPERATOR, ("sitea",)), {0, 1, 4, 6, 7}),
        (Principal("carol", Role.OPERATOR, ("sitea", "siteb")), set(range(9))),
        (Principal("dora", Role.AUDITOR), set(range(9))),
        (Principal("dora", Role.AUDITOR, ("siteb",)), {2, 3, 5, 8}),
    ],
    ids=str,
)
async def test_each_role_sees_its_part(
    gate: Gate, service: Client, principal: Principal, wanted: set[int]
) -> None:
    async with gate.enter(principal.name, principal.role, principal.sites) as client:
        seen = await seen_live(service, client, principal)
        assert seen == {EVENTS[number] for number in wanted}
        # And the services are told who it is, whatever he says himself.
        answer = await client.request("pbscast.v1.history", b"", timeout=30)
        assert answer.data.decode() == f"{principal.asker(gate.realm.policy).subject}.history"


@pytest.mark.parametrize("name", ["alice", "a.b", "a_b-1"])
async def test_a_user_pulls_from_his_consumers_and_acknowledges(
    gate: Gate, service: Client, name: str
) -> None:
    principal = Principal(name, Role.USER)
    consumer = principal.asker(gate.realm.policy).slot(SLOTS)
    await slot(service, "PBS_DELIVERIES", consumer, "pbscast.deliver.v1.*.one")
    for number in range(300):
        await service.publish("pbscast.deliver.v1.sitea.one", str(number).encode())
    heard: list[Msg] = []
    full = asyncio.Event()

    async def hear(message: Msg) -> None:
        if message.subject == "pbscast.deliver.v1.sitea.one":
            heard.append(message)
        if len(heard) == 300:
            full.set()

    async with gate.enter(name) as client:
        inbox = client.new_inbox()
        await client.subscribe(f"{inbox}.*", cb=hear)
        pull = json.dumps({"batch": 500, "expires": 5_000_000_000, "idle_heartbeat": 10**9})
        await client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.PBS_DELIVERIES.{consumer}",
            pull.encode(),
            reply=f"{inbox}.1",
        )
        async with asyncio.timeout(30):
            await full.wait()
        assert [int(message.data) for message in heard] == list(range(300))
        for message in heard[:-1]:
            await client.publish(message.reply, b"+ACK")
        await client.request(heard[-1].reply, b"+ACK", timeout=30)
    info = await service.jetstream().consumer_info("PBS_DELIVERIES", consumer)
    assert info.num_ack_pending == 0
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == 300


async def test_a_consumer_that_is_gone_says_so(gate: Gate, service: Client) -> None:
    """A reader that pulls learns that there is nothing to pull from, or that it is taken away."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        headers: dict[str, str] = message.headers or {}
        await heard.put(f"{headers.get('Status')} {headers.get('Description', '')}")

    consumer = Principal("alice", Role.USER).asker(gate.realm.policy).slot(2)
    pull = f"$JS.API.CONSUMER.MSG.NEXT.PBS.{consumer}"
    async with gate.enter("alice") as client, asyncio.timeout(30):
        inbox = client.new_inbox()
        await client.subscribe(f"{inbox}.*", cb=hear)
        await client.publish(pull, b"1", reply=f"{inbox}.1")
        assert (await heard.get()).startswith("503")
        await slot(service, "PBS", consumer, "pbs.v1.*.job.alice.>")
        body = json.dumps({"batch": 1, "expires": 10**10, "idle_heartbeat": 10**8})
        await client.publish(pull, body.encode(), reply=f"{inbox}.2")
        assert (await heard.get()).startswith("100")
        await service.jetstream().delete_consumer("PBS", consumer)
        while "Consumer Deleted" not in (text := await heard.get()):
            assert text.startswith("100"), text


async def test_nobody_takes_up_connections_without_end(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_MOST_CONNECTIONS", 3)
    async with AsyncExitStack() as stack:
        creds = await gate.creds("greedy")
        for _ in range(3):
            stack.push_async_callback((await gate.connect(creds)).close)
        with pytest.raises(nats.errors.Error, match="maximum account active connections"):
            await gate.connect(creds)
        # With a second credential neither; and nobody else notices.
        with pytest.raises(nats.errors.Error, match="maximum account active connections"):
            await gate.connect(await gate.creds("greedy"))
        await stack.enter_async_context(gate.enter("alice"))


async def test_nobody_subscribes_without_end(gate: Gate) -> None:
    client = await gate.connect(await gate.creds("greedy"))
    for number in range(layout._MOST_SUBSCRIPTIONS):
        await client.subscribe(f"_INBOX.greedy.{number}")
    await client.flush(5)
    with suppress(nats.errors.Error, OSError):
        await client.subscribe("_INBOX.greedy.more")
        await client.flush(5)
    assert "maximum subscriptions exceeded" in str(client.last_error)
    await client.close()


async def test_a_person_has_no_storage(gate: Gate, service: Client) -> None:
    for role in (Role.USER, Role.AUDITOR):
        refusals: list[str] = []
        client = await gate.connect(await gate.creds("greedy", role), refusals)
        body = json.dumps({"name": "MINE", "subjects": ["mine"]}).encode()
        with pytest.raises(nats.errors.TimeoutError):
            await client.request("$JS.API.STREAM.CREATE.MINE", body, timeout=0.2)
        await reach(client)
        await client.close()
        assert any("permissions violation" in text for text in refusals)
    assert [info.config.name for info in await service.jetstream().streams_info()] == [
        "PBS",
        "PBS_DELIVERIES",
    ]
