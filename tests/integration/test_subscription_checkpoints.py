"""Checkpoints of deliverers in a real bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from harness.delivering import BEFORE, FrailConnection

from pbscast.errors import FencedError, UnavailableError
from pbscast.events import Incarnation
from pbscast_fanout.matching.matcher import Life
from pbscast_fanout.subscriptions import checkpoints as checkpointing
from pbscast_fanout.subscriptions.buckets import Bucket
from pbscast_fanout.subscriptions.checkpoints import PROGRESS, Checkpoint, Checkpoints


def checkpoint(position: int, count: int = 2) -> Checkpoint:
    departures = tuple(
        (Life("sitea", f"{number * 7919}[{number}].sitea", Incarnation(2)), f"{number:032x}")
        for number in range(count)
    )
    return Checkpoint(position, departures, {"a" * 32: 17, "b" * 32: 1})


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[FrailConnection]:
    connection = FrailConnection(nats_url)
    await connection.open()
    yield connection
    await connection.close()


@pytest.fixture
async def checkpoints(connection: FrailConnection, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    monkeypatch.setattr(checkpointing, "_LARGEST_PART", 4096)
    checkpoints = Checkpoints(connection)
    await checkpoints.ensure()
    assert await checkpoints.load("sitea") is None
    return checkpoints


async def test_the_last_one_is_kept_of_each_site(checkpoints: Checkpoints) -> None:
    for kept in (checkpoint(5), checkpoint(9, count=0)):
        await checkpoints.store("sitea", kept)
        assert await checkpoints.load("sitea") == kept
    assert await checkpoints.load("siteb") is None


async def test_a_large_one_comes_in_parts_and_whole(
    checkpoints: Checkpoints, connection: FrailConnection
) -> None:
    bucket = Bucket(connection, PROGRESS, replicas=1)
    large = checkpoint(7, count=2_000)
    await checkpoints.store("sitea", large)
    assert len(await bucket.keys("sitea.*")) > 1
    assert await checkpoints.load("sitea") == large
    connection.fail(1, BEFORE)
    with pytest.raises(UnavailableError):
        await checkpoints.store("sitea", checkpoint(8, count=2_000))
    assert await checkpoints.load("sitea") == large
    await checkpoints.store("sitea", checkpoint(9))
    assert await checkpoints.load("sitea") == checkpoint(9)


async def test_what_lost_a_part_is_none(
    checkpoints: Checkpoints, connection: FrailConnection
) -> None:
    bucket = Bucket(connection, PROGRESS, replicas=1)
    await checkpoints.store("sitea", checkpoint(7, count=2_000))
    await bucket.forget(min(await bucket.keys("sitea.*")))
    assert await checkpoints.load("sitea") is None
    await bucket.put("sitea", b"nonsense")
    assert await checkpoints.load("sitea") is None


async def test_parts_that_nobody_names_go_once_they_are_old(
    checkpoints: Checkpoints, connection: FrailConnection
) -> None:
    bucket = Bucket(connection, PROGRESS, replicas=1)
    await bucket.put("sitea.5f5e100-aa-0", b"left by a worker that died in 1973")
    await checkpoints.store("sitea", checkpoint(7, count=2_000))
    assert await checkpoints.load("sitea") == checkpoint(7, count=2_000)
    assert "sitea.5f5e100-aa-0" not in await bucket.keys()


async def test_of_two_workers_one_is_refused(
    checkpoints: Checkpoints, connection: FrailConnection
) -> None:
    other = Checkpoints(connection)
    await other.load("sitea")
    await checkpoints.store("sitea", checkpoint(5))
    for _ in range(2):
        with pytest.raises(FencedError):
            await other.store("sitea", checkpoint(3))
    assert await other.load("sitea") == checkpoint(5)
    await other.store("sitea", checkpoint(6))
    assert await other.load("sitea") == checkpoint(6)
