"""Registered subscriptions as any NATS client sees them: requests, and what is stored for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness.pulling import pulled
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from pbscast.deliveries import (
    DELIVERIES,
    BeginMessage,
    BoundaryMessage,
    CompleteMessage,
    EventMessage,
    ObjectMessage,
    SubscriptionMessage,
    decode,
    delivery_filter,
)
from pbscast.subscriptions import MODIFY, SUBSCRIBE, UNSUBSCRIBE

Brief = tuple[str, object]


async def ask(client: Client, subject: str, **request: Any) -> dict[str, Any]:
    """The answer of the subscriptions' services, which may still be starting."""
    async with asyncio.timeout(30):
        while True:
            with suppress(NoRespondersError, NatsTimeout):  # nobody there yet, or a cut
                answer = await client.request(subject, json.dumps(request).encode(), timeout=5)
                refusal = (answer.headers or {}).get("Nats-Service-Error")
                if refusal is None:
                    return dict(json.loads(answer.data))
                assert refusal.startswith("UnavailableError"), refusal
            await asyncio.sleep(0.05)


async def subscribe(client: Client, **request: Any) -> str:
    """Register a subscription."""
    return str((await ask(client, SUBSCRIBE, **request))["id"])


async def modify(client: Client, key: str, **change: Any) -> None:
    await ask(client, MODIFY, id=key, **change)


async def unsubscribe(client: Client, key: str) -> None:
    await ask(client, UNSUBSCRIBE, id=key)


async def told(client: Client, key: str) -> list[SubscriptionMessage]:
    """All that is stored for a subscription, in order."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
    consumer = await client.jetstream(timeout=30).pull_subscribe(
        delivery_filter(key), stream=DELIVERIES, config=config
    )
    messages = [decode(item.data) for item in await pulled(consumer)]
    await consumer.unsubscribe()
    return messages


async def until_told(
    client: Client,
    key: str,
    condition: Callable[[list[SubscriptionMessage]], object],
    seconds: float = 60,
) -> list[SubscriptionMessage]:
    """What is stored for a subscription once that fulfils the condition."""
    messages: list[SubscriptionMessage] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                messages = await told(client, key)
                if condition(messages):
                    return messages
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not told in {seconds} s, but {briefs(messages)}") from None


def joined(*sites: str) -> Callable[[list[SubscriptionMessage]], bool]:
    """Whether the boundaries of these sites are there."""
    return lambda messages: (
        set(sites) <= {message.site for message in messages if isinstance(message, BoundaryMessage)}
    )


def told_up_to(site: str, position: int) -> Callable[[list[SubscriptionMessage]], bool]:
    """Whether an event at this position or a later one is there."""
    return lambda messages: any(
        isinstance(message, EventMessage)
        and message.site == site
        and message.event.position >= position
        for message in messages
    )


def briefs(messages: list[SubscriptionMessage]) -> list[Brief]:
    """Each message in two words."""
    return [_brief(message) for message in messages]


def _brief(message: SubscriptionMessage) -> Brief:
    match message:
        case BeginMessage() | BoundaryMessage():
            return message.what, message.position
        case ObjectMessage():
            return "object", message.object.id
        case EventMessage():
            return message.passage.value, message.event.position
        case CompleteMessage():
            return "complete", None


def assert_numbered(messages: list[SubscriptionMessage]) -> None:
    """Of each site 1, 2, 3 …"""
    numbers: dict[str, list[int | None]] = {}
    for message in messages:
        if not isinstance(message, CompleteMessage):
            numbers.setdefault(message.site, []).append(message.n)
    for given in numbers.values():
        assert given == list(range(1, len(given) + 1))
