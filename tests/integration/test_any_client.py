"""What sdk/api/README.md tells users of other languages, done with a plain NATS client."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from harness.fanning import client_of, fanning, published_to, write
from jsonschema import Draft202012Validator
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeout

from pbscast import wire
from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    Payload,
    Provenance,
    Reason,
)
from pbscast_fanout.contract.messages import ENDPOINTS
from pbscast_fanout.settling import SETTLE
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

PAGE: Final = Path(__file__).parents[2] / "sdk" / "api" / "README.md"
BEGAN: Final = datetime.now(UTC) - timedelta(hours=1)
LATER: Final = BEGAN + timedelta(minutes=30)


def _draft(
    kind: Kind, object_id: str, event: EventName, payload: Payload, time: datetime = BEGAN
) -> Draft:
    return Draft(kind, object_id, event, time, Provenance.JOURNAL, payload)


def _job(job_id: str, owner: str, event: EventName, time: datetime = BEGAN) -> Draft:
    if event is EventName.FINALIZE:
        payload: Payload = FinalizePayload(owner=owner, state="F", reason=Reason.FINISHED)
    else:
        payload = ChangePayload(owner=owner, state="Q", changed={"comment": "x"})
    return _draft(Kind.JOB, job_id, event, payload, time)


AT_SITEA: Final = [
    _job("19.sitea", "alice", EventName.SUBMIT),
    _job("6[].sitea", "bob", EventName.SUBMIT),
    _job("6[3].sitea", "bob", EventName.STATE),
    _draft(Kind.NODE, "n1", EventName.CREATE, ChangePayload(state="free")),
    _draft(Kind.SITE, "sitea", EventName.GAP, GapPayload(cause="full")),
    _job("19.sitea", "alice", EventName.FINALIZE, LATER),
]
AT_SITEB: Final = [
    _job("7.siteb", "alice", EventName.SUBMIT),
    _draft(Kind.NODE, "n2", EventName.CREATE, ChangePayload(state="down")),
    _job("7.siteb", "alice", EventName.FINALIZE, LATER),
]
EXPECTED: Final = {
    "all of alice's jobs, everywhere": {"sitea:1", "sitea:6", "siteb:1", "siteb:3"},
    "one job, wherever it is": {"sitea:1", "sitea:6"},
    "an array with its subjobs": {"sitea:2", "sitea:3"},
    "one subjob": {"sitea:3"},
    "every end at one site": {"sitea:6"},
    "every node, everywhere": {"sitea:4", "siteb:2"},
    "gaps in what was captured": {"sitea:5"},
    "every event, no marks": {f"sitea:{n}" for n in range(1, 7)}
    | {"siteb:1", "siteb:2", "siteb:3"},
}


def _rows(heading: str) -> dict[str, str]:
    """The rows of the page's table whose first column has this heading."""
    [table] = re.findall(rf"\| {re.escape(heading)} \|.*\n\|.*\n((?:\|.*\n)+)", PAGE.read_text())
    cells = (row.strip("| ").split(" | ", 1) for row in table.splitlines())
    return {name.strip(): text.strip() for name, text in cells}


def _told(heading: str) -> dict[str, str]:
    """The same, of cells that have one thing to write."""
    return {name: text.strip("`") for name, text in _rows(heading).items()}


@pytest.fixture
async def client(log: Log, nats_url: str) -> AsyncIterator[Client]:
    """Of a NATS that has the events of two sites."""
    await write(log, "sitea", AT_SITEA)
    await write(log, "siteb", AT_SITEB)
    async with fanning(log, nats_url) as fanout, client_of(nats_url) as connected:
        await published_to(fanout, "sitea", len(AT_SITEA))
        await published_to(fanout, "siteb", len(AT_SITEB))
        yield connected


async def _read(client: Client, subject: str, begin: str = '"begin": "all"') -> list[str]:
    """The ids of all that a consumer has, in order."""
    asked = json.loads(f'{{"subjects": {json.dumps([subject])}, {begin}}}')
    check("OpenRequest", asked)
    opened = await _ask(client, "pbscast.v1.open", asked)
    check("OpenResponse", opened)
    assert opened["subjects"] == [subject]
    consumer = await client.jetstream().pull_subscribe_bind(opened["consumer"], stream="PBS")
    ids: list[str] = []
    while len(ids) < opened["stored"]:
        for number, message in enumerate(await consumer.fetch(100, timeout=30), len(ids) + 1):
            assert message.metadata.sequence.consumer == number
            event = wire.decode(message.data)
            ids.append(f"{event.site}:{event.position}")
    given = {name: opened[name] for name in ("consumer", "opening")}
    check("CloseRequest", given)
    await _ask(client, "pbscast.v1.close", given)
    return ids


async def test_filters_find_what_the_page_says(client: Client) -> None:
    told = _told("to follow")
    assert told.keys() == EXPECTED.keys()
    for name, subject in told.items():
        found = await _read(client, subject)
        assert (name, set(found), len(found)) == (name, EXPECTED[name], len(EXPECTED[name]))


async def test_live_subscribers_are_told(client: Client, log: Log) -> None:
    listener = await client.subscribe(_told("to follow")["all of alice's jobs, everywhere"])
    await client.flush()
    await write(log, "siteb", [_job("8.siteb", "alice", EventName.SUBMIT)])
    message = await listener.next_msg(timeout=20)
    assert wire.decode(message.data).id == "8.siteb"


