"""Watches on a real nats-server: filters, starts, resuming, endings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from harness.stream import Message, Publisher, SiteLog, publishing

import pbscast
from pbscast import Boundary, Client, Finalize, Item, Missed, Watch


@pytest.fixture
async def publisher(nats_url: str) -> AsyncIterator[Publisher]:
    async with publishing(nats_url) as publisher:
        yield publisher


@pytest.fixture
async def client(nats_url: str, publisher: Publisher) -> AsyncIterator[Client]:
    async with pbscast.connect(nats_url) as client:
        yield client


async def take(watch: Watch, count: int) -> list[Item]:
    async with asyncio.timeout(20):
        return [await anext(watch) for _ in range(count)]


async def take_bodies(watch: Watch, count: int) -> list[bytes | None]:
    async with asyncio.timeout(20):
        return [(await watch.receive()).body for _ in range(count)]


def bodies(*messages: Message) -> list[bytes]:
    return [message.body for message in messages]


async def test_tells_what_is_published_after_it_began(publisher: Publisher, client: Client) -> None:
    site = SiteLog("sitea")
    await publisher.publish(*site.life("1.sitea"), site.mark())
    async with client.watch() as watch:
        messages = [*site.life("2.sitea")]
        await publisher.publish(*messages, site.mark())
        assert await take_bodies(watch, 5) == bodies(*messages)


async def test_from_the_beginning_marks_where_history_ends(
    publisher: Publisher, client: Client
) -> None:
    site = SiteLog("sitea")
    old = [*site.life("1.sitea")]
    await publisher.publish(*old, site.mark())
    async with client.watch(start=pbscast.beginning()) as watch:
        assert await take_bodies(watch, 5) == bodies(*old)
        assert await take(watch, 1) == [Boundary({"sitea": 5})]
        new = site.job("2.sitea", "submit")
        await publisher.publish(new)
        assert await take_bodies(watch, 1) == [new.body]
