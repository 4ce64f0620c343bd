from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from harness.fanning import client_of, fanning, until, write
from harness.subscribing import (
    assert_numbered,
    briefs,
    joined,
    modify,
    subscribe,
    told,
    told_up_to,
    unsubscribe,
    until_told,
)
from nats.aio.msg import Msg

from pbscast.deliveries import (
    BoundaryMessage,
    EventMessage,
    ObjectMessage,
    SubscriptionMessage,
    decode,
)
from pbscast.errors import UnavailableError
from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    Kind,
    Provenance,
    Reason,
    Site,
)
from pbscast.lives import Standing
from pbscast.requests import PublisherState
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import NatsSettings
from pbscast_fanout.subscriptions import session, standings
from pbscast_fanout.subscriptions.checkpoints import Checkpoint, Checkpoints
from pbscast_fanout.subscriptions.joining import Join
from pbscast_fanout.subscriptions.recovery import LARGEST
from pbscast_fanout.subscriptions.session import Session
from pbscast_fanout.subscriptions.stream import Place
from pbscast_fanout.subscriptions.writer import DeliveryWriter
from pbscast_fanout.worker import Fanout
from pbscast_store.drafts import Draft
from pbscast_store.log import Log


def change(job: str, state: str = "R", *, queue: str = "workq", **changed: str) -> Draft:
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=EventName.STATE,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=ChangePayload(owner="alice", queue=queue, state=state, changed=changed),
    )


def begin(job: str, **changed: str) -> Draft:
    payload = ChangePayload(owner="alice", queue="workq", state="Q", changed=changed)
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=EventName.SUBMIT,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=payload,
    )


def end(job: str, **fields: Any) -> Draft:
    payload = FinalizePayload(
        **{"owner": "alice", "queue": "workq", "state": "F", "reason": Reason.FINISHED, **fields}
    )
    return Draft(
        kind=Kind.JOB,
        id=job,
        event=EventName.FINALIZE,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=payload,
    )


def only(kind: type[Any], messages: Iterable[SubscriptionMessage]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


async def test_how_everything_stands_then_what_happens(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("1.sitea", comment="here"), begin("2.sitea"), end("2.sitea")])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        key = await subscribe(client, queues=["workq"])
        messages = await until_told(client, key, joined("sitea"))
        assert briefs(messages) == [("begin", 3), ("object", "1.sitea"), ("boundary", 3)]
        [stood] = only(ObjectMessage, messages)
        assert stood.object.attributes == {"comment": "here"}
        await write(log, "sitea", [change("1.sitea"), begin("3.sitea"), end("1.sitea")])
        messages = await until_told(client, key, told_up_to("sitea", 6))
    assert briefs(messages)[3:] == [("stayed", 4), ("joined", 5), ("ended", 6)]
    assert_numbered(messages)


async def test_a_large_value_takes_no_more_than_its_share_of_what_is_kept(
    log: Log, nats_url: str
) -> None:
    large = "x" * LARGEST
    await write(log, "sitea", [begin("1.sitea", comment=large)])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        key = await subscribe(client, queues=["workq"])
        await until_told(client, key, joined("sitea"))
        await write(log, "sitea", [change("1.sitea", Variable_List=large, comment="small")])
        messages = await until_told(client, key, told_up_to("sitea", 2))
    [stood], [event] = only(ObjectMessage, messages), only(EventMessage, messages)
    assert stood.object.omitted == ("comment",)
    assert (event.event.omitted, event.event.changed) == (("Variable_List",), {"comment": "small"})


async def test_who_joins_late_is_told_how_it_stands(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("1.sitea", comment="here", Account_Name="x")])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        key = await subscribe(client, states=["R"], attributes=["comment"])
        await until_told(client, key, joined("sitea"))
        # The second one is logged before the first is told: its standing is looked up.
        items = [change("1.sitea", comment="there"), change("1.sitea", "E", comment="gone")]
        await write(log, "sitea", items)
        messages = await until_told(client, key, told_up_to("sitea", 3))
        await write(log, "sitea", [end("1.sitea")])
        messages = await until_told(client, key, told_up_to("sitea", 4))
    assert briefs(messages)[2:] == [("joined", 2), ("left", 3), ("ended", 4)]
    [arrival] = [item for item in only(EventMessage, messages) if item.standing]
    assert (arrival.standing.position, arrival.standing.state) == (2, "R")
    assert arrival.standing.attributes == {"comment": "there"}


