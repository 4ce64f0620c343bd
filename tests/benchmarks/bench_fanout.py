"""Publishing: log → JetStream-acknowledged rate beside atomic batches with nothing else."""

from __future__ import annotations

import gc
import json
from itertools import islice
from time import perf_counter

import pytest
from harness.fanning import client_of, fanning, published_to
from harness.jobs import batches, interleaved_lives
from nats.aio.client import Client

from pbscast_deploy.embedded import NatsServer, PostgresServer
from pbscast_fanout.batches import Message, compose
from pbscast_fanout.fences import MAX_MESSAGES
from pbscast_fanout.settings import FanoutSettings, NatsSettings
from pbscast_fanout.worker import check
from pbscast_store.log import Log

pytestmark = pytest.mark.benchmark

_EVENTS = 40 * MAX_MESSAGES
_ROUNDS = 3


async def _fill(log: Log, site: str) -> list[Message]:
    """Log the events of a site; returns them as they are to be published."""
    await log.register_site(site)
    writer = await log.acquire(site, "bench", 600)
    assert writer is not None
    drafts = islice(interleaved_lives(site=site), _EVENTS)
    for batch in batches(drafts, 1000):
        await writer.append(batch, {})
    await writer.release()
    messages: list[Message] = []
    while page := await log.read(site, len(messages), 1000):
        messages += [compose(record, 10**6) for record in page]
    return messages


async def _publish_raw(client: Client, site: str, messages: list[Message]) -> float:
    """The same messages in the same batches, ready in memory, one batch in flight."""
    mark, fence = f"pbs.v1.raw-{site}.mark", 0
    subjects = [message.subject.replace(site, f"raw-{site}", 1) for message in messages]
    began = perf_counter()
    for start in range(0, len(messages), MAX_MESSAGES):
        batch, number = messages[start : start + MAX_MESSAGES], f"{site}-{start}"
        for index, message in enumerate(batch, 1):
            headers = {
                "Nats-Batch-Id": number,
                "Nats-Batch-Sequence": str(index),
                "Nats-Msg-Id": f"raw-{site}:{start + index}",
            }
            subject = subjects[start + index - 1]
            await client.publish(subject, message.body, headers=headers)
        headers = {
            "Nats-Batch-Id": number,
            "Nats-Batch-Sequence": str(len(batch) + 1),
            "Nats-Batch-Commit": "1",
            "Nats-Expected-Last-Subject-Sequence": str(fence),
        }
        answer = await client.request(mark, b"{}", timeout=30, headers=headers)
        fence = json.loads(answer.data)["seq"]
    return perf_counter() - began


async def _publish(log: Log, url: str, site: str) -> float:
    """A fresh worker, from its start to the last acknowledgement."""
    began = perf_counter()
    async with fanning(log, url, max_age=None) as fanout:
        await published_to(fanout, site, _EVENTS, seconds=600)
        return perf_counter() - began


@pytest.mark.parametrize("sync", ["default", "always"])
async def test_publishing_beside_raw_batches(own_postgres: PostgresServer, sync: str) -> None:
    """In turn, so that whatever else the machine does falls on both alike."""
    dsn = own_postgres.dsn()
    await Log.migrate_at(dsn)
    spent = dict.fromkeys(("raw", "pbscast"), 0.0)
    size = 0
    with NatsServer(durable=sync == "always") as server:
        async with Log.open(dsn) as log, client_of(server.url) as client:
            await check(FanoutSettings(nats=NatsSettings(servers=(server.url,))))
            for number in range(_ROUNDS):
                site = f"site{number}"
                messages = await _fill(log, site)
                size += sum(len(message.body) for message in messages)
                gc.collect()
                spent["raw"] += await _publish_raw(client, site, messages)
                spent["pbscast"] += await _publish(log, server.url, site)
    rate = {what: _ROUNDS * _EVENTS / seconds for what, seconds in spent.items()}
    print(
        f"\npublish (sync {sync},"
        f" {size / _ROUNDS / _EVENTS:.0f} B a message, {MAX_MESSAGES} a batch):"
        f" {rate['pbscast']:,.0f} events/s; raw batches {rate['raw']:,.0f}/s;"
        f" ratio {rate['pbscast'] / rate['raw']:.2f}"
    )
