"""The durable consumers from which subscribers pull."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbscast.deliveries import (
    ACK_WAIT,
    DELIVERIES,
    MOST_UNACKNOWLEDGED,
    delivery_filter,
)
from pbscast.errors import NotFoundError, UnavailableError
from pbscast_fanout import fences
from pbscast_fanout.jetstream import call
from pbscast_fanout.subscriptions.definitions import is_id

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection

_NANO: Final = 1_000_000_000
_NO_STREAM: Final = f"stream {DELIVERIES} is not there yet: try again"


class Consumers:
    """One for each subscription with delivery at least once, named like it.

    A client needs the right to pull from it and to acknowledge, and no other. Everything raises
    UnavailableError, also while the stream is not there.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, key: str) -> None:
        """Make a subscription's consumer; one that is there stays as it is."""
        if await self._info(key) is None:
            await self._make(key, 1)

    async def resume(self, key: str, *, shared: bool) -> None:
        """Deliver again, in order and at once, what has not been acknowledged.

        JetStream itself would send what is new first, the other when ACK_WAIT is over; and its own
        reset would go on serving who read before, who is cut off here. Of a shared one the readers
        that there are go on.
        """
        info = await self._info(key)
        if info is None:
            # Somebody was interrupted here: what was acknowledged comes again, but nothing is lost.
            await self._make(key, 1)
        elif not shared:
            await self._delete(key)
            await self._make(key, info["ack_floor"]["stream_seq"] + 1)

    async def unhandled(self, key: str) -> int:
        """Return how many messages nobody has acknowledged, those that are being handled too."""
        info = await self._info(key)
        return 0 if info is None else info["num_ack_pending"] + info["num_pending"]

    async def drop(self, key: str) -> None:
        """Delete the consumer.

        What is stored for the subscription goes by age, as what was acknowledged does: to take it
        away at once would stop the stream for all while its blocks are written anew.
        """
        await self._delete(key)

    async def has_messages(self, key: str) -> bool:
        """Whether anything is stored for the subscription, be it one that has ended."""
        last = await fences.read_last(self._connection, DELIVERIES, delivery_filter(key))
        return last is not None

    async def keys(self) -> set[str]:
        """Return the subscriptions that have a consumer."""
        return set(filter(is_id, await self._names()))

    async def _names(self) -> list[str]:
        names: list[str] = []
        while True:
            answer = await self._call(f"CONSUMER.NAMES.{DELIVERIES}", {"offset": len(names)})
            page = answer.get("consumers") or []
            names += page
            if not page or len(names) >= answer["total"]:
                return names

    async def _info(self, key: str) -> dict[str, Any] | None:
        try:
            return await call(self._connection, f"CONSUMER.INFO.{DELIVERIES}.{key}")
        except NotFoundError:
            return None

    async def _make(self, key: str, begin: int) -> None:
        subject = delivery_filter(key)
        config = {
            "durable_name": key,
            "filter_subject": subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": begin,
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT * _NANO),
            "max_ack_pending": MOST_UNACKNOWLEDGED,
            "max_deliver": -1,
        }
        request = {"stream_name": DELIVERIES, "config": config}
        await self._call(f"CONSUMER.CREATE.{DELIVERIES}.{key}.{subject}", request)

    async def _delete(self, key: str) -> None:
        try:
            await call(self._connection, f"CONSUMER.DELETE.{DELIVERIES}.{key}")
        except NotFoundError:
            return

    async def _call(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return await call(self._connection, verb, body)
        except NotFoundError as error:
            raise UnavailableError(_NO_STREAM) from error
