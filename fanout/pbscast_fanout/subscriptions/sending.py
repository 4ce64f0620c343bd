"""Stores what is to be told, in the form in which it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nats.errors
import structlog

from pbscast.deliveries import KEPT, LIVE, delivery_subject
from pbscast.errors import UnavailableError
from pbscast_fanout import metrics
from pbscast_fanout.subscriptions import standings
from pbscast_fanout.subscriptions.composing import encode, encode_standing
from pbscast_fanout.subscriptions.numbers import Numbers
from pbscast_fanout.subscriptions.recovery import disown
from pbscast_fanout.subscriptions.site import covers
from pbscast_fanout.subscriptions.stream import Place
from pbscast_fanout.subscriptions.writer import Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast.events import Site
    from pbscast.lives import Standing
    from pbscast_fanout.subscriptions.composing import Delivery
    from pbscast_fanout.subscriptions.means import Means
    from pbscast_fanout.subscriptions.recovery import Recovered
    from pbscast_fanout.subscriptions.site import SiteDeliveries, Turn
    from pbscast_fanout.subscriptions.writer import DeliveryWriter

_log = structlog.get_logger(__name__)


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

    async def send(self, turn: Turn, place: Place) -> None:
        """Store it, and then that the site is told up to the place if somebody relies on it."""
        deliveries = await self._without_lost(turn.deliveries)
        arrived = await self._arrived(deliveries)
        kept: list[Outgoing] = []
        passing: list[tuple[str, bytes]] = []
        for delivery in deliveries:
            body = await self._encode(delivery, arrived)
            root = KEPT if delivery.kept else LIVE
            subject = delivery_subject(self._site, delivery.key, root)
            if delivery.kept:
                kept.append(Outgoing(subject, body, delivery.place))
            else:
                passing.append((subject, body))
        if kept or self._writer.place != place:
            await self._writer.write(kept, place)
        # What nobody keeps may not come again; and who has joined may not be told again.
        relied = turn.settled or any(not item.kept and item.place for item in deliveries)
        if relied and self._writer.marked != place:
            await self._writer.mark(place)
        if passing:
            await self._pass_on(passing)
        metrics.DELIVERED.labels(self._site).inc(len(deliveries))

    async def _without_lost(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Who has lost its place on the stream is told everything anew instead."""
        keys = {delivery.key for delivery in deliveries if delivery.kept}
        await self.numbers.ask(keys)
        lost = {key for key in keys if key in self._had and not self.numbers.has_had(key)}
        if not lost:
            return deliveries
        _log.warning("subscriptions_join_anew", site=self._site, count=len(lost))
        self._had -= lost
        await disown(self._means.joined, self._site, lost)
        for key in lost:
            self._core.rejoin(key)
        return [delivery for delivery in deliveries if delivery.key not in lost]

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
        if site is None or definition is None or not covers(definition, site):
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
