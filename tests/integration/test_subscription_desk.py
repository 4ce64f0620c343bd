"""The services of subscriptions as any NATS client asks them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import pytest
from harness.fanning import client_of, draft, fanning, write
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js.manager import JetStreamManager
from pydantic import BaseModel

from pbscast.deliveries import DELIVERIES, delivery_subject
from pbscast.subscriptions import (
    LIST,
    MODIFY,
    RENEW,
    SUBSCRIBE,
    UNSUBSCRIBE,
    ListResponse,
    ModifyResponse,
    RenewResponse,
    SubscribeResponse,
)
from pbscast_fanout.subscriptions import desk
from pbscast_fanout.subscriptions.consumers import Consumers
from pbscast_fanout.turns import ABREAST, SECONDS
from pbscast_store.log import Log

KEY = "0123456789abcdef0123456789abcdef"
T = TypeVar("T", bound=BaseModel)

FAULTS: Final[list[tuple[str, object, str]]] = [
    (SUBSCRIBE, {"ids": ["x"]}, "400 UsageError: ids: illegally formed job identifier: 'x'"),
    (SUBSCRIBE, {"where": "state ="}, "400 UsageError: expression, column"),
    (SUBSCRIBE, {"where": "(" * 4096}, "400 UsageError: expression, column"),
    (SUBSCRIBE, {"id": "*"}, "400 UsageError: id: is not of the form"),
    (SUBSCRIBE, {"id": KEY + "\n"}, "400 UsageError: id: is not of the form"),
    (SUBSCRIBE, {"lease": 1}, "400 UsageError: lease: has to be at least 10, in seconds"),
    (SUBSCRIBE, {"colour": "red"}, "400 UsageError: colour: there is nothing of this name"),
    (SUBSCRIBE, ["x"], "400 UsageError: request: "),
    (RENEW, {"id": "*"}, "404 NotFoundError: there is no subscription '*'"),
    (RENEW, {"id": "*." + "x" * 1000}, "404 NotFoundError: there is no subscription '*.xxx"),
    (MODIFY, {"id": ">", "attributes": []}, "404 NotFoundError: there is no subscription '>'"),
    (MODIFY, {"id": KEY}, "400 UsageError: request: nothing to change"),
    (MODIFY, {"id": KEY, "add_ids": ["1.a"]}, "404 NotFoundError: there is no subscription"),
    (LIST, {"after": ""}, "400 UsageError: after: is empty"),
]


@pytest.fixture
async def client(log: Log, nats_url: str) -> AsyncIterator[Client]:
    async with fanning(log, nats_url), client_of(nats_url) as client:
        await asking(client, LIST, {})
        yield client


async def asking(client: Client, subject: str, request: object) -> Any:
    """Wait for the services, and for the buckets, to come up."""
    for _ in range(500):
        try:
            answer = await client.request(subject, json.dumps(request).encode(), timeout=10)
        except NoRespondersError:
            await client.flush()
            continue
        if (answer.headers or {}).get("Nats-Service-Error-Code") != "503":
            return answer
    raise AssertionError("the services did not come up")


async def ask(client: Client, subject: str, model: type[T], **request: Any) -> T:
    answer = await asking(client, subject, request)
    assert "Nats-Service-Error" not in (answer.headers or {}), answer.headers
    return model.model_validate_json(answer.data)


async def refusal(client: Client, subject: str, **request: Any) -> str:
    answer = await asking(client, subject, request)
    assert answer.headers is not None
    error: str = answer.headers["Nats-Service-Error"]
    assert "\n" not in error
    return f"{answer.headers['Nats-Service-Error-Code']} {error}"


async def test_a_subscription_from_its_beginning_to_its_end(client: Client) -> None:
    answer = await ask(client, SUBSCRIBE, SubscribeResponse, ids=["1.sitea"], lease=60)
    assert answer.subject == f"pbscast.deliver.v1.*.{answer.id}"
    assert answer.lease == 60
    consumer = (await JetStreamManager(client).consumer_info(DELIVERIES, answer.id)).config
    assert consumer.filter_subject == answer.subject
    renewed = await ask(client, RENEW, RenewResponse, id=answer.id, lease=90, resume=True)
    assert (renewed.lease, renewed.subject) == (90, answer.subject)
    assert renewed.expires > answer.expires
    changed = await ask(client, MODIFY, ModifyResponse, id=answer.id, add_ids=["2.sitea"])
    assert changed.ids == 2
    for _ in range(2):
        await asking(client, UNSUBSCRIBE, {"id": answer.id})
    assert (await refusal(client, RENEW, id=answer.id)).startswith("404 NotFoundError: there is no")
    assert (await ask(client, LIST, ListResponse)).subscriptions == ()
    consumers = await JetStreamManager(client).consumers_info(DELIVERIES)
    assert consumers == []


async def test_at_most_once_has_no_consumer(client: Client) -> None:
    answer = await ask(client, SUBSCRIBE, SubscribeResponse, delivery="at-most-once")
    assert answer.subject == f"pbscast.live.v1.*.{answer.id}"
    assert await JetStreamManager(client).consumers_info(DELIVERIES) == []
    await ask(client, RENEW, RenewResponse, id=answer.id, resume=True)
    assert await JetStreamManager(client).consumers_info(DELIVERIES) == []


async def test_a_repeated_request_is_the_same_subscription(client: Client) -> None:
    request = {"id": KEY, "ids": ["1.sitea"], "lease": 60}
    first = await ask(client, SUBSCRIBE, SubscribeResponse, **request)
    assert first.id == KEY
    await ask(client, SUBSCRIBE, SubscribeResponse, **request)
    assert len((await ask(client, LIST, ListResponse)).subscriptions) == 1
    assert (await refusal(client, SUBSCRIBE, **{**request, "ids": ["2.sitea"]})).startswith(
        f"409 ConflictError: id: there is another subscription '{KEY}'"
    )


async def test_many_ids_come_in_parts(client: Client) -> None:
    ids = [f"{number}.cluster.example.org" for number in range(30_000)]
    most = 10_000
    await ask(client, SUBSCRIBE, SubscribeResponse, id=KEY, ids=ids[:most], more=True)
    for begin in range(most, len(ids), most):
        more = begin + most < len(ids)
        part = ids[begin : begin + most]
        answer = await ask(client, MODIFY, ModifyResponse, id=KEY, add_ids=part, more=more)
    assert answer.ids == 30_000


async def test_an_id_is_not_used_again_while_there_are_messages_for_it(client: Client) -> None:
    ended = (await ask(client, SUBSCRIBE, SubscribeResponse, sites=["x"])).id
    await asking(client, UNSUBSCRIBE, {"id": ended})
    await client.jetstream().publish(delivery_subject("sitea", KEY), b"1")
    assert (await refusal(client, SUBSCRIBE, id=KEY)) == (
        f"409 ConflictError: id: subscription '{KEY}' has ended: take another id"
    )
    assert (await ask(client, LIST, ListResponse)).subscriptions == ()
    await JetStreamManager(client).purge_stream(DELIVERIES)
    for _ in range(2):
        await ask(client, SUBSCRIBE, SubscribeResponse, id=KEY, sites=["x"])
        await client.jetstream().publish(delivery_subject("sitea", KEY), b"1")


async def test_readers_that_come_back_hold_up_no_renewal(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await ask(client, SUBSCRIBE, SubscribeResponse, sites=["x"])).id
    going_on = asyncio.Event()

    async def resume(*_: object, **__: object) -> None:
        await going_on.wait()

    monkeypatch.setattr(Consumers, "resume", resume)
    resumes = [
        asyncio.create_task(ask(client, RENEW, RenewResponse, id=key, resume=True))
        for _ in range(ABREAST)
    ]
    await client.flush()
    async with asyncio.timeout(SECONDS / 2):
        await ask(client, RENEW, RenewResponse, id=key)
    assert not any(task.done() for task in resumes)
    going_on.set()
    await asyncio.gather(*resumes)


async def test_who_shares_hears_how_much_is_not_handled(client: Client) -> None:
    for shared, unhandled in ((True, 1), (False, None)):
        answer = await ask(
            client, SUBSCRIBE, SubscribeResponse, ids=["1.x"], sites=["x"], shared=shared
        )
        await client.jetstream().publish(delivery_subject("sitea", answer.id), b"1")
        renewed = await ask(client, RENEW, RenewResponse, id=answer.id)
        assert renewed.unhandled == unhandled


async def test_a_fault_is_said_in_one_line(client: Client) -> None:
    for subject, request, fault in FAULTS:
        answer = await asking(client, subject, request)
        assert answer.headers is not None
        code = answer.headers["Nats-Service-Error-Code"]
        error = answer.headers["Nats-Service-Error"]
        assert f"{code} {error}".startswith(fault)
        assert "\n" not in error
        assert len(error) < 500
    assert (await ask(client, LIST, ListResponse)).subscriptions == ()


async def test_nothing_is_done_to_others_by_wildcards(client: Client) -> None:
    answer = await ask(client, SUBSCRIBE, SubscribeResponse, ids=["1.sitea"])
    for id_ in ("*", ">", f"{answer.id[:-1]}*", f"{answer.id}.x"):
        await asking(client, UNSUBSCRIBE, {"id": id_})
        assert (await refusal(client, RENEW, id=id_, resume=True)).startswith("404")
    await ask(client, RENEW, RenewResponse, id=answer.id)


async def test_the_list_comes_in_pages(
    client: Client, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "LISTED", 2)
    await write(log, "sitea", [draft("1.sitea"), draft("2.sitea")])
    ids = set()
    for number in range(5):
        named = [f"{one}.sitea" for one in range(1, number + 1)]
        request = {"ids": named, "shared": True, "lease": 60}
        ids.add((await ask(client, SUBSCRIBE, SubscribeResponse, **request)).id)
    page = await ask(client, LIST, ListResponse)
    listed, pages = list(page.subscriptions), 1
    while page.next is not None:
        page = await ask(client, LIST, ListResponse, after=page.next)
        listed += page.subscriptions
        pages += 1
    assert pages == 3
    assert [one.id for one in listed] == sorted(ids)
    assert sorted((one.ids, one.pending) for one in listed) == [(n, n) for n in range(5)]
    assert all(one.shared and one.lease == 60 for one in listed)
    monkeypatch.setattr(desk, "LISTED_IDS", 1)
    assert len((await ask(client, LIST, ListResponse)).subscriptions) <= 2
