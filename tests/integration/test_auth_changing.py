"""Rights that change while somebody reads: nats-server, a worker, and people in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from harness.auth import reach
from harness.fanning import draft, write
from harness.secured import Town, town
from harness.subscribing import ask
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

import pbscast
from pbscast import Boundary, Matched, Missed
from pbscast_deploy.auth.layout import Policy
from pbscast_deploy.auth.telling import tell
from pbscast_fanout.askers import Role
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

BEFORE, AFTER, HERS = "21.sitea", "22.sitea", "1.sitea"
_ROUNDS = count()


@pytest.fixture
async def place(log: Log, tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path / "realm", log) as place:
        yield place


def of(owner: str, job: str) -> Draft:
    one = draft(job)
    return replace(one, payload=one.payload.model_copy(update={"owner": owner}))


async def decide(place: Town, *, is_open: bool) -> None:
    """Open or close sitea, and tell the server."""
    place.realm.decide(Policy({"sitea": is_open}))
    await tell(place.realm, [place.gate.url])


async def lessen(place: Town, name: str) -> None:
    """Take bob's jobs at sitea from somebody."""
    if name == "alice":
        await decide(place, is_open=False)
    else:
        await place.creds(name, role=Role.OPERATOR, sites=("siteb",))


class Spy:
    """Somebody who notes all that he gets, in whatever way."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._got: list[Msg] = []
        self._news = asyncio.Condition()

    async def begin(self) -> None:
        """Have a reader and two subscriptions of all jobs, and leave pulls open for ever."""
        for subject in ("pbs.v1.*.node.>", "pbscast.live.v1.>", "_INBOX.spy.*"):
            await self.client.subscribe(subject, cb=self._note)
        await reach(self.client)
        opened = await ask(self.client, "pbscast.v1.open", subjects=["pbs.v1.sitea.>"])
        self.kept = await ask(self.client, "pbscast.v1.subscribe", kinds=["job", "node"])
        self.live = await ask(
            self.client, "pbscast.v1.subscribe", kinds=["job"], delivery="at-most-once"
        )
        self.pulls = [
            f"$JS.API.CONSUMER.MSG.NEXT.PBS.{opened['consumer']}",
            f"$JS.API.CONSUMER.MSG.NEXT.PBS_DELIVERIES.{self.kept['consumer']}",
        ]
        await self.pull()

    async def pull(self) -> str:
        """Ask each consumer for all that will ever come."""
        number = next(_ROUNDS)
        for subject in self.pulls:
            await self.client.publish(subject, b'{"batch": 100000}', reply=f"_INBOX.spy.{number}")
        return f"_INBOX.spy.{number}"

    async def _note(self, message: Msg) -> None:
        async with self._news:
            self._got.append(message)
            self._news.notify_all()

    async def watch(self) -> None:
        """Hear all that there is, as a service can."""
        for subject in ("pbs.v1.>", "pbscast.deliver.v1.>", "pbscast.live.v1.>"):
            await self.client.subscribe(subject, cb=self._note)
        await reach(self.client)

    def acknowledgement(self, word: str) -> str:
        """Where a delivery that tells of something is acknowledged."""
        told = (message for message in self._got if word.encode() in message.data)
        return next(message.reply for message in told if message.reply.startswith("$JS.ACK.PBS_D"))

    def ways(self, word: str) -> int:
        """In how many ways he was told of something."""
        told = (message for message in self._got if word.encode() in message.data)
        return len({message.subject for message in told})

    def refusals(self, inbox: str) -> list[str]:
        mine = (message for message in self._got if message.subject == inbox)
        return [(message.headers or {}).get("Status", "") for message in mine]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(40), self._news:
            await self._news.wait_for(condition)


@pytest.mark.parametrize("name", ["alice", "carol"])
async def test_nothing_comes_any_more_of_what_one_may_see_no_more(
    place: Town, log: Log, name: str
) -> None:
    await log.register_site("siteb")
    await decide(place, is_open=True)
    who = (name,) if name == "alice" else (name, Role.OPERATOR, ("sitea", "siteb"))
    async with (
        place.gate.enter(*who) as client,
        place.gate.enter("witness", Role.SERVICE) as service,
    ):
        spy, witness = Spy(client), Spy(service)
        await witness.watch()
        await spy.begin()
        await write(log, "sitea", [of("bob", BEFORE)])
        await spy.until(lambda: spy.ways(BEFORE) == 3)
        await lessen(place, name)
        await write(log, "sitea", [of("bob", AFTER)])
        await witness.until(lambda: witness.ways(AFTER) == 3)
        for _ in range(3):
            inbox = await spy.pull()
            await spy.until(lambda inbox=inbox: len(spy.refusals(inbox)) == 2)
            assert spy.refusals(inbox) == ["503", "503"]
        assert spy.ways(AFTER) == 0
        with pytest.raises(NoRespondersError):
            await client.request(spy.acknowledgement(BEFORE), b"+ACK", timeout=30)
        for one in (spy.kept, spy.live):
            body = json.dumps({"id": one["id"]}).encode()
            answer = await client.request("pbscast.v1.renew", body, timeout=30)
            assert "AccessDeniedError" in (answer.headers or {})["Nats-Service-Error"]
        await reach(client)
        assert spy.ways(AFTER) == 0


async def test_a_reader_goes_on_with_what_may_be_seen(place: Town, log: Log) -> None:
    await decide(place, is_open=True)
    async with asyncio.timeout(60), place.enter("alice") as client, client.watch() as watch:
        # What was not to be seen of a job is told when it is, and something happens to the job.
        for is_open, positions in ((True, [1, 2]), (False, [4]), (True, [3, 5, 6])):
            await decide(place, is_open=is_open)
            await write(log, "sitea", [of("bob", BEFORE), of("alice", HERS)])
            assert [(await anext(watch)).position for _ in positions] == positions  # type: ignore[union-attr]


async def test_a_subscription_ends_in_one_line_if_it_may_not_go_on(place: Town, log: Log) -> None:
    await decide(place, is_open=True)
    await write(log, "sitea", [of("bob", BEFORE)])
    async with asyncio.timeout(60), place.enter("alice") as client:
        readers = [
            client.subscribe(queues="workq", lease=10),
            client.subscribe(queues="workq", lease=10, shared=True),
            client.subscribe(queues="workq", lease=10, delivery="at-most-once"),
        ]
        for reader in readers:
            while not isinstance(await anext(reader), Boundary):
                pass
        ends = [asyncio.create_task(anext(reader)) for reader in readers]
        await decide(place, is_open=False)
        for end in ends:
            with pytest.raises(pbscast.AccessDeniedError, match="has ended: alice may no longer"):
                await end


async def test_a_subscription_goes_on_where_more_may_be_seen(place: Town, log: Log) -> None:
    await decide(place, is_open=False)
    await write(log, "sitea", [of("alice", HERS)])
    async with asyncio.timeout(60), place.enter("alice") as client, AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(client.subscribe(queues="workq", **options))
            for options in ({}, {"shared": True}, {"delivery": "at-most-once"})
        ]
        for reader in readers:
            while not isinstance(await anext(reader), Boundary):
                pass
        await decide(place, is_open=True)
        # It begins anew; of a shared one comes again what was not acknowledged.
        last = await write(log, "sitea", [of("bob", BEFORE), of("alice", HERS)])
        for reader in readers:
            told: list[int] = []
            while last not in told:
                item = await anext(reader)
                assert not isinstance(item, Missed)
                if isinstance(item, Matched | pbscast.Standing):
                    told += [item.event.position if isinstance(item, Matched) else item.position]
            assert last - 1 in told
