from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from harness.fanning import client_of, draft, drafts, fanning, logged, published_to, stored, write
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from pbscast import wire
from pbscast.openings import CLOSE, OPEN, STREAM
from pbscast.requests import (
    AT,
    DIFFERENCE,
    EVENT,
    HISTORY,
    JOBS,
    SNAPSHOT,
    STATUS,
    EventResponse,
    HistoryResponse,
    StatusResponse,
)
from pbscast.subscriptions import LIST, MODIFY, RENEW, SUBSCRIBE, UNSUBSCRIBE
from pbscast_deploy.embedded import NatsServer
from pbscast_fanout.settling import SETTLE
from pbscast_fanout.worker import Fanout
from pbscast_store.confines import Confined
from pbscast_store.log import Log
from pbscast_store.stories import EventPage


@pytest.fixture
async def fanout(log: Log, nats_url: str) -> AsyncIterator[Fanout]:
    async with fanning(log, nats_url) as worker:
        yield worker


@pytest.fixture
async def client(nats_url: str, fanout: Fanout) -> AsyncIterator[Client]:
    async with client_of(nats_url) as client:
        await ask(client, STATUS)
        yield client


async def ask(client: Client, subject: str, **request: Any) -> Msg:
    """As any NATS client asks; waits for the service to come up."""
    async with asyncio.timeout(60):
        while True:
            with suppress(NoRespondersError):
                return await client.request(subject, json.dumps(request).encode(), timeout=30)
            await asyncio.sleep(0.01)


async def whole_history(client: Client, **request: Any) -> tuple[list[dict[str, Any]], int]:
    events: list[dict[str, Any]] = []
    pages = 0
    after = None
    while True:
        answer = await ask(client, HISTORY, **request, after=after)
        assert len(answer.data) <= client.max_payload
        page = HistoryResponse.model_validate_json(answer.data)
        events += page.events
        pages += 1
        after = page.next
        if after is None:
            return events, pages


async def test_history_is_what_the_stream_has(
    log: Log, nats_url: str, fanout: Fanout, client: Client
) -> None:
    await write(log, "sitea", drafts(1_000))
    await published_to(fanout, "sitea", 1_000)
    events, pages = await whole_history(client, ids=["5.sitea"], limit=4)
    bodies = [item.body for item in await stored(nats_url, "pbs.v1.sitea.job.*.5/sitea.-.*")]
    assert pages == 3
    assert [json.dumps(event, separators=(",", ":")).encode() for event in events] == bodies
    assert len(bodies) == 10


async def test_history_crosses_sites_and_covers_subjobs(log: Log, client: Client) -> None:
    await write(log, "sitea", [draft("19.sitea"), draft("6[].sitea"), draft("6[1].sitea")])
    await write(log, "siteb", [draft("19.sitea"), draft("19.sitea")])
    moved, _ = await whole_history(client, ids=["19.sitea"], limit=1)
    assert [event["id"] for event in moved] == ["sitea:1", "siteb:1", "siteb:2"]
    array, _ = await whole_history(client, ids=["6[].sitea"])
    assert [event["subject"] for event in array] == ["6[].sitea", "6[1].sitea"]
    here, _ = await whole_history(client, ids=["19.sitea"], sites=["siteb"])
    assert [event["id"] for event in here] == ["siteb:1", "siteb:2"]


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ({"ids": ["404.sitea"]}, "NotFoundError: the log has no job 404.sitea"),
        (
            {"ids": ["19.sitea"], "sites": ["siteb"]},
            "NotFoundError: the log has no job 19.sitea at site siteb",
        ),
    ],
)
async def test_the_history_of_an_unknown_job_is_not_found(
    log: Log, client: Client, request_body: dict[str, list[str]], words: str
) -> None:
    await write(log, "sitea", [draft("19.sitea")])
    await write(log, "siteb", [])
    answer = await ask(client, HISTORY, **request_body)
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "404"
    assert answer.headers["Nats-Service-Error"] == words


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        (b"{", "UsageError: request: Invalid JSON"),
        (b'{"ids":[""]}', "UsageError: ids.0: is empty"),
        (b'{"ids":["1.s"],"limit":0}', "UsageError: limit: has to be at least 1"),
        (b'{"kind":"cat"}', "UsageError: kind: Input should be 'job'"),
        (b'{"id":"1.s"}', "UsageError: id: there is nothing of this name"),
        (b'{"ids":["1.s"],"after":"x"}', "UsageError: after: not the `next` of an earlier answer"),
        (b'{"ids":["1\\u0000.s"]}', "UsageError: "),
    ],
)
async def test_a_bad_request_is_answered_in_one_line(
    client: Client, request_body: bytes, words: str
) -> None:
    answer = await client.request(HISTORY, request_body, timeout=30)
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "400"
    assert answer.headers["Nats-Service-Error"].startswith(words)


