"""What people had by rights of before ends, on a real nats-server."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from pbscast.errors import UnavailableError
from pbscast_fanout.askers import Asker, Role
from pbscast_fanout.connection import Connection
from pbscast_fanout.jetstream import call, consumers_on
from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.settling import SettleRequest, Settling
from pbscast_fanout.subscriptions.desk import Desk
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_store.log import Log

ALICE = Asker(Role.USER, "alice")
LESS = Asker(Role.USER, "alice", frozenset({"sitea"}))
STREAMS = {"PBS": "pbs.v1.>", "PBS_DELIVERIES": "pbscast.deliver.v1.>"}


class Deaf(Connection):
    """A connection by which some consumers' deletion is carried out, or refused, and not answered.

    So it is where the server that has a consumer has died.
    """

    def __init__(self, url: str) -> None:
        super().__init__(NatsSettings(servers=(url,), timeout=5), name="deaf")
        self.silent: set[str] = set()
        self.refused: set[str] = set()
        self.asked = Counter[str]()

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        verb, _, name = subject.rpartition(".")
        self.asked[verb] += 1
        if "CONSUMER.DELETE" in subject and name in self.refused:
            raise UnavailableError("JetStream has no leader")
        answer = await super().request(subject, payload, headers)
        if "CONSUMER.DELETE" in subject and name in self.silent:
            await asyncio.Event().wait()
        return answer


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Deaf]:
    connection = Deaf(nats_url)
    await connection.open()
    await call(connection, "STREAM.CREATE.PBS", {"name": "PBS", "subjects": ["pbs.v1.>"]})
    await Holdings.of(connection, FanoutSettings()).ensure()
    yield connection
    await connection.close()


async def make(connection: Connection, stream: str, *names: str) -> None:
    """Readers."""
    for name in names:
        config: dict[str, Any] = {"name": name, "ack_policy": "none", "mem_storage": True}
        config["inactive_threshold"] = 60 * 10**9
        config["filter_subject"] = STREAMS[stream]
        body = {"stream_name": stream, "config": config, "action": "create"}
        await call(connection, f"CONSUMER.CREATE.{stream}.{name}", body)


def settling(connection: Connection) -> Settling:
    holdings = Holdings.of(connection, FanoutSettings())
    return Settling(connection, Desk(cast("Log", None), holdings))


def slots(asker: Asker) -> list[str]:
    return [asker.slot(number) for number in range(1, 17)]


async def test_everything_of_other_rights_ends_though_some_of_it_says_nothing(
    connection: Deaf,
) -> None:
    kept = [LESS.slot(3), Asker(Role.USER, "bob").slot(1), Asker(Role.AUDITOR, "alice").slot(1)]
    for stream in STREAMS:
        await make(connection, stream, *slots(ALICE), *kept)
    connection.silent = set(slots(ALICE))
    async with asyncio.timeout(10):  # one after the other would be 16
        await settling(connection).settle(SettleRequest(askers=(LESS.subject,)), None)
    for stream in STREAMS:
        assert set(await consumers_on(connection, stream)) == set(kept)


async def test_what_cannot_be_ended_keeps_nothing_else_alive(connection: Deaf) -> None:
    for stream in STREAMS:
        await make(connection, stream, *slots(ALICE))
    connection.refused = {ALICE.slot(1)}
    with pytest.raises(UnavailableError, match=r"1 consumers of PBS have not .*: JetStream has no"):
        await settling(connection).settle(SettleRequest(askers=(LESS.subject,)), None)
    for stream in STREAMS:
        assert await consumers_on(connection, stream) == [ALICE.slot(1)]


class Fleeting(Connection):
    """A connection beside which readers go, each time when a page of them has been told."""

    def __init__(self, url: str) -> None:
        super().__init__(NatsSettings(servers=(url,), timeout=5), name="fleeting")
        self.going: list[list[str]] = []

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        answer = await super().request(subject, payload, headers)
        if "CONSUMER.NAMES" in subject and self.going:
            for name in self.going.pop(0):
                await call(self, f"CONSUMER.DELETE.PBS.{name}")
        return answer


async def test_no_name_is_passed_over_while_others_go(nats_url: str) -> None:
    names = [f"reader-{number:04}" for number in range(1100)]
    connection = Fleeting(nats_url)
    await connection.open()
    stream = {"name": "PBS", "subjects": ["pbs.v1.>"], "storage": "memory", "max_consumers": 2000}
    await call(connection, "STREAM.CREATE.PBS", stream)
    await asyncio.gather(*(make(connection, "PBS", *names[at::16]) for at in range(16)))
    assert sorted(await consumers_on(connection, "PBS")) == names
    # Of the first page a few; then so many that what was the second page is on the first.
    for gone in (5, 70):
        connection.going = [names[:gone]]
        names = names[gone:]
        assert set(await consumers_on(connection, "PBS")) >= set(names)
    await connection.close()
