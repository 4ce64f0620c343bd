"""The stream of deliveries: its settings, how far a site is told, and a cluster's own ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import nats
import pytest
from harness.clusters import run_cluster
from harness.delivering import (
    FrailConnection,
    Pair,
    PlainDeliverer,
    assert_each_once,
    delivered,
)
from nats.aio.client import Client

from pbscast.deliveries import DELIVERIES, delivery_subject
from pbscast.errors import FencedError, UnavailableError
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout import fences
from pbscast_fanout.jetstream import ask, call
from pbscast_fanout.settings import SubscriptionSettings
from pbscast_fanout.subscriptions.stream import (
    PLACE_HEADER,
    DeliveryMark,
    Place,
    ensure_deliveries,
    part_of,
    read_place,
)
from pbscast_fanout.subscriptions.writer import DeliveryWriter, Outgoing

PART = part_of("sitea")
KEY = "a" * 32


@pytest.fixture
async def reader(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[FrailConnection]:
    connection = FrailConnection(nats_url)
    await connection.open()
    await ensure_deliveries(connection, SubscriptionSettings())
    yield connection
    await connection.close()


def writer(connection: FrailConnection) -> DeliveryWriter:
    return DeliveryWriter(connection, "sitea", asyncio.Semaphore(12))


async def stored(connection: FrailConnection, place: str | None = None) -> int:
    """A message that came in by itself."""
    headers = {} if place is None else {PLACE_HEADER: place}
    answer = await ask(connection, delivery_subject("sitea", KEY), b"{}", headers)
    return int(answer["seq"])


async def marked(connection: FrailConnection, position: int, seen: int | None = None) -> None:
    mark = DeliveryMark(site="sitea", position=position, time=datetime.now(UTC), seen=seen)
    await ask(connection, PART.mark, mark.encode())


async def test_settings_reach_a_stream_that_is_there(connection: FrailConnection) -> None:
    connection.upheld.clear()  # as of a worker that starts
    settings = SubscriptionSettings(max_age=timedelta(hours=1), max_messages=5000)
    await ensure_deliveries(connection, settings)
    config = (await call(connection, f"STREAM.INFO.{DELIVERIES}"))["config"]
    assert (config["max_age"], config["max_msgs_per_subject"]) == (3600 * 10**9, 5000)
    assert (config["discard"], config["max_bytes"]) == ("old", 8 << 30)


async def test_a_sites_last_message_says_how_far_it_is_told(connection: FrailConnection) -> None:
    assert await read_place(connection, "sitea") is None
    await marked(connection, 5)
    assert await read_place(connection, "sitea") == Place(5)
    await stored(connection, f"7 {KEY}")
    assert await read_place(connection, "sitea") == Place(7, KEY)
    # Of a batch whose mark somebody took away nothing is known.
    await stored(connection)
    assert await read_place(connection, "sitea") is None
    assert await read_place(connection, "siteb") is None


@pytest.mark.parametrize(("slipped", "place"), [("7", Place(7)), ("3", Place(5))])
async def test_what_slipped_in_before_a_first_mark_counts(
    connection: FrailConnection, slipped: str, place: Place
) -> None:
    """What a worker of a cluster had under way when another began."""
    seen = await stored(connection, "5")
    await stored(connection, slipped)
    await marked(connection, 5, seen)
    assert await read_place(connection, "sitea") == place


async def test_an_event_for_more_than_a_batch_holds_goes_on_where_it_broke_off(
    connection: FrailConnection, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "split", partial(fences.split, max_messages=100))
    pairs: list[Pair] = [(3, f"{number:032x}") for number in range(250)]
    deliverer = PlainDeliverer(writer(connection), "sitea", pairs)
    connection.fail(252 + 150, "before")  # beside finding, a mark and the numbers
    with pytest.raises(UnavailableError):
        await deliverer.deliver(len(pairs))
    found = await writer(connection).find()
    assert found == Place(3, pairs[99][1])
    assert await deliverer.deliver(len(pairs))
    assert await read_place(connection, "sitea") == Place(3)
    assert_each_once(await delivered(reader, "sitea"), pairs, all_=True)


async def test_places_do_not_go_back(connection: FrailConnection) -> None:
    deliveries = writer(connection)
    await deliveries.find()
    await deliveries.mark(Place(5, "b"))
    subject = delivery_subject("sitea", KEY)
    for place, last in ((Place(5, "a"), Place(6)), (Place(7), Place(6)), (None, Place(4))):
        with pytest.raises(ValueError, match="go back"):
            await deliveries.write([Outgoing(subject, b"{}", place)], last)


async def test_who_knows_nothing_writes_nothing(connection: FrailConnection) -> None:
    deliveries = writer(connection)
    message = Outgoing(delivery_subject("sitea", KEY), b"{}", Place(1, KEY))
    with pytest.raises(FencedError):
        await deliveries.mark(Place(0))
    assert await deliveries.find() is None
    with pytest.raises(FencedError):
        await deliveries.write([message], Place(1))
    await deliveries.mark(Place(0))
    await deliveries.write([message], Place(1))
    assert (deliveries.place, deliveries.marked) == (Place(1), Place(1, KEY))
    assert 0 < deliveries.mark_due <= 1
    await deliveries.write([], Place(2))
    await deliveries.mark(Place(2))
    assert deliveries.mark_due > 1


async def test_the_place_outlives_what_is_purged(connection: FrailConnection) -> None:
    """Who unsubscribes takes messages away, the site's last one perhaps."""
    deliveries = writer(connection)
    await deliveries.find()
    await deliveries.mark(Place(1))
    stays, gone = "b" * 32, "c" * 32
    first, second = (
        Outgoing(delivery_subject("sitea", key), b'{"n":4}', Place(2, key)) for key in (stays, gone)
    )
    await deliveries.write([first, second], Place(2))
    await call(connection, f"STREAM.PURGE.{DELIVERIES}", {"filter": second.subject})
    assert await read_place(connection, "sitea") == Place(2, stays)
    await deliveries.mark(Place(2))
    other = writer(connection)
    assert await other.find() == Place(2)
    assert (await other.last_number(stays), await other.last_number(gone)) == (4, 0)