async def test_ids_that_have_ended_are_told_as_such(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("6[].sitea"), begin("6[1].sitea"), end("6[1].sitea")])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        key = await subscribe(client, ids=["6[].sitea", "99.sitea"])
        messages = await until_told(client, key, joined("sitea"))
    stood = {item.object.id: item.object.ended for item in only(ObjectMessage, messages)}
    assert stood.keys() == {"6[].sitea", "6[1].sitea"}
    assert stood["6[1].sitea"] is not None
    assert stood["6[].sitea"] is None


async def test_ids_that_are_added_join_without_a_new_beginning(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("1.sitea"), begin("2.sitea")])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        key = await subscribe(client, ids=["1.sitea"])
        await until_told(client, key, joined("sitea"))
        await modify(client, key, add_ids=["2.sitea"], remove_ids=["1.sitea"])
        await until_told(client, key, lambda items: len(only(BoundaryMessage, items)) == 2)
        await write(log, "sitea", [change("1.sitea"), change("2.sitea")])
        messages = await until_told(client, key, told_up_to("sitea", 4))
    assert briefs(messages) == [
        ("begin", 2),
        ("object", "1.sitea"),
        ("boundary", 2),
        ("object", "2.sitea"),
        ("boundary", 2),
        ("stayed", 4),
    ]


async def test_an_expression_over_what_nobody_spoke_of_before(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("1.sitea", comment="here"), begin("2.sitea", comment="no")])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        other = await subscribe(client)
        await until_told(client, other, joined("sitea"))
        key = await subscribe(client, where='comment == "here"')
        await until_told(client, key, joined("sitea"))
        await write(log, "sitea", [change("1.sitea"), change("2.sitea"), change("2.sitea", "E")])
        await write(log, "sitea", [change("2.sitea", "E", comment="here"), end("2.sitea")])
        messages = await until_told(client, key, told_up_to("sitea", 7))
    assert briefs(messages)[1:2] == [("object", "1.sitea")]
    assert briefs(messages)[3:] == [("stayed", 3), ("joined", 6), ("ended", 7)]


async def test_a_move_is_followed_to_a_site_that_is_aggregated(log: Log, nats_url: str) -> None:
    server = Draft(
        kind=Kind.SERVER,
        id="siteb",
        event=EventName.CREATE,
        time=datetime.now(UTC),
        provenance=Provenance.JOURNAL,
        payload=ChangePayload(changed={"server_host": "hostb.example.org"}),
    )
    await write(log, "siteb", [server])
    await write(log, "sitea", [begin("1.sitea"), begin("2.sitea")])
    moved = {"reason": Reason.MOVED, "destination": "workq@hostb.example.org"}
    elsewhere = {"reason": Reason.MOVED, "destination": "workq@elsewhere"}
    async with fanning(log, nats_url), client_of(nats_url) as client:
        key = await subscribe(client, ids=["1.sitea", "2.sitea"])
        confined = await subscribe(client, sites=["sitea"])
        await until_told(client, key, joined("sitea", "siteb"))
        await until_told(client, confined, joined("sitea"))
        await write(log, "sitea", [end("1.sitea", **moved), end("2.sitea", **elsewhere)])
        messages = await until_told(client, key, told_up_to("sitea", 4))
        assert [item.to for item in only(EventMessage, messages)] == ["siteb", None]
        alone = await until_told(client, confined, told_up_to("sitea", 4))
        assert [item.to for item in only(EventMessage, alone)] == [None, None]
        await write(log, "siteb", [begin("1.sitea")])
        await until_told(client, key, told_up_to("siteb", 2))


async def test_at_most_once_is_kept_nowhere(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("1.sitea")])
    key, heard = "a" * 32, list[SubscriptionMessage]()

    async def hear(message: Msg) -> None:
        heard.append(decode(message.data))

    async with fanning(log, nats_url), client_of(nats_url) as client:
        await client.subscribe(f"pbscast.live.v1.*.{key}", cb=hear)
        await subscribe(client, id=key, delivery="at-most-once")
        await until(lambda: only(BoundaryMessage, heard))
        await write(log, "sitea", [change("1.sitea"), end("1.sitea")])
        await until(lambda: told_up_to("sitea", 3)(heard))
        assert await told(client, key) == []
    assert briefs(heard) == [
        ("begin", 1),
        ("object", "1.sitea"),
        ("boundary", 1),
        ("stayed", 2),
        ("ended", 3),
    ]
    assert all(getattr(message, "n", None) is None for message in heard)


