"""Slots of persons and the consumers in them, on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import cast

import pytest
from harness.delivering import AFTER, BEFORE, FrailConnection
from harness.holding import connected, holdings_at, wanting
from nats.js.manager import JetStreamManager

from pbscast.deliveries import DELIVERIES, delivery_subject
from pbscast.errors import AccessDeniedError, ConflictError, NotFoundError, UnavailableError
from pbscast.subscriptions import (
    RenewRequest,
    RenewResponse,
    UnsubscribeRequest,
    UnsubscribeResponse,
)
from pbscast_fanout.askers import SLOTS, Asker, Role
from pbscast_fanout.connection import Connection
from pbscast_fanout.settings import FanoutSettings
from pbscast_fanout.subscriptions.consumers import Consumers
from pbscast_fanout.subscriptions.desk import Desk
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_fanout.subscriptions.janitor import Janitor
from pbscast_fanout.subscriptions.membership import Membership
from pbscast_fanout.subscriptions.owners import Owner
from pbscast_fanout.subscriptions.registering import Registering
from pbscast_fanout.subscriptions.slots import Slot
from pbscast_store.log import Log

ALICE = Owner(role=Role.USER, name="alice")
ALICE_ASKS = Asker(Role.USER, "alice")
ALL = range(1, SLOTS + 1)
LESS = Asker(Role.OPERATOR, "ann", frozenset({"sitea"}))
MORE = Asker(Role.OPERATOR, "ann", frozenset({"sitea", "siteb"}))
MOST = Asker(Role.OPERATOR, "ann", frozenset({"sitea", "siteb", "sitec"}))


def key(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    async with connected(nats_url) as connection:
        yield connection


@pytest.fixture
async def holdings(connection: Connection) -> Holdings:
    return await holdings_at(connection)


async def consumers(holdings: Holdings) -> dict[str, str | None]:
    """Each with what it is for."""
    found = await JetStreamManager(holdings.connection.client).consumers_info(DELIVERIES)
    return {info.name: info.config.filter_subject for info in found}


def of(number: int) -> str:
    return f"pbscast.deliver.v1.*.{key(number)}"


async def test_no_slot_is_given_to_two(holdings: Holdings) -> None:
    slots = holdings.slots
    asked = [slots.claim(ALICE.token, ALL, key(number)) for number in range(SLOTS)]
    claimed = await asyncio.gather(*asked, slots.claim("user-alice-2", ALL, key(99)))
    assert claimed.pop() == (1, True)  # the name of another
    assert {number for number, _ in filter(None, claimed)} == set(ALL)
    assert await slots.claim(ALICE.token, ALL, key(50)) is None
    assert await slots.of(ALICE.token) == {key(number) for number in range(SLOTS)}


async def test_who_asks_again_has_the_same(holdings: Holdings) -> None:
    slots = holdings.slots
    asked = [slots.claim(ALICE.token, ALL, key(1)) for _ in range(5)]
    claimed = await asyncio.gather(*asked)
    assert sorted(filter(None, claimed)) == [(1, False)] * 4 + [(1, True)]


async def test_a_slot_is_given_away_as_late_as_can_be(holdings: Holdings) -> None:
    slots = holdings.slots
    for number in (1, 2):
        assert await slots.claim(ALICE.token, range(1, 4), key(number)) == (number, True)
    for number in (2, 1):
        await slots.release(Slot(ALICE.token, number), key(number))
    claimed = [await slots.claim(ALICE.token, range(1, 4), key(number)) for number in (3, 4, 5)]
    assert claimed == [(3, True), (2, True), (1, True)]
    await slots.release(Slot(ALICE.token, 1), key(1))  # had it long ago
    assert await slots.holder(Slot(ALICE.token, 1)) == key(5)


async def test_whatever_is_left_in_a_slot_goes(holdings: Holdings) -> None:
    slot = ALICE.slot(1)
    await holdings.consumers.create(key(1), slot)
    await holdings.consumers.create(key(2), slot)
    assert await consumers(holdings) == {slot: of(2)}
    await holdings.consumers.drop(key(1), slot)
    assert await consumers(holdings) == {slot: of(2)}
    await holdings.consumers.resume(key(3), slot, shared=False)
    assert await consumers(holdings) == {slot: of(3)}
    assert await holdings.consumers.unhandled(key(3), slot) == 0


async def test_who_has_ended_does_not_disturb_who_has_the_slot_now(
    log: Log, holdings: Holdings
) -> None:
    definition = await Registering(holdings).register(wanting("1.sitea", id=key(1)), ALICE)
    # It ended between two looks of a worker that is just resuming it.
    await holdings.slots.release(Slot(ALICE.token, 1), key(1))
    assert await holdings.slots.claim(ALICE.token, range(1, 2), key(2)) == (1, True)
    await holdings.consumers.create(key(2), ALICE.slot(1))
    made = (await holdings.consumers._info(ALICE.slot(1)) or {})["created"]
    with pytest.raises(NotFoundError):
        await Desk(log, holdings).renew(RenewRequest(id=definition.id, resume=True), ALICE_ASKS)
    assert (await holdings.consumers._info(ALICE.slot(1)) or {})["created"] == made


async def test_removing_gives_the_slot_back(holdings: Holdings) -> None:
    registering = Registering(holdings)
    for number in (1, 2):
        request = wanting(f"{number}.sitea", id=key(number))
        definition = await registering.register(request, ALICE)
        assert definition.consumer == ALICE.slot(number)
    assert await holdings.traces() == {key(1), key(2)}
    await holdings.remove(key(1))
    assert await consumers(holdings) == {ALICE.slot(2): of(2)}
    assert await holdings.slots.taken() == {Slot(ALICE.token, 2): key(2)}
    assert await holdings.traces() == {key(2)}


async def test_nothing_is_left_of_what_was_refused(holdings: Holdings) -> None:
    registering = Registering(holdings)
    bob = Owner(role=Role.USER, name="bob")
    await registering.register(wanting("1.sitea", id=key(1)), bob)
    with pytest.raises(ConflictError, match="has ended: take another id"):
        await registering.register(wanting("1.sitea", id=key(1)), ALICE)
    assert await holdings.slots.of(ALICE.token) == set()
    await registering.register(wanting("1.sitea", id=key(2)), ALICE)
    with pytest.raises(ConflictError, match="there is another subscription"):
        await registering.register(wanting("2.sitea", id=key(2)), ALICE)
    assert await holdings.slots.of(ALICE.token) == {key(2)}


@pytest.mark.parametrize("how", [BEFORE, AFTER])
@pytest.mark.parametrize("left", range(12))
async def test_a_move_that_is_interrupted_holds_or_leaves_nothing(
    nats_url: str, left: int, how: str
) -> None:
    """His rights have changed: it goes on behind what he acknowledged, by another name."""
    connection = FrailConnection(nats_url)
    await connection.open()
    holdings = Holdings.of(connection, FanoutSettings())
    await holdings.ensure()
    await Registering(holdings).register(wanting("1.sitea", id=key(1)), Owner.of(LESS))
    pull = f"$JS.API.CONSUMER.MSG.NEXT.{DELIVERIES}."
    for body in (b"one", b"two"):
        await connection.client.publish(delivery_subject("sitea", key(1)), body)
    first = await connection.client.request(
        f"{pull}{LESS.slot(1)}", b"1", timeout=5, old_style=True
    )
    await connection.client.request(first.reply, b"+ACK", timeout=30)
    desk = Desk(cast("Log", None), holdings)
    connection.fail(left, how)
    try:
        await desk.renew(RenewRequest(id=key(1)), MORE)
    except UnavailableError:
        connection.fail(-1, "")
        await desk.renew(RenewRequest(id=key(1)), MORE)
    connection.fail(-1, "")
    janitor = Janitor(holdings, Membership(connection, "test"))
    for _ in range(2):
        await janitor.sweep()
    assert await consumers(holdings) == {MORE.slot(1): of(1)}
    assert await holdings.slots.taken() == {Slot(MORE.owner, 1): key(1)}
    second = await connection.client.request(
        f"{pull}{MORE.slot(1)}", b"1", timeout=5, old_style=True
    )
    assert second.data == b"two"
    # Once more, but that nobody asks again until it has ended.
    connection.fail(left, how)
    with suppress(UnavailableError):
        await desk.renew(RenewRequest(id=key(1)), MOST)
    connection.fail(-1, "")
    await holdings.remove(key(1))
    for _ in range(2):
        await janitor.sweep()
    assert (await consumers(holdings), await holdings.slots.taken()) == ({}, {})
    assert await holdings.traces() == set()
    await connection.close()


async def test_who_is_moved_late_does_not_disturb_who_has_the_slot_now(holdings: Holdings) -> None:
    desk = Desk(cast("Log", None), holdings)
    await Registering(holdings).register(wanting("1.sitea", id=key(1)), Owner.of(LESS))
    held = await holdings.registry.head(key(1))
    # It ended after it was looked up, and its slot is another's.
    await holdings.slots.release(Slot(LESS.owner, 1), key(1))
    assert await holdings.slots.claim(LESS.owner, range(1, 2), key(2)) == (1, True)
    await holdings.consumers.create(key(2), MORE.slot(1))
    made = (await holdings.consumers._info(MORE.slot(1)) or {})["created"]
    with pytest.raises(NotFoundError):
        await desk._hand_over(key(1), held, Owner.of(MORE))
    assert (await holdings.consumers._info(MORE.slot(1)) or {})["created"] == made


async def test_who_ends_while_it_is_moved_leaves_no_consumer(
    holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(cast("Log", None), holdings)
    await Registering(holdings).register(wanting("1.sitea", id=key(1)), Owner.of(LESS))
    move = holdings.consumers.move

    async def move_it_late(*names: str) -> None:
        await move(*names)
        await holdings.remove(key(1))

    monkeypatch.setattr(Consumers, "move", lambda _, *names: move_it_late(*names))
    with pytest.raises(NotFoundError):
        await desk.renew(RenewRequest(id=key(1)), MORE)
    assert await consumers(holdings) == {}


async def test_only_who_changes_rights_says_that_they_are_less(holdings: Holdings) -> None:
    """A server that has not heard of a change takes him for who he was before."""
    desk = Desk(cast("Log", None), holdings)
    await Registering(holdings).register(wanting("1.sitea", id=key(1)), Owner.of(LESS))
    await desk.settle([Owner.of(MORE)])
    for _ in range(2):
        with pytest.raises(UnavailableError, match="may not have heard of a change: try again"):
            await desk.renew(RenewRequest(id=key(1), resume=True), LESS)
    assert await consumers(holdings) == {MORE.slot(1): of(1)}
    await desk.renew(RenewRequest(id=key(1), resume=True), MORE)
    # He may see less, then more again; then less, and a server has not heard of that.
    for rights in (LESS, MORE, LESS):
        await desk.settle([Owner.of(rights)])
    with pytest.raises(AccessDeniedError, match="has ended: ann may no longer see all"):
        await desk.renew(RenewRequest(id=key(1)), MORE)
    assert await consumers(holdings) == {}
    assert not await holdings.registry.has(key(1))


async def test_who_asks_at_once_moves_it_once(holdings: Holdings) -> None:
    await Registering(holdings).register(wanting("1.sitea", id=key(1)), Owner.of(LESS))
    desk = Desk(cast("Log", None), holdings)
    asked = [desk.renew(RenewRequest(id=key(1)), MORE) for _ in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, bytes | UnavailableError) for answer in answers)
    answer = RenewResponse.model_validate_json(await desk.renew(RenewRequest(id=key(1)), MORE))
    assert answer.consumer == MORE.slot(1)
    assert await consumers(holdings) == {MORE.slot(1): of(1)}


async def test_who_knows_anothers_id_cannot_end_it(holdings: Holdings) -> None:
    """Not even where he asks for it and gives it up at once."""
    bob, alice = Asker(Role.USER, "bob"), Asker(Role.USER, "alice")
    desk = Desk(cast("Log", None), holdings)
    await desk.subscribe(wanting("1.sitea", id=key(1)), bob)
    await holdings.slots.claim(alice.owner, ALL, key(1))  # as who was faster than the check
    was = await consumers(holdings), await holdings.registry.leased()
    ended = await desk.unsubscribe(UnsubscribeRequest(id=key(1)), alice)
    assert not UnsubscribeResponse.model_validate_json(ended).was_there
    assert await holdings.slots.taken() == {Slot(bob.owner, 1): key(1)}
    for _ in range(20):
        given_up = (desk.unsubscribe(UnsubscribeRequest(id=key(1)), alice) for _ in range(6))
        taken = (desk.subscribe(wanting("1.sitea", id=key(1)), alice) for _ in range(2))
        answers = await asyncio.gather(*taken, *given_up, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ConflictError] * 2 + [bytes] * 6
    assert (await consumers(holdings), await holdings.registry.leased()) == was
    assert await holdings.registry.has(key(1))
    assert await holdings.slots.taken() == {Slot(bob.owner, 1): key(1)}


@pytest.mark.parametrize("left", range(12))
async def test_who_is_interrupted_asks_again_or_leaves_nothing(nats_url: str, left: int) -> None:
    connection = FrailConnection(nats_url)
    await connection.open()
    holdings = Holdings.of(connection, FanoutSettings())
    await holdings.ensure()
    registering = Registering(holdings)
    request = wanting("1.sitea", id=key(1))
    connection.fail(left, BEFORE)
    try:
        await registering.register(request, ALICE)
    except UnavailableError:
        await registering.register(request, ALICE)
    connection.fail(-1, "")
    assert await consumers(holdings) == {ALICE.slot(1): of(1)}
    assert await holdings.slots.taken() == {Slot(ALICE.token, 1): key(1)}
    # The same with ending it, but that who was interrupted does not ask again.
    connection.fail(left, BEFORE)
    try:
        await holdings.remove(key(1))
    except UnavailableError:
        await holdings.registry._leases.forget(key(1))
    connection.fail(-1, "")
    janitor = Janitor(holdings, Membership(connection, "test"))
    await janitor.sweep()  # which ends what has no lease
    await holdings.registry._definitions.forget("*")  # as time does with what tells that
    for _ in range(2):
        await janitor.sweep()
    assert await consumers(holdings) == {}
    assert await holdings.slots.taken() == {}
    assert await holdings.traces() == set()
    await connection.close()


async def test_the_janitor_takes_away_what_nobody_has(
    holdings: Holdings, connection: Connection
) -> None:
    await Registering(holdings).register(wanting("1.sitea", id=key(1)), ALICE)
    await holdings.slots.claim(ALICE.token, ALL, key(2))  # and nothing more
    await holdings.consumers.create(key(3), ALICE.slot(3))  # after its end
    await JetStreamManager(connection.client).add_consumer(
        DELIVERIES, durable_name="an-administrators-7"
    )
    janitor = Janitor(holdings, Membership(connection, "test"))
    await janitor.sweep()
    assert await holdings.slots.of(ALICE.token) == {key(1), key(2)}
    await janitor.sweep()
    assert await holdings.slots.taken() == {Slot(ALICE.token, 1): key(1)}
    assert set(await consumers(holdings)) == {ALICE.slot(1), "an-administrators-7"}


async def test_who_reads_on_after_the_end_is_told_nothing_of_the_next(
    holdings: Holdings, connection: Connection
) -> None:
    """Its pull ends with its consumer; the next one in the slot has messages of its own."""
    registering, client = Registering(holdings), connection.client
    await registering.register(wanting("1.sitea", id=key(1)), ALICE)
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{DELIVERIES}.{ALICE.slot(1)}"
    inbox = await client.subscribe("_INBOX.reader")
    await client.publish(subject, b'{"batch": 10, "expires": 20000000000}', reply="_INBOX.reader")
    await client.publish(delivery_subject("sitea", key(1)), b"old")
    assert (await inbox.next_msg(5)).data == b"old"
    await holdings.remove(key(1))
    ended = await inbox.next_msg(5)
    assert (ended.headers or {}).get("Status") == "409"
    await holdings.slots.claim(ALICE.token, range(1, 2), key(2))
    await holdings.consumers.create(key(2), ALICE.slot(1))
    await client.publish(delivery_subject("sitea", key(2)), b"new")
    answer = await client.request(subject, b"1", timeout=5, old_style=True)
    assert answer.data == b"new"
    assert inbox.pending_msgs == 0


async def test_who_ends_it_again_need_not_wait_for_the_janitor(holdings: Holdings) -> None:
    alice = Asker(Role.USER, "alice")
    await Registering(holdings).register(wanting("1.sitea", id=key(1)), ALICE)
    await holdings.registry.remove(key(1))  # and no further
    desk = Desk(cast("Log", None), holdings)
    answer = await desk.unsubscribe(UnsubscribeRequest(id=key(1)), alice)
    assert not UnsubscribeResponse.model_validate_json(answer).was_there
    assert await consumers(holdings) == {}
    assert await holdings.slots.taken() == {}