async def test_an_event_that_was_cut_is_available_in_full(log: Log) -> None:
    with NatsServer(durable=False, config="max_payload: 65536") as server:
        await write(log, "sitea", [draft("7.sitea", Variable_List='"ü\\' * 60_000)])
        async with fanning(log, server.url) as fanout, client_of(server.url) as client:
            await published_to(fanout, "sitea", 1)
            [event], _ = await whole_history(client, ids=["7.sitea"])
            assert event["data"]["omitted"] == ["Variable_List"]
            pieces: list[str] = []
            offset: int | None = 0
            while offset is not None:
                answer = await ask(client, EVENT, site="sitea", position=1, offset=offset)
                piece = EventResponse.model_validate_json(answer.data)
                pieces.append(piece.text)
                offset = piece.next
            assert len(pieces) > 1
            assert "".join(pieces).encode() == (await logged(log, "sitea"))[0].encode()


async def test_an_unknown_event_is_not_found(log: Log, client: Client) -> None:
    await write(log, "sitea", drafts(1))
    for site, position in (("sitea", 2), ("elsewhere", 1)):
        answer = await ask(client, EVENT, site=site, position=position)
        assert answer.headers is not None
        assert answer.headers["Nats-Service-Error-Code"] == "404"
        assert f"{site}:{position}" in answer.headers["Nats-Service-Error"]


async def test_status_tells_of_every_site(log: Log, fanout: Fanout, client: Client) -> None:
    await write(log, "siteb", drafts(2))
    await write(log, "sitea", drafts(3))
    await published_to(fanout, "sitea", 3)
    await published_to(fanout, "siteb", 2)
    status = StatusResponse.model_validate_json((await ask(client, STATUS)).data)
    assert [(item.site, item.published, item.lag) for item in status.sites] == [
        ("sitea", 3, 0),
        ("siteb", 2, 0),
    ]
    assert status.error is None


async def test_the_service_can_be_discovered(client: Client) -> None:
    answer = await client.request("$SRV.INFO.pbscast", timeout=30)
    endpoints = {item["subject"] for item in json.loads(answer.data)["endpoints"]}
    services = {
        *(HISTORY, JOBS, SNAPSHOT, AT, DIFFERENCE, EVENT, STATUS),
        *(SUBSCRIBE, RENEW, MODIFY, UNSUBSCRIBE, LIST),
        *(OPEN, CLOSE, STREAM),
    }
    named = {service.replace("pbscast.v1.", "pbscast.v1.as.*.*.*.") for service in services}
    assert endpoints == {*services, *named, SETTLE}


async def test_history_decodes(log: Log, client: Client) -> None:
    await write(log, "sitea", [draft("1.sitea", comment="ünïcode")])
    answer = await ask(client, HISTORY, ids=["1.sitea"])
    event = HistoryResponse.model_validate_json(answer.data).events[0]
    assert wire.decode(json.dumps(event)) == (await logged(log, "sitea"))[0].decode()


async def test_a_slow_answer_holds_up_no_other(
    log: Log, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(log, "sitea", drafts(3))
    asked, go_on = asyncio.Event(), asyncio.Event()
    events = log.events

    async def slow_for_one(confined: Confined, **more: Any) -> EventPage:
        if confined.selection.ids == ("1.sitea",):
            asked.set()
            await go_on.wait()
        return await events(confined, **more)

    monkeypatch.setattr(log, "events", slow_for_one)
    slow = asyncio.create_task(ask(client, HISTORY, ids=["1.sitea"]))
    await asked.wait()
    for _ in range(5):
        assert (await ask(client, HISTORY, ids=["2.sitea"])).data.startswith(b'{"events":[{')
    go_on.set()
    assert (await slow).data.startswith(b'{"events":[{')


async def test_a_worker_that_ends_answers_what_was_asked(
    log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(log, "sitea", drafts(3))
    asked = asyncio.Event()
    events = log.events

    async def slow(confined: Confined, **more: Any) -> EventPage:
        asked.set()
        await asyncio.sleep(0.2)
        return await events(confined, **more)

    monkeypatch.setattr(log, "events", slow)
    async with client_of(nats_url) as client:
        async with fanning(log, nats_url):
            answer = asyncio.create_task(ask(client, HISTORY, ids=["1.sitea"]))
            await asked.wait()
        assert (await answer).data.startswith(b'{"events":[{')
