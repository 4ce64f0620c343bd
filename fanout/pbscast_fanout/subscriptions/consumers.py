"""The durable consumers from which subscribers pull."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbscast.deliveries import (
    ACK_WAIT,
    DELIVERIES,
    MOST_UNACKNOWLEDGED,
    delivery_filter,
)
from pbscast.errors import ConflictError, NotFoundError, UnavailableError
from pbscast_fanout import fences
from pbscast_fanout.askers import named_in
from pbscast_fanout.jetstream import call, consumers_on
from pbscast_fanout.subscriptions.definitions import is_id
from pbscast_fanout.subscriptions.slots import Slot

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection

_NANO: Final = 1_000_000_000
_NO_STREAM: Final = f"stream {DELIVERIES} is not there yet: try again"


class Consumers:
    """One for each subscription with delivery at least once.

    It is named like the subscription unless a name is given: that of one of its owner's slots. A
    client needs the right to pull from it and to acknowledge, and no other. Everything raises
    UnavailableError, also while the stream is not there.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, key: str, name: str | None = None) -> None:
        """Make a subscription's consumer; one that is there stays as it is."""
        if await self._find(key, name) is None:
            await self._make(key, name, 1)

    async def resume(self, key: str, name: str | None = None, *, shared: bool) -> None:
        """Deliver again, in order and at once, what has not been acknowledged.

        JetStream itself would send what is new first, the other when ACK_WAIT is over; and its own
        reset would go on serving who read before, who is cut off here. Of a shared one the readers
        that there are go on.
        """
        info = await self._find(key, name)
        if info is None:
            # Somebody was interrupted here: what was acknowledged comes again, but nothing is lost.
            await self._make(key, name, 1)
        elif not shared:
            await self._delete(name or key)
            await self._make(key, name, _behind(info))

    async def move(self, key: str, before: str, after: str) -> None:
        """Make one of another name that delivers what was not acknowledged; the other stays."""
        info = await self._find(key, before)
        # In this order: who has moved it in the meantime has taken the one before away.
        if await self._find(key, after) is None:
            await self._make(key, after, 1 if info is None else _behind(info))

    async def unhandled(self, key: str, name: str | None = None) -> int:
        """Return how many messages nobody has acknowledged, those that are being handled too."""
        info = await self._find(key, name)
        return 0 if info is None else info["num_ack_pending"] + info["num_pending"]

    async def drop(self, key: str, name: str | None = None) -> None:
        """Delete the consumer; one of that name that is another subscription's stays.

        What is stored for the subscription goes by age, as what was acknowledged does: to take it
        away at once would stop the stream for all while its blocks are written anew.
        """
        if name is None or _is_of(key, await self._info(name)):
            await self._delete(name or key)

    async def drop_named(self, name: str) -> None:
        """Delete a consumer, whosever it is."""
        await self._delete(name)

    async def has_messages(self, key: str) -> bool:
        """Whether anything is stored for the subscription, be it one that has ended."""
        last = await fences.read_last(self._connection, DELIVERIES, delivery_filter(key))
        return last is not None

    async def keys(self) -> set[str]:
        """Return the subscriptions that have a consumer of their name."""
        return set(filter(is_id, await self._names()))

    async def in_slots(self) -> dict[str, Slot]:
        """Return the names of those that are in somebody's slot, and which."""
        found = {name: named_in(name) for name in await self._names()}
        return {name: Slot(one.owner, one.number) for name, one in found.items() if one}

    async def _names(self) -> list[str]:
        try:
            return await consumers_on(self._connection, DELIVERIES)
        except NotFoundError as error:
            raise UnavailableError(_NO_STREAM) from error

    async def _find(self, key: str, name: str | None) -> dict[str, Any] | None:
        """Return a subscription's consumer; what is in its place goes.

        It was left there by who was interrupted: the slot has been given to another since.
        """
        info = await self._info(name or key)
        if info is None or _is_of(key, info):
            return info
        await self._delete(name or key)
        return None

    async def _info(self, name: str) -> dict[str, Any] | None:
        try:
            return await call(self._connection, f"CONSUMER.INFO.{DELIVERIES}.{name}")
        except NotFoundError:
            return None

    async def _make(self, key: str, name: str | None, begin: int) -> None:
        subject = delivery_filter(key)
        config = {
            "durable_name": name or key,
            "filter_subject": subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": begin,
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT * _NANO),
            "max_ack_pending": MOST_UNACKNOWLEDGED,
            "max_deliver": -1,
        }
        # Not to change one that another makes in this moment.
        request = {"stream_name": DELIVERIES, "config": config, "action": "create"}
        try:
            await self._call(f"CONSUMER.CREATE.{DELIVERIES}.{name or key}.{subject}", request)
        except ConflictError as error:
            msg = f"the consumer of subscription {key!r} is just being made: try again"
            raise UnavailableError(msg) from error

    async def _delete(self, name: str) -> None:
        try:
            await call(self._connection, f"CONSUMER.DELETE.{DELIVERIES}.{name}")
        except NotFoundError:
            return

    async def _call(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return await call(self._connection, verb, body)
        except NotFoundError as error:
            raise UnavailableError(_NO_STREAM) from error


def _behind(info: dict[str, Any]) -> int:
    """Return the sequence of what comes behind all that was acknowledged."""
    return int(info["ack_floor"]["stream_seq"]) + 1


def _is_of(key: str, info: dict[str, Any] | None) -> bool:
    return info is not None and info["config"].get("filter_subject") == delivery_filter(key)