@pytest.fixture
def cluster() -> Iterator[list[str]]:
    with run_cluster(3) as urls:
        yield urls


async def test_two_workers_of_a_cluster_deliver_once(cluster: list[str]) -> None:
    connections = [FrailConnection(url) for url in cluster[:2]]
    for connection in connections:
        await connection.open()
    async with asyncio.timeout(30):
        while True:
            with suppress(UnavailableError):
                await ensure_deliveries(connections[0], SubscriptionSettings(), replicas=3)
                break
            await asyncio.sleep(0.2)
    pairs = [(number // 3, f"{number % 3:032x}") for number in range(3, 153)]
    await asyncio.gather(*(_race(connection, pairs) for connection in connections))
    client = await nats.connect(cluster[2])
    assert_each_once(await delivered(client, "sitea"), pairs, all_=True)
    await client.close()
    for connection in connections:
        await connection.close()


async def _race(connection: FrailConnection, pairs: list[Pair]) -> None:
    deliverer = PlainDeliverer(writer(connection), "sitea", pairs)
    while True:
        try:
            if not await deliverer.deliver(4):
                return
        except FencedError:
            deliverer.numbers = None


async def test_who_was_purged_begins_anew(connection: FrailConnection) -> None:
    """What an administrator does once the log was restored, while a worker delivers."""
    deliveries = writer(connection)
    await deliveries.find()
    await deliveries.mark(Place(9))
    await call(connection, f"STREAM.PURGE.{DELIVERIES}", {"filter": PART.all})
    with pytest.raises(FencedError):
        await deliveries.mark(Place(10))
    assert await deliveries.find() is None
    await deliveries.mark(Place(4))
    assert await read_place(connection, "sitea") == Place(4)


async def test_a_store_without_room_is_said_to_be_so() -> None:
    with NatsServer(durable=False, jetstream="max_file_store: 1GB") as small:
        connection = FrailConnection(small.url)
        await connection.open()
        try:
            with pytest.raises(UnavailableError, match="raise max_file_store") as caught:
                await ensure_deliveries(connection, SubscriptionSettings())
        finally:
            await connection.close()
    assert "(10047): NATS has no room" in str(caught.value)
    assert "max_bytes of [stream] or [subscriptions]" in str(caught.value)