async def test_a_reader_begins_where_it_wants(client: Client) -> None:
    every = "pbs.v1.sitea.*.>"
    told = {name: re.findall("`([^`]+)`", how) for name, how in _rows("to begin with").items()}
    everything = [f"sitea:{n}" for n in range(1, 7)]
    assert await _read(client, every, told["what is published from now on"][0]) == []
    assert await _read(client, every, told["everything that the stream holds"][0]) == everything
    newest = await _read(client, every, told["the last event of each subject, then live"][0])
    assert newest == everything  # no two share a subject
    time = told["a time"][0]
    # JetStream's times are those of publishing, never before the event.
    stamp = (BEGAN - timedelta(minutes=1)).isoformat()
    assert await _read(client, every, re.sub(r'"2026[^"]*"', f'"{stamp}"', time)) == everything
    sequence = told["a sequence of the stream"][0].replace("7", "1")
    assert await _read(client, every, sequence) == everything
    begin, _, _, asked = told["a position"]
    check("StreamRequest", json.loads(asked))
    place = await _ask(client, "pbscast.v1.stream", json.loads(asked))
    check("StreamResponse", place)
    found = await _read(client, every, f'{begin}, "sequence": {place["sequence"]}')
    assert found[-4:] == everything[2:]
    assert place["next"] <= 3


async def test_names_are_encoded_as_the_page_says(client: Client, log: Log) -> None:
    owner, job_id = "al.ice müller", "x" * 300 + ".siteb"
    listener = await client.subscribe("pbs.v1.siteb.job.>")
    await client.flush()
    await write(log, "siteb", [_job(job_id, owner, EventName.SUBMIT)])
    message = await listener.next_msg(timeout=20)
    tokens = message.subject.split(".")
    assert tokens[4] == "al%2Eice%20m%C3%BCller"
    assert re.fullmatch(r"x{200}%%[0-9a-f]{32}", tokens[5])
    assert tokens[6:] == ["-", "submit"]


async def test_the_services_are_those_of_the_document(client: Client) -> None:
    info = json.loads((await client.request("$SRV.INFO.pbscast", b"", timeout=10)).data)
    served = {endpoint["subject"] for endpoint in info["endpoints"]}
    names = {endpoint.subject.rpartition(".")[2] for endpoint in ENDPOINTS}
    assert served == {
        *(f"pbscast.v1.{name}" for name in names),
        *(f"pbscast.v1.as.*.*.*.{name}" for name in names),  # where nats-server says who asks
        SETTLE,  # for administrators alone
    }


async def test_looking_back_as_the_page_says(client: Client) -> None:
    models = {endpoint.subject: endpoint for endpoint in ENDPOINTS}
    rows = _told("service")
    assert set(rows) <= {f"`{subject}`" for subject in models}
    for service, row in rows.items():
        endpoint = models[service.strip("`")]
        asked, answers = (cell.strip(" `") for cell in row.split(" | "))
        check(endpoint.request.__name__, json.loads(asked))
        answer = await _ask(client, endpoint.subject, json.loads(asked))
        check(endpoint.response.__name__, answer)
        named = re.findall(r"(\w+)`", answers)[0] if "`" in answers else answers
        assert answer[named]


async def test_a_registered_subscription_by_hand(client: Client, log: Log) -> None:
    asked = {"ids": ["7.siteb", "9.siteb"], "where": 'comment == "x" or state == "F"', "lease": 60}
    check("SubscribeRequest", asked)
    made = await _ask(client, "pbscast.v1.subscribe", asked)
    check("SubscribeResponse", made)
    stream = client.jetstream()
    consumer = await stream.pull_subscribe_bind(made["consumer"], stream="PBS_DELIVERIES")
    told: list[dict[str, Any]] = []
    jobs = [_job("9.siteb", "bob", name) for name in (EventName.SUBMIT, EventName.FINALIZE)]
    while not told or told[-1]["what"] != "complete":
        with suppress(NatsTimeout):
            for message in await consumer.fetch(100, timeout=1):
                told.append(json.loads(message.data))
                await message.ack_sync()
        current = {item["site"] for item in told if item["what"] == "boundary"}
        if current == {"sitea", "siteb"} and jobs:
            await write(log, "siteb", jobs)
            jobs = []
    for item in told:
        check(f"{item['what'].capitalize()}Message", item)
    at_siteb = [item for item in told if item.get("site") == "siteb"]
    assert [item["n"] for item in at_siteb] == list(range(1, len(at_siteb) + 1))
    assert [item["what"] for item in at_siteb] == ["begin", "object", "boundary", "event", "event"]
    assert at_siteb[1]["object"]["reason"] == "finished"
    assert [item["event"]["data"]["event"] for item in at_siteb[3:]] == ["submit", "finalize"]
    renewed = await _ask(client, "pbscast.v1.renew", {"id": made["id"]})
    check("RenewResponse", renewed)
    check("UnsubscribeResponse", await _ask(client, "pbscast.v1.unsubscribe", {"id": made["id"]}))
    with pytest.raises(AssertionError, match="NotFoundError"):
        await _ask(client, "pbscast.v1.renew", {"id": made["id"]})


async def _ask(client: Client, subject: str, asked: dict[str, Any]) -> dict[str, Any]:
    answer = await client.request(subject, json.dumps(asked).encode(), timeout=20)
    refusal = (answer.headers or {}).get("Nats-Service-Error")
    assert refusal is None, refusal
    content: dict[str, Any] = json.loads(answer.data)
    return content


def check(model: str, content: object) -> None:
    """Assert that the published schema of a model allows it."""
    schema = json.loads((PAGE.parent / "schemas" / f"{model}.json").read_text())
    Draft202012Validator(schema).validate(content)
