"""What stands in for the fan-out tier in the SDK's tests: answers requests, stores deliveries.

The stream, its consumers and their acknowledgements are those of a real nats-server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
from harness.stream import BEGIN, Message, SiteLog
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, SequenceInfo
from nats.js.errors import NotFoundError as NoConsumer
from pydantic import BaseModel

from pbscast import subscriptions as wire
from pbscast.deliveries import (
    ACK_WAIT,
    DELIVERIES,
    KEPT,
    LIVE,
    MOST_UNACKNOWLEDGED,
    complete_subject,
    delivery_filter,
    delivery_subject,
)
from pbscast.lives import Standing

_NOTHING = SequenceInfo(consumer_seq=0, stream_seq=0)
_BUSY = {"Nats-Service-Error": "UnavailableError: too many at a time"}
_NOT_FOUND = {"Nats-Service-Error": "NotFoundError: no such subscription"}


def standing(job: str = "1.sitea", site: str = "sitea", **more: Any) -> dict[str, Any]:
    """How a job stands."""
    values = {
        "site": site,
        "kind": "job",
        "id": job,
        "incarnation": 1,
        "revision": 1,
        "position": 1,
        "began": BEGIN,
        "owner": "alice",
        "queue": "workq",
        "state": "R",
        **more,
    }
    return Standing.model_validate(values).model_dump(mode="json", exclude_none=True)


def consumer_of(key: str) -> str:
    """From which a subscription is pulled: nobody can rely on its being the id."""
    return f"of-{key}"


class Deliverer:
    """The service and the worker's end of the stream."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream = client.jetstream()
        self.known: dict[str, wire.SubscribeRequest] = {}
        self.asked: list[BaseModel] = []
        self.lease = 600
        self.pause = 0.0
        """Before a renewal is answered."""
        self.busy = 0
        """How many requests more are told to come again."""
        self._settled: set[str] = set()
        self._numbers: dict[tuple[str, str], int] = {}
        self._news = asyncio.Condition()

    async def start(self) -> None:
        """Make the stream and serve."""
        await self.jetstream.add_stream(
            name=DELIVERIES, subjects=[f"{KEPT}.>"], allow_direct=True, num_replicas=1
        )
        await self._serve(wire.SUBSCRIBE, wire.SubscribeRequest, self._subscribe)
        await self._serve(wire.RENEW, wire.RenewRequest, self._renew)
        await self._serve(wire.MODIFY, wire.ModifyRequest, self._modify)
        await self._serve(wire.UNSUBSCRIBE, wire.UnsubscribeRequest, self._unsubscribe)
        await self._serve(wire.LIST, wire.ListRequest, self._list)
        await self.client.flush()

    async def seen(self, condition: Callable[[], object]) -> None:
        """Return when what was asked fulfils the condition."""
        async with asyncio.timeout(40), self._news:
            await self._news.wait_for(condition)

    def requests(self, model: type[BaseModel]) -> list[Any]:
        """What was asked so, in order."""
        return [item for item in self.asked if isinstance(item, model)]

    async def begin(self, key: str, site: str, position: int, *standings: dict[str, Any]) -> None:
        """Tell how everything stands."""
        await self.put(key, site, what="begin", position=position)
        for item in standings:
            await self.put(key, site, what="object", object=item)
        await self.put(key, site, what="boundary", position=position)

    async def event(self, key: str, message: Message, passage: str = "stayed", **more: Any) -> None:
        """Tell an event."""
        event = json.loads(message.body)
        site = event["data"]["site"]
        await self.put(key, site, what="event", passage=passage, event=event, **more)

    async def events(self, key: str, log: SiteLog, count: int, job: str = "1.sitea") -> None:
        """Tell events of a job."""
        for _ in range(count):
            await self.event(key, log.job(job))

    async def complete(self, key: str) -> None:
        """Say that every id has ended."""
        root = self._root(key)
        body = json.dumps({"what": "complete", "subscription": key}).encode()
        await self._send(complete_subject(key, root), body)

    async def put(self, key: str, site: str, n: int | None = None, **message: Any) -> None:
        """Store one message, under the next number unless one is given."""
        root = self._root(key)
        if root == KEPT:
            number = n or self._numbers.get((key, site), 0) + 1
            self._numbers[key, site] = number
            message["n"] = number
        body = json.dumps({"subscription": key, "site": site, **message}).encode()
        await self._send(delivery_subject(site, key, root), body)

    def skip(self, key: str, site: str, count: int = 1) -> None:
        """As if the stream had dropped the next messages."""
        self._numbers[key, site] = self._numbers.get((key, site), 0) + count

    async def quicken(self, key: str, seconds: float) -> None:
        """Let what is not acknowledged come again so soon."""
        config = (await self.jetstream.consumer_info(DELIVERIES, self.consumer(key))).config
        await self.jetstream.add_consumer(DELIVERIES, config.evolve(ack_wait=seconds))

    async def acknowledged(self, key: str) -> None:
        """Return when every message has been acknowledged."""
        await self._until(key, lambda info: not (info.num_ack_pending or info.num_pending))

    async def sent(self, key: str, count: int) -> None:
        """Return when so many messages have been sent, repeats too."""
        await self._until(key, lambda info: (info.delivered or _NOTHING).consumer_seq >= count)

    async def _until(self, key: str, condition: Callable[[ConsumerInfo], object]) -> None:
        async with asyncio.timeout(40):
            while not condition(  # noqa: ASYNC110 - the server is only to be asked
                await self.jetstream.consumer_info(DELIVERIES, self.consumer(key))
            ):
                await asyncio.sleep(0.01)

    async def resume(self, key: str) -> None:
        """Deliver again what was not acknowledged."""
        info = await self.jetstream.consumer_info(DELIVERIES, self.consumer(key))
        assert info.ack_floor is not None
        await self.jetstream.delete_consumer(DELIVERIES, self.consumer(key))
        await self._consume(key, after=info.ack_floor.stream_seq)

    def consumer(self, key: str) -> str:
        """From which it is pulled now."""
        return consumer_of(key) + ("-settled" if key in self._settled else "")

    async def settle(self, key: str) -> None:
        """As when rights have changed: what is not acknowledged is another consumer's."""
        info = await self.jetstream.consumer_info(DELIVERIES, self.consumer(key))
        assert info.ack_floor is not None
        self._settled.add(key)
        await self._consume(key, after=info.ack_floor.stream_seq)
        await self.jetstream.delete_consumer(DELIVERIES, consumer_of(key))

    async def forget(self, key: str) -> None:
        """As when its lease has run out."""
        self.known.pop(key, None)
        with suppress(NoConsumer):
            await self.jetstream.delete_consumer(DELIVERIES, self.consumer(key))

    def _root(self, key: str) -> str:
        request = self.known.get(key)
        at_most_once = request is not None and request.delivery is wire.Delivery.AT_MOST_ONCE
        return LIVE if at_most_once else KEPT

    async def _send(self, subject: str, body: bytes) -> None:
        if subject.startswith(KEPT):
            await self.jetstream.publish(subject, body)
        else:
            await self.client.publish(subject, body)
            await self.client.flush()

    async def _serve(self, subject: str, model: type[BaseModel], answer: Any) -> None:
        async def handle(message: Any) -> None:
            request = model.model_validate_json(message.data)
            async with self._news:
                self.asked.append(request)
                busy, self.busy = self.busy, max(0, self.busy - 1)
                reply = None if busy else await answer(request)
                self._news.notify_all()
            if busy:
                await self.client.publish(message.reply, b"", headers=_BUSY)
            elif reply is None:
                await self.client.publish(message.reply, b"", headers=_NOT_FOUND)
            else:
                await self.client.publish(message.reply, reply.model_dump_json().encode())

        await self.client.subscribe(subject, cb=handle)

    async def _subscribe(self, request: wire.SubscribeRequest) -> BaseModel:
        assert request.id is not None
        self.known[request.id] = request
        if request.delivery is wire.Delivery.AT_LEAST_ONCE:
            await self._consume(request.id, after=0)
        return self._registered(request.id)

    async def _renew(self, request: wire.RenewRequest) -> BaseModel | None:
        known = self.known.get(request.id)
        await asyncio.sleep(self.pause)
        if known is None:
            return None
        if request.resume and known.delivery is wire.Delivery.AT_LEAST_ONCE and not known.shared:
            await self.resume(request.id)
        unhandled = None
        if known.delivery is wire.Delivery.AT_LEAST_ONCE:
            info = await self.jetstream.consumer_info(DELIVERIES, self.consumer(request.id))
            unhandled = (info.num_ack_pending or 0) + (info.num_pending or 0)
        return wire.RenewResponse(
            unhandled=unhandled,
            subject=delivery_filter(request.id, self._root(request.id)),
            consumer=self._pulled(request.id),
            lease=self.lease,
            expires=datetime.now(UTC) + timedelta(seconds=self.lease),
            delivery=known.delivery,
            shared=known.shared,
        )

    async def _consume(self, key: str, after: int) -> None:
        await self.jetstream.add_consumer(
            DELIVERIES,
            ConsumerConfig(
                name=self.consumer(key),
                durable_name=self.consumer(key),
                filter_subject=delivery_filter(key),
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT,
                max_ack_pending=MOST_UNACKNOWLEDGED,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=after + 1,
            ),
        )

    async def _modify(self, request: wire.ModifyRequest) -> BaseModel | None:
        known = self.known.get(request.id)
        if known is None:
            return None
        ids = [*dict.fromkeys((*known.ids, *request.add_ids))]
        left = set(request.remove_ids)
        changed = {"ids": tuple(job for job in ids if job not in left), "more": request.more}
        self.known[request.id] = known.model_copy(update=changed)
        return wire.ModifyResponse(ids=len(ids) - len(left))

    async def _unsubscribe(self, request: wire.UnsubscribeRequest) -> BaseModel | None:
        was_there = request.id in self.known
        await self.forget(request.id)
        return wire.UnsubscribeResponse(was_there=was_there)

    async def _list(self, request: wire.ListRequest) -> BaseModel:
        keys = [key for key in sorted(self.known) if request.after is None or key > request.after]
        following = keys[0] if len(keys) > 1 else None
        page = tuple(self._registered(key) for key in keys[:1])
        return wire.ListResponse(subscriptions=page, next=following)

    def _pulled(self, key: str) -> str | None:
        return self.consumer(key) if self._root(key) == KEPT else None

    def _registered(self, key: str) -> wire.Registered:
        known = self.known[key]
        return wire.Registered(
            id=key,
            subject=delivery_filter(key, self._root(key)),
            consumer=self._pulled(key),
            lease=self.lease,
            expires=BEGIN,
            delivery=known.delivery,
            shared=known.shared,
            ids=len(known.ids),
            pending=len(known.ids),
        )


@asynccontextmanager
async def delivering(url: str) -> AsyncIterator[Deliverer]:
    """One that runs."""
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    deliverer = Deliverer(client)
    await deliverer.start()
    try:
        yield deliverer
    finally:
        await client.close()