async def test_who_takes_over_goes_on_where_the_other_was(log: Log, nats_url: str) -> None:
    """Also with what only a checkpoint knows: a job that has left."""
    await write(log, "sitea", [begin("1.sitea")])
    async with client_of(nats_url) as client:
        async with fanning(log, nats_url):
            key = await subscribe(client, states=["Q"])
            await until_told(client, key, joined("sitea"))
            await write(log, "sitea", [change("1.sitea", "R"), begin("2.sitea")])
            await until_told(client, key, told_up_to("sitea", 3))
        await write(log, "sitea", [change("1.sitea", "E"), begin("3.sitea")])
        async with fanning(log, nats_url):
            await write(log, "sitea", [end("1.sitea"), end("2.sitea")])
            messages = await until_told(client, key, told_up_to("sitea", 7))
    assert briefs(messages)[3:] == [
        ("left", 2),
        ("joined", 3),
        ("joined", 5),
        ("ended", 6),
        ("ended", 7),
    ]
    assert_numbered(messages)


async def test_a_site_that_nobody_asks_for_is_not_read(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("1.sitea")])
    await write(log, "siteb", [begin("1.siteb")])
    async with fanning(log, nats_url) as fanout, client_of(nats_url) as client:
        key = await subscribe(client, sites=["siteb"])
        await until_told(client, key, joined("siteb"))

        def state(site: str) -> tuple[int, int, PublisherState]:
            [found] = [item for item in fanout.status().deliveries if item.site == site]
            return found.delivered, found.subscriptions, found.state

        await until(lambda: state("siteb") == (1, 1, PublisherState.CURRENT))
        assert state("sitea") == (0, 0, PublisherState.CURRENT)
        await unsubscribe(client, key)
        await until(lambda: state("siteb")[1] == 0)


async def test_many_subscriptions_of_one_event(log: Log, nats_url: str) -> None:
    await write(log, "sitea", [begin("1.sitea")])
    async with fanning(log, nats_url) as fanout, client_of(nats_url) as client:
        keys = await asyncio.gather(*(subscribe(client, ids=["1.sitea"]) for _ in range(15)))
        await until(lambda: [item.joining for item in fanout.status().deliveries] == [0])
        for key in keys:
            await until_told(client, key, joined("sitea"))
        await write(log, "sitea", [change("1.sitea")])
        for key in keys:
            messages = await until_told(client, key, told_up_to("sitea", 2))
            assert briefs(messages)[-1] == ("stayed", 2)


@pytest.mark.parametrize("is_kept", [True, False], ids=["checkpoint", "none"])
async def test_a_last_message_that_the_stream_has_lost(
    log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch, *, is_kept: bool
) -> None:
    """The numbers go on from the checkpoint; without one all is told anew."""
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0 if is_kept else 60.0)
    await write(log, "sitea", [begin("1.sitea")])
    async with client_of(nats_url) as client:
        async with fanning(log, nats_url) as fanout:
            key = await subscribe(client)
            await until_told(client, key, joined("sitea"))
            checkpoints = Checkpoints(fanout._connection)
            async with asyncio.timeout(30):
                while is_kept and (  # noqa: ASYNC110 - the bucket is only to be asked
                    (checkpoint := await checkpoints.load("sitea")) is None
                    or checkpoint.numbers.get(key) != 3
                ):
                    await asyncio.sleep(0.01)
        subject = f"pbscast.deliver.v1.sitea.{key}"
        await client.jetstream().purge_stream("PBS_DELIVERIES", subject=subject)
        await write(log, "sitea", [change("1.sitea")])
        async with fanning(log, nats_url):
            messages = await until_told(client, key, lambda items: items)
            if is_kept:
                assert briefs(messages) == [("stayed", 2)]
                assert only(EventMessage, messages)[0].n == 4
            else:
                messages = await until_told(client, key, joined("sitea"))
                assert briefs(messages) == [("begin", 2), ("object", "1.sitea"), ("boundary", 2)]


