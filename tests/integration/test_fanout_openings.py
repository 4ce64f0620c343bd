"""Readers' consumers, made by the service: for everybody, and for a person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.fanning import client_of
from harness.openings import serving_openings
from harness.pulling import pulled as messages_of
from harness.stream import Publisher, SiteLog, publishing
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from pbscast.openings import CLOSE, OPEN, STREAM, OpenResponse, StreamResponse
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout import jetstream
from pbscast_fanout.askers import SLOTS, Asker, Role
from pbscast_fanout.connection import Connection
from pbscast_fanout.turns import ABREAST

ALICE = Asker(Role.USER, "alice", open_sites=frozenset({"siteb"}))
EVERY = ("pbs.v1.>",)


def at(site: str, count: int = 1) -> list[Any]:
    log = SiteLog(site)
    return [
        *(log.job("1.sitea", owner="alice") for _ in range(count)),
        log.job("2.sitea", owner="bob"),
        log.node("n1"),
        log.mark(),
    ]


@pytest.fixture
async def publisher(nats_url: str) -> AsyncIterator[Publisher]:
    async with publishing(nats_url) as publisher, serving_openings(nats_url):
        yield publisher


async def ask(client: Client, subject: str, asker: Asker | None = None, **request: Any) -> Any:
    """The answer, or the line that refuses one."""
    if asker is not None:
        subject = f"{asker.subject}.{subject.rpartition('.')[2]}"
    answer = await client.request(subject, json.dumps(request).encode(), timeout=10)
    refusal = (answer.headers or {}).get("Nats-Service-Error")
    return refusal if refusal is not None else json.loads(answer.data)


async def opened(publisher: Publisher, asker: Asker | None = None, **request: Any) -> OpenResponse:
    answer = await ask(publisher.client, OPEN, asker, **{"begin": "all", **request})
    return OpenResponse.model_validate(answer)


async def pulled(publisher: Publisher, consumer: str) -> list[str]:
    """The subjects of all that a consumer has, in short."""
    stream = publisher.jetstream
    reader = await stream.pull_subscribe_bind(consumer, stream="PBS")
    return [item.subject[7:] for item in await messages_of(reader)]


async def test_everybody_reads_what_he_asks_for(publisher: Publisher) -> None:
    await publisher.publish(*at("sitea"))
    consumer = await opened(publisher, subjects=["pbs.v1.*.job.bob.>", "pbs.v1.*.node.>"])
    assert (consumer.stored, consumer.after) == (2, 0)
    assert consumer.subjects == ("pbs.v1.*.job.bob.>", "pbs.v1.*.node.>")
    assert await pulled(publisher, consumer.consumer) == [
        "sitea.job.bob.2/sitea.-.state",
        "sitea.node.n1.modify",
    ]
    info = await publisher.jetstream.consumer_info("PBS", consumer.consumer)
    config = info.config
    assert (config.mem_storage, config.num_replicas, config.ack_policy) == (True, 1, "none")
    assert config.inactive_threshold == 60


async def test_a_person_reads_what_he_may_see_and_each_once(publisher: Publisher) -> None:
    await publisher.publish(*at("sitea"), *at("siteb"))
    consumer = await opened(publisher, ALICE, subjects=EVERY)
    own = ["job.alice.1/sitea.-.state", "node.n1.modify", "mark"]
    all_of_siteb = ["job.alice.1/sitea.-.state", "job.bob.2/sitea.-.state", *own[1:]]
    assert await pulled(publisher, consumer.consumer) == [
        *(f"sitea.{item}" for item in own),
        *(f"siteb.{item}" for item in all_of_siteb),
    ]
    assert consumer.stored == 7


async def test_a_person_is_refused_what_is_others(publisher: Publisher) -> None:
    refusal = await ask(publisher.client, OPEN, ALICE, subjects=["pbs.v1.sitea.job.bob.>"])
    assert refusal.startswith("AccessDeniedError: pbs.v1.sitea.job.bob.>: nothing of that is alice")
    assert await publisher.consumers() == []


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ({"subjects": ["kv.>"]}, "UsageError: 'kv.>' is no filter of the stream"),
        ({"subjects": []}, "UsageError: subjects: give at least one"),
        ({"subjects": ["pbs.v1.>", "pbs.v1.s.>"]}, "UsageError: JetStream refuses"),
        ({"subjects": ["pbs.v1.>", "pbs.v1.>"]}, "UsageError: JetStream refuses"),
        ({"subjects": EVERY, "deliver_subject": "x"}, "UsageError: deliver_subject: there is"),
        ({"subjects": EVERY, "begin": "by_start_time"}, "UsageError: request: time: goes with"),
        ({"subjects": EVERY, "sequence": 3}, "UsageError: request: sequence: goes with"),
    ],
)
async def test_what_cannot_be_opened_is_refused_in_a_line(
    publisher: Publisher, request_body: dict[str, Any], words: str
) -> None:
    refusal = await ask(publisher.client, OPEN, **request_body)
    assert refusal.startswith(words)
    assert "\n" not in refusal


async def test_where_to_begin(publisher: Publisher) -> None:
    await publisher.publish(*at("sitea", 2))
    told: list[tuple[dict[str, Any], int]] = [
        ({"begin": "new"}, 0),
        ({"begin": "last_per_subject"}, 4),
        ({"begin": "by_start_sequence", "sequence": 3}, 3),
        ({"begin": "by_start_time", "time": "2026-01-01T00:00:00+01:00"}, 5),
        ({"begin": "by_start_time", "time": "2126-01-01T00:00:00Z"}, 0),
    ]
    for begin, count in told:
        consumer = await opened(publisher, subjects=EVERY, **begin)
        assert consumer.stored == count, begin


async def test_a_person_has_so_many_and_no_two_are_the_same(publisher: Publisher) -> None:
    asked = [ask(publisher.client, OPEN, ALICE, subjects=EVERY) for _ in range(SLOTS + 1)]
    answers = await asyncio.gather(*asked)
    made = {answer["consumer"] for answer in answers if isinstance(answer, dict)}
    assert made == {ALICE.slot(number) for number in range(1, SLOTS + 1)}
    [refusal] = [answer for answer in answers if isinstance(answer, str)]
    assert refusal.startswith("ConflictError: alice has 16 readers of the stream already")
    assert await ask(publisher.client, CLOSE, ALICE, consumer=ALICE.slot(7)) == {}
    assert (await opened(publisher, ALICE, subjects=EVERY)).consumer == ALICE.slot(7)
    # Nobody's slots are another's.
    bob = Asker(Role.AUDITOR, "alice")
    assert (await opened(publisher, bob, subjects=EVERY)).consumer.startswith("auditor-alice-")


async def test_one_gives_back_what_is_ones_own(publisher: Publisher) -> None:
    anybodys = (await opened(publisher, subjects=EVERY)).consumer
    bobs = (await opened(publisher, Asker(Role.USER, "bob"), subjects=EVERY)).consumer
    await publisher.jetstream.add_consumer("PBS", durable_name="others")
    for asker, name in ((ALICE, anybodys), (ALICE, bobs), (None, bobs), (None, "others")):
        refusal = await ask(publisher.client, CLOSE, asker, consumer=name)
        assert refusal == f"AccessDeniedError: consumer {name!r} is not one that was opened"
    assert await ask(publisher.client, CLOSE, consumer=anybodys) == {}
    assert await ask(publisher.client, CLOSE, consumer=anybodys) == {}
    assert sorted(await publisher.consumers()) == sorted([bobs, "others"])


async def test_what_was_forgotten_and_is_anothers_now_stays(publisher: Publisher) -> None:
    mine = [await opened(publisher, ALICE, subjects=EVERY) for _ in range(SLOTS)]
    await publisher.jetstream.delete_consumer("PBS", mine[3].consumer)  # as after long silence
    other = await opened(publisher, ALICE, subjects=EVERY)
    assert other.consumer == mine[3].consumer
    for left in (mine[3], mine[4]):
        asked = {"consumer": left.consumer, "opening": left.opening}
        assert await ask(publisher.client, CLOSE, ALICE, **asked) == {}
    stays = {one.consumer for one in mine} - {mine[4].consumer}
    assert set(await publisher.consumers()) == stays


class Bereft(Connection):
    """A connection by which JetStream says nothing of a consumer, nor that it has deleted it.

    So it is where the server that has it has died: then it is deleted all the same.
    """

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        answer = await super().request(subject, payload, headers)
        if "CONSUMER.DELETE" in subject or "CONSUMER.INFO" in subject:
            await asyncio.Event().wait()
        return answer


async def test_who_opens_does_not_wait_for_those_who_close(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "_ANSWERED", 1.5)
    async with publishing(nats_url) as publisher, serving_openings(nats_url, Bereft):
        given = [
            (await opened(publisher, subjects=EVERY)).model_dump(include={"consumer", "opening"})
            for _ in range(ABREAST)
        ]
        client = publisher.client
        deleted = await client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.DELETED.PBS.>")
        closing = [asyncio.create_task(ask(client, CLOSE, **one)) for one in given]
        for _ in given:
            await deleted.next_msg(timeout=30)
        await opened(publisher, subjects=EVERY)
        assert not any(task.done() for task in closing)
        async with asyncio.timeout(30):
            assert await asyncio.gather(*closing) == [{}] * len(given)


async def test_what_the_stream_is(publisher: Publisher) -> None:
    await publisher.publish(*at("sitea"))
    await publisher.jetstream.purge_stream("PBS", keep=1)
    info = await publisher.jetstream.stream_info("PBS")
    for asker in (None, ALICE):
        answer = StreamResponse.model_validate(await ask(publisher.client, STREAM, asker))
        assert (answer.first, answer.created) == (4, info.created)


async def test_where_a_position_lies(publisher: Publisher) -> None:
    log = SiteLog("sitea")
    for _ in range(3):
        await publisher.publish(log.job("1.sitea"), log.mark())
    client = publisher.client
    answer = StreamResponse.model_validate(await ask(client, STREAM, ALICE, site="sitea", after=2))
    assert (answer.sequence, answer.next) == (5, 3)
    await publisher.jetstream.purge_stream("PBS", keep=1)
    gone = StreamResponse.model_validate(await ask(client, STREAM, ALICE, site="sitea", after=1))
    assert gone.next is None
    restricted = Asker(Role.USER, "alice", frozenset({"sitea"}))
    refusal = await ask(client, STREAM, restricted, site="siteb", after=2)
    assert refusal == "AccessDeniedError: sites: siteb: alice may see sitea alone"


async def test_without_a_stream(nats_url: str) -> None:
    async with serving_openings(nats_url), client_of(nats_url) as client:
        assert (await ask(client, STREAM)).startswith("NotFoundError: ")
        assert (await ask(client, OPEN, subjects=EVERY)).startswith("NotFoundError: ")


async def test_what_nats_server_does_not_say_is_refused_or_not_heard(publisher: Publisher) -> None:
    client = publisher.client
    garbled = Asker(Role.SERVICE, "x").subject
    answer = await client.request(f"{garbled}.stream", b"{}", timeout=10)
    assert (answer.headers or {})["Nats-Service-Error"].startswith("AccessDeniedError: ")
    with pytest.raises(NoRespondersError):
        await client.request(f"{ALICE.subject}.JzGbTU", b"{}", timeout=10)
    # Without a reply nothing is done.
    await client.publish(f"{ALICE.subject}.open", b'{"subjects":["pbs.v1.>"]}')
    assert "created" in await ask(client, STREAM)
    assert await publisher.consumers() == []


async def test_it_serves_again_after_nats_was_away(own_nats: NatsServer) -> None:
    async with serving_openings(own_nats.url):
        await asyncio.to_thread(own_nats.restart)
        async with publishing(own_nats.url) as publisher, asyncio.timeout(30):
            while True:
                try:
                    await opened(publisher, ALICE, subjects=EVERY)
                    break
                except NoRespondersError:
                    await publisher.client.flush()
