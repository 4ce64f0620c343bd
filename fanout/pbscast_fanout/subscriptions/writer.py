"""Writes one site's messages to subscriptions, each once and in order, whatever fails.

The way of the publisher (see fences), but that a batch may hold a part of what one event is for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from time import monotonic
from typing import TYPE_CHECKING, Final

from pbscast.deliveries import DELIVERIES, delivery_subject
from pbscast.errors import FencedError
from pbscast_fanout import fences
from pbscast_fanout.costs import Costs
from pbscast_fanout.subscriptions.stream import (
    PLACE_HEADER,
    DeliveryMark,
    Place,
    part_of,
    read_told,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.fences import Fence

MARK_SECONDS: Final = 1.0
"""How long after the last mark a place that no message says gets its own."""

RENEWAL_SECONDS: Final = 15.0
"""How often a silent site's mark is written again: the stream's limits then do not remove it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to a subscription."""

    subject: str
    body: bytes
    place: Place | None = None
    """How far the site is told once this is stored; None: no further than before."""

    @property
    def headers(self) -> dict[str, str]:
        """In a batch the mark says the place."""
        return {}


@dataclass(frozen=True, slots=True)
class _Single:
    subject: str
    body: bytes
    headers: dict[str, str]


class DeliveryWriter:
    """Writes for one site, as long as no other worker does.

    After any error what is stored is unknown: ``find`` tells it, and begins anew; until then
    nothing is written. One call at a time.
    """

    def __init__(self, connection: Connection, site: str, slots: asyncio.Semaphore) -> None:
        """Each atomic batch takes one of the ``slots``, which all writers of a worker share."""
        self._connection = connection
        self._site = site
        self._slots = slots
        self._part = part_of(site)
        self._costs = Costs()
        self._fence: Fence | None = None
        self._place: Place | None = None
        self._stored: Place | None = None
        self._marked_at = monotonic()

    @property
    def place(self) -> Place | None:
        """How far the site is told, as far as this writer knows; None: nothing was ever told."""
        return self._place

    @property
    def marked(self) -> Place | None:
        """The last place that is stored; ``place`` may be beyond it."""
        return self._stored

    @property
    def mark_due(self) -> float:
        """Seconds until ``mark`` should be called, were it to say the same as before."""
        interval = RENEWAL_SECONDS if self._stored == self._place else MARK_SECONDS
        return max(0.0, self._marked_at + interval - monotonic())

    async def find(self) -> Place | None:
        """Return how far the site is told, by its last message; None if it has none.

        Has to be called first and after any error, also by who only watches another worker.
        Raises UnavailableError, DecodeError.
        """
        self._fence = None
        self._place, self._fence = await read_told(self._connection, self._site)
        self._stored = self._place
        return self._place

    async def write(self, messages: Sequence[Outgoing], place: Place) -> None:
        """Store the messages in order, then ``place`` is reached.

        The places of messages may not go back, and not beyond ``place``. If something goes wrong
        some of the messages may be stored, from the first on without a hole, and ``find`` then
        returns the place of the last of them. Without messages nothing is stored, but the place is
        remembered for the next mark. Raises FencedError if another worker wrote since, or if
        nothing is known of how far the site is told (``mark`` it first); UnavailableError.
        """
        self._check_order(messages, place)
        if messages:
            await self._claim()
            if self._costs.favour_batch(len(messages)):
                await self._write_batches(messages, place)
            else:
                for message in messages:
                    await self._write_single(message)
        self._place = place

    async def mark(self, place: Place) -> None:
        """Store that ``place`` is reached. The first mark makes us the one who writes the site.

        Raises FencedError if another worker wrote since, UnavailableError.
        """
        fence = self._take()
        is_ours = fence.subject == self._part.mark
        body = self._mark(place, None if is_ours else fence.sequence)
        mine = await fences.send_mark(self._connection, self._part, body, fence)
        if not is_ours:
            await self._check_last(fence, mine)
        self._marked(place, mine)

    async def last_number(self, subscription: str) -> int:
        """Return the ``n`` of the last message of this site to a subscription; 0: none is kept.

        Raises UnavailableError.
        """
        # From the leader: a number from a replica that lags would be given twice.
        subject = delivery_subject(self._site, subscription)
        stored = await fences.read_last(self._connection, DELIVERIES, subject)
        return 0 if stored is None else int(json.loads(stored.body).get("n") or 0)

    def _check_order(self, messages: Sequence[Outgoing], place: Place) -> None:
        """Whoever goes on after us relies on it."""
        places = [message.place for message in messages if message.place]
        for before, after in pairwise([*([self._place] if self._place else []), *places, place]):
            if not after.reaches(before):
                msg = f"deliveries of {self._site} go back from {before} to {after}"
                raise ValueError(msg)

    async def _claim(self) -> None:
        if self._fence is not None and self._fence.subject != self._part.mark:
            if self._place is None:
                raise FencedError(f"nobody knows how far {self._site} is told")
            await self.mark(self._place)

    async def _check_last(self, before: Fence, mine: Fence) -> None:
        """Make sure that our first mark came right after what it names.

        With replicas, what another worker had under way may have come in just before; whoever reads
        the mark looks after it, so it is enough to begin anew.
        """
        after = before.sequence
        if await fences.read_between(self._connection, self._part, after, mine.sequence):
            raise FencedError(f"another worker has just delivered for {self._site}")

    async def _write_single(self, message: Outgoing) -> None:
        fence = self._take()
        place = message.place or self._place
        assert place is not None  # noqa: S101 - claimed with it
        single = _Single(message.subject, message.body, {PLACE_HEADER: place.as_header()})
        begun = monotonic()
        await fences.send_one(self._connection, single, fence)
        self._costs.note_event(monotonic() - begun)
        self._fence, self._place, self._stored = fence, place, place

    async def _write_batches(self, messages: Sequence[Outgoing], place: Place) -> None:
        batches = list(fences.split(messages))
        for batch in batches[:-1]:
            places = (message.place for message in reversed(batch) if message.place)
            await self._write_batch(batch, next(places, self._place) or place)
        await self._write_batch(batches[-1], place)

    async def _write_batch(self, batch: Sequence[Outgoing], place: Place) -> None:
        async with self._slots:
            fence = self._take()
            begun = monotonic()
            mark = self._mark(place)
            mine = await fences.send_batch(self._connection, self._part, batch, mark, fence)
        self._marked(place, mine)
        self._costs.note_batch(self._marked_at - begun, len(batch))

    def _take(self) -> Fence:
        """Return the fence; it is gone unless all goes well."""
        fence, self._fence = self._fence, None
        if fence is None:
            raise FencedError(f"nobody knows what is delivered for {self._site}")
        return fence

    def _mark(self, place: Place, seen: int | None = None) -> bytes:
        return DeliveryMark(
            site=self._site,
            position=place.position,
            key=place.key,
            digest=place.digest,
            time=datetime.now(UTC),
            seen=seen,
        ).encode()

    def _marked(self, place: Place, fence: Fence) -> None:
        self._fence, self._place, self._stored = fence, place, place
        self._marked_at = monotonic()
