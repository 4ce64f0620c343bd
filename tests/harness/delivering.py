"""Helpers for tests of delivering: connections that fail, and the stream read back."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from harness.pulling import pulled
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig

from pbscast.deliveries import DELIVERIES, delivery_subject
from pbscast.errors import UnavailableError
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import NatsSettings
from pbscast_fanout.subscriptions.stream import Place, part_of
from pbscast_fanout.subscriptions.writer import DeliveryWriter, Outgoing

BEFORE: Final = "before"
"""It never leaves."""
AFTER: Final = "after"
"""It arrives, but the answer is lost."""
LATE: Final = "late"
"""It is on its way, and arrives when others have been there (`arrive`)."""


class FrailConnection(Connection):
    """A connection of which one message to come goes wrong."""

    def __init__(self, url: str) -> None:
        super().__init__(NatsSettings(servers=(url,), timeout=5), name="test")
        self.late: list[Callable[[], Awaitable[object]]] = []
        self._left = 0
        self._how = ""

    def fail(self, left: int, how: str) -> None:
        """Let the message go wrong after that many others."""
        self._left, self._how = left, how

    @property
    def is_to_fail(self) -> bool:
        """Whether no message has gone wrong yet."""
        return bool(self._how)

    async def arrive(self) -> None:
        """Let what is on its way arrive."""
        late, self.late = self.late, []
        for send in late:
            with suppress(UnavailableError):
                await send()

    @property
    def client(self) -> Client:
        return cast("Client", _FrailClient(self, super().client))

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        send = super().request
        return cast("Msg", await self._sent(lambda: _plain(send, subject, payload, headers)))

    async def _sent(self, send: Callable[[], Awaitable[object]]) -> object:
        how = self._how if self._left == 0 else ""
        self._left -= 1
        if not how:
            return await send()
        self._how = ""
        if how == AFTER:
            await send()
        elif how == LATE:
            self.late.append(send)
        raise UnavailableError("the connection was lost")


class _FrailClient:
    def __init__(self, connection: FrailConnection, client: Client) -> None:
        self._connection = connection
        self._client = client

    async def publish(self, *message: Any, **more: Any) -> None:
        client = self._client
        await self._connection._sent(lambda: client.publish(*message, **more))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


async def _plain(
    send: Callable[..., Awaitable[Msg]], subject: str, body: bytes, headers: dict[str, str] | None
) -> Msg:
    return await send(subject, body, headers)


Pair = tuple[int, str]
"""An event's position and a subscription that it is for."""


@dataclass
class PlainDeliverer:
    """Delivers pairs that are known beforehand, by what the writer alone says is missing."""

    writer: DeliveryWriter
    site: str
    pairs: list[Pair]
    numbers: dict[str, int] | None = None

    async def deliver(self, count: int) -> bool:
        """Write the next pairs, the writer's state being lost after an error; whether any."""
        if self.numbers is None:
            if await self.writer.find() is None:
                await self.writer.mark(Place(0))
            self.numbers = {}
        place = self.writer.place
        assert place is not None
        missing = [pair for pair in self.pairs if not place.reaches(Place(*pair))]
        chosen = missing[:count]
        if chosen:
            try:
                await self.writer.write(
                    [await self._message(pair) for pair in chosen],
                    Place(*chosen[-1]) if missing[count:] else Place(self.pairs[-1][0]),
                )
            except BaseException:
                self.numbers = None
                raise
        return bool(chosen)

    async def _message(self, pair: Pair) -> Outgoing:
        assert self.numbers is not None
        position, key = pair
        if key not in self.numbers:
            self.numbers[key] = await self.writer.last_number(key)
        self.numbers[key] += 1
        body = {"subscription": key, "n": self.numbers[key], "position": position}
        subject = delivery_subject(self.site, key)
        return Outgoing(subject, json.dumps(body).encode(), Place(position, key))


async def delivered(client: Client, site: str) -> list[dict[str, Any]]:
    """What the stream holds for a site's subscriptions, without marks."""
    async with asyncio.timeout(60):
        while True:
            # Of a cluster that is just choosing a leader.
            with suppress(NatsTimeout):
                return await _delivered(client, site)


async def _delivered(client: Client, site: str) -> list[dict[str, Any]]:
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    part = part_of(site)
    stream = client.jetstream(timeout=10)
    consumer = await stream.pull_subscribe(part.all, stream=DELIVERIES, config=config)
    return [
        json.loads(message.data)
        for message in await pulled(consumer)
        if message.subject != part.mark
    ]


def assert_each_once(bodies: list[dict[str, Any]], pairs: list[Pair], *, all_: bool) -> None:
    """The messages are those of the pairs, in order, numbered without a hole."""
    told = [(body["position"], body["subscription"]) for body in bodies]
    assert told == (pairs if all_ else pairs[: len(told)])
    numbers: dict[str, list[int]] = defaultdict(list)
    for body in bodies:
        numbers[body["subscription"]].append(body["n"])
    for found in numbers.values():
        assert found == list(range(1, len(found) + 1))
