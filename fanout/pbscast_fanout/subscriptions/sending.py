"""Stores what is to be told, in the form in which it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import nats.errors
import structlog

from pbscast.deliveries import KEPT, LIVE, delivery_subject
from pbscast.errors import UnavailableError
from pbscast_fanout import metrics
from pbscast_fanout.subscriptions import standings
from pbscast_fanout.subscriptions.composing import encode, encode_standing
from pbscast_fanout.subscriptions.numbers import Numbers
from pbscast_fanout.subscriptions.writer import Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast.events import Site
    from pbscast.lives import Standing
    from pbscast_fanout.subscriptions.composing import Delivery
    from pbscast_fanout.subscriptions.means import Means
    from pbscast_fanout.subscriptions.outboxes import Turn
    from pbscast_fanout.subscriptions.recovery import Recovered
    from pbscast_fanout.subscriptions.site import SiteDeliveries
    from pbscast_fanout.subscriptions.stream import Place
    from pbscast_fanout.subscriptions.writer import DeliveryWriter

_SPELL: Final = 50
"""Messages that are encoded before others have their turn."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Batch:
    """Messages in the form in which they are stored."""

    place: Place | None
    """How far the site is told with them; None: no further than before."""
    kept: list[Outgoing] = field(default_factory=list)
    passing: list[tuple[str, bytes]] = field(default_factory=list)
    is_relied_on: bool = False
    """Whether the place has to be stored: what nobody keeps may not come again, and who has joined
    may not be told again."""


class Sender:
    """Of one site, for one go. Everything raises what NATS and the log raise."""

    def __init__(
        self, site: Site, means: Means, writer: DeliveryWriter, recovered: Recovered
    ) -> None:
        self.numbers = Numbers(writer, recovered.numbers)
        self._site = site
        self._means = means
        self._writer = writer
        self._core: SiteDeliveries = recovered.core
        self._had = set(recovered.had)
        self._notes = recovered.notes

    async def prepare(self, turn: Turn, place: Place | None = None) -> Batch:
        """Number and encode what is told next; what was prepared before may be under way."""
        await self._leave_out_lost(turn)
        arrived = await self._arrived(turn.deliveries)
        batch = Batch(place, is_relied_on=bool(turn.settled))
        for number, delivery in enumerate(turn.deliveries, 1):
            await self._add(batch, delivery, arrived)
            if place is None and delivery.place is not None:
                batch.place = delivery.place
            if number % _SPELL == 0:
                await asyncio.sleep(0)
        return batch

    async def store(self, batch: Batch) -> None:
        """Store what was prepared, one after the other, then its place if somebody relies on it."""
        writer = self._writer
        place = batch.place or writer.place
        assert place is not None  # noqa: S101 - marked by the first thing that is done
        if batch.kept or writer.place != place:
            await writer.write(batch.kept, place)
        if batch.is_relied_on and writer.marked != place:
            await writer.mark(place)
        if batch.passing:
            await self._pass_on(batch.passing)
        metrics.DELIVERED.labels(self._site).inc(len(batch.kept) + len(batch.passing))

    async def _add(
        self, batch: Batch, delivery: Delivery, arrived: Mapping[standings.Spot, Standing]
    ) -> None:
        body = await self._encode(delivery, arrived)
        if delivery.kept:
            subject = delivery_subject(self._site, delivery.key, KEPT)
            batch.kept.append(Outgoing(subject, body, delivery.place))
        else:
            # Of one that is just ending it does not matter; another's it cannot have become.
            definition = self._means.view.definitions.get(delivery.key)
            if definition is not None:
                subject = delivery_subject(self._site, definition.address, LIVE)
                batch.passing.append((subject, body))
            batch.is_relied_on |= delivery.place is not None

    async def _leave_out_lost(self, turn: Turn) -> None:
        """Who has lost its place on the stream is told everything anew instead."""
        keys = {delivery.key for delivery in turn.deliveries if delivery.kept}
        await self.numbers.ask(keys)
        lost = {key for key in keys if key in self._had and not self.numbers.has_had(key)}
        if not lost:
            return
        _log.warning("subscriptions_join_anew", site=self._site, count=len(lost))
        self._had -= lost
        await self._notes.disown(lost)
        for key in lost:
            self._core.rejoin(key)
        turn.deliveries = [item for item in turn.deliveries if item.key not in lost]
        turn.settled = [item for item in turn.settled if item[0] not in lost]

    async def _arrived(self, deliveries: list[Delivery]) -> Mapping[standings.Spot, Standing]:
        arrivals = {item.arrival for item in deliveries if item.arrival is not None}
        if not arrivals:
            return {}
        return await standings.arrived(self._means.log, self._site, arrivals)

    async def _encode(
        self, delivery: Delivery, arrived: Mapping[standings.Spot, Standing]
    ) -> bytes:
        number = self.numbers.next(delivery.key) if delivery.kept else None
        shown: bytes | None = None
        if (arrival := delivery.arrival) is not None:
            standing = arrived.get((arrival.kind, arrival.id, arrival.position))
            if standing is not None:
                room = self._core.limit - len(delivery.tail)
                shown = encode_standing(standing, arrival.interest, room)
        to = None if delivery.destination is None else await self._followed(delivery)
        return encode(self._site, delivery, number, shown, to)

    async def _followed(self, delivery: Delivery) -> Site | None:
        """The site to which the subscription follows a job that was moved."""
        site = await self._means.destinations.site_of(delivery.destination)
        definition = self._means.view.definitions.get(delivery.key)
        if site is None or definition is None or not definition.covers(site):
            return None
        return site

    async def _pass_on(self, messages: list[tuple[str, bytes]]) -> None:
        client = self._means.connection.client
        try:
            for subject, body in messages:
                await client.publish(subject, body)
        except (nats.errors.Error, OSError) as error:
            msg = f"NATS does not take messages: {str(error) or type(error).__name__}"
            raise UnavailableError(msg) from error