async def test_who_cannot_be_read_alone_waits(
    log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, is_bad = standings.joining, True

    def joining(log: Log, site: Site, join: Join) -> AsyncIterator[list[Standing]]:
        if is_bad and join.request.names:
            raise UnavailableError("the log takes too long")
        return reading(log, site, join)

    monkeypatch.setattr(standings, "joining", joining)
    begun = sessions(monkeypatch)
    await write(log, "sitea", [begin("1.sitea")])
    async with fanning(log, nats_url), client_of(nats_url) as client:
        bad = await subscribe(client, names=["*"])
        good = await subscribe(client)
        await until_told(client, good, joined("sitea"))
        await write(log, "sitea", [change("1.sitea")])
        await until_told(client, good, told_up_to("sitea", 2))
        is_bad = False
        messages = await until_told(client, bad, joined("sitea"))
    assert briefs(messages)[-2:] == [("begin", 2), ("boundary", 2)]
    assert begun == ["sitea"]


async def test_who_waits_for_more_ids_costs_nothing(
    log: Log, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = sessions(monkeypatch)
    await write(log, "sitea", [begin("1.sitea")])
    async with fanning(log, nats_url) as fanout, client_of(nats_url) as client:
        key = await subscribe(client, ids=["1.sitea"], more=True)
        current = PublisherState.CURRENT
        await until(lambda: [item.state for item in fanout.status().deliveries] == [current])
        await asyncio.sleep(0.5)
        assert len(begun) <= 1  # the one that finds that nobody is to be told
        await modify(client, key, add_ids=["2.sitea"])
        await until_told(client, key, joined("sitea"))
    assert len(begun) <= 2


async def test_a_log_that_was_restored_and_has_grown_since(log: Log, nats_url: str) -> None:
    """What was told is not what the log says: everybody joins anew."""

    async def restore(connection: Connection, _: str) -> None:
        writer = DeliveryWriter(connection, "sitea", asyncio.Semaphore())
        await writer.find()
        await writer.mark(Place(1, digest="00" * 32))

    messages = await told_after(restore, log, nats_url)
    assert briefs(messages)[3:] == [("begin", 2), ("object", "1.sitea"), ("boundary", 2)]


async def test_a_stream_that_has_lost_its_end(log: Log, nats_url: str) -> None:
    """A checkpoint is not before what was told."""

    async def lose(connection: Connection, key: str) -> None:
        checkpoints = Checkpoints(connection)
        await checkpoints.load("sitea")
        await checkpoints.store("sitea", Checkpoint(2, numbers={key: 4}))

    messages = await told_after(lose, log, nats_url)
    assert briefs(messages)[3:] == [("begin", 2), ("object", "1.sitea"), ("boundary", 2)]
    # Behind those that a reader may have had.
    assert [item.n for item in messages[3:]] == [5, 6, 7]  # type: ignore[union-attr]


async def told_after(
    damage: Callable[[Connection, str], Awaitable[None]], log: Log, nats_url: str
) -> list[SubscriptionMessage]:
    """What a subscription is told, six messages, if something is done while no worker runs."""
    await write(log, "sitea", [begin("1.sitea")])
    async with client_of(nats_url) as client:
        async with fanning(log, nats_url) as fanout:
            key = await subscribe(client)
            await until_told(client, key, joined("sitea"))
            await until_settled(fanout, key)
        async with stopped(nats_url) as connection:
            await damage(connection, key)
        await write(log, "sitea", [change("1.sitea")])
        async with fanning(log, nats_url):
            return await until_told(client, key, lambda items: len(items) == 6)


def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    """The sites whose delivering is begun from here on."""
    begun: list[Site] = []
    beginning = Session.begin

    async def begin_session(site: Site, *more: Any) -> Session:
        begun.append(site)
        return await beginning(site, *more)

    monkeypatch.setattr(Session, "begin", begin_session)
    return begun


async def until_settled(fanout: Fanout, key: str) -> None:
    """It is noted that it has joined."""
    async with asyncio.timeout(30):
        while await fanout._holdings.joined.get("sitea", key) is None:  # noqa: ASYNC110 - only to be asked
            await asyncio.sleep(0.01)


@asynccontextmanager
async def stopped(url: str) -> AsyncIterator[Connection]:
    """A connection of nobody's."""
    connection = Connection(NatsSettings(servers=(url,)), name="test")
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()
