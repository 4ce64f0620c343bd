"""Ends subscriptions whose jobs have all ended, as soon as they have been told so far.

First the definition is noted as ended, unless it was modified meanwhile; then `complete` is stored,
on a subject that takes one message. Whoever finds an ended definition sees to the second step, so
it is done however the first one's worker went on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

import nats.errors
import structlog

from pbscast.deliveries import DELIVERIES, LIVE, CompleteMessage, complete_subject
from pbscast.errors import (
    ConflictError,
    FencedError,
    NotFoundError,
    PbscastError,
    UnavailableError,
)
from pbscast.subscriptions import Delivery
from pbscast_fanout import fences
from pbscast_fanout.jetstream import ask
from pbscast_fanout.subscriptions.stream import Place, read_place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.joined import JoinedSites
    from pbscast_fanout.subscriptions.registry import Registry

LIVE_SECONDS: Final = 0.5
"""What is not stored is on its way for so long after the mark that covers it."""

_SHORTEST_POLL: Final = 0.05
_LONGEST_POLL: Final = 2.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Ending:
    """All ids of a subscription have ended by these positions."""

    definition: Definition
    positions: Mapping[str, int]
    joined: set[str] = field(default_factory=set)
    """Sites that have told how everything stood to it as it is."""
    told_at: float | None = None
    """When all sites had told what led to these positions."""
    is_tried: bool = False
    """Whether it may have been noted as ended already, by us."""


class Endings:
    """What is to be ended; any number of workers may have the same."""

    def __init__(
        self,
        connection: Connection,
        registry: Registry,
        joined: JoinedSites,
        definitions: Mapping[str, Definition],
        changed: Callable[[str], None],
    ) -> None:
        """`changed` is called with the id of one that turned out to be modified meanwhile."""
        self._connection = connection
        self._registry = registry
        self._joined = joined
        self._definitions = definitions
        self._changed = changed
        self._endings: dict[str, Ending] = {}
        self._more = asyncio.Event()
        self._completed: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Whether it is to be ended as it is registered now."""
        ending = self._endings.get(key)
        return ending is not None and self._is_current(ending)

    def add(self, definition: Definition, positions: Mapping[str, int]) -> None:
        """End it once its sites have told it everything up to these positions."""
        self._endings[definition.id] = Ending(definition, positions)
        self._more.set()

    def tidy(self) -> None:
        """Forget those that are registered no more."""
        self._completed.intersection_update(self._definitions)

    async def run(self) -> NoReturn:
        """End them, until cancelled; outages are waited out."""
        rest = _SHORTEST_POLL
        while True:
            self._more.clear()
            try:
                await self._look()
            except PbscastError as error:
                _log.warning("completing", error=str(error))
            except Exception:  # noqa: BLE001 - our own bug must not stop the worker's other tasks
                _log.exception("completing_bug")
            rest = min(rest * 2, _LONGEST_POLL)
            try:
                async with asyncio.timeout(rest if self._endings else None):
                    await self._more.wait()
                rest = _SHORTEST_POLL
            except TimeoutError:
                pass

    async def _look(self) -> None:
        sites = {site for ending in self._endings.values() for site in ending.positions}
        places = {site: await read_place(self._connection, site) for site in sites}
        for key, ending in list(self._endings.items()):
            if not (ending.is_tried or self._is_current(ending)):
                self._drop(key, ending)
            elif ending.is_tried or await self._is_told(key, ending, places):
                await self._end(key, ending)

    def _is_current(self, ending: Ending) -> bool:
        definition = self._definitions.get(ending.definition.id)
        return definition is not None and definition.revision == ending.definition.revision

    async def _is_told(self, key: str, ending: Ending, places: Mapping[str, Place | None]) -> bool:
        for site, position in ending.positions.items():
            place = places.get(site)
            if place is None or not place.reaches(Place(position)):
                return False
            if site not in ending.joined:
                joined = await self._joined.get(site, key)
                if joined is None or joined.revision != ending.definition.revision:
                    return False
                ending.joined.add(site)
        ending.told_at = ending.told_at or monotonic()
        is_kept = ending.definition.request.delivery is Delivery.AT_LEAST_ONCE
        return is_kept or monotonic() - ending.told_at >= LIVE_SECONDS

    async def _end(self, key: str, ending: Ending) -> None:
        was_tried, ending.is_tried = ending.is_tried, True
        try:
            is_first = await self._registry.end(key, ending.definition.revision)
        except (NotFoundError, ConflictError):
            self._drop(key, ending)
            return
        if ending.definition.request.delivery is Delivery.AT_LEAST_ONCE:
            await self.complete(key)
        elif is_first or was_tried:
            await self._tell(ending.definition)
        _log.debug("subscription_complete", subscription=key)
        self._endings.pop(key, None)

    def _drop(self, key: str, ending: Ending) -> None:
        if self._endings.get(key) is ending:
            del self._endings[key]
            self._changed(key)

    async def complete(self, key: str) -> None:
        """Store that an ended one is complete, if it is not stored yet. Raises UnavailableError."""
        if key in self._completed:
            return
        subject = complete_subject(key)
        with suppress(FencedError):
            headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
            await ask(self._connection, subject, _body(key), headers)
            self._completed.add(key)
            return
        if await fences.read_last(self._connection, DELIVERIES, subject) is None:
            raise UnavailableError(f"another worker is just about to complete {key}")
        self._completed.add(key)

    async def _tell(self, definition: Definition) -> None:
        subject = complete_subject(definition.address, LIVE)
        try:
            await self._connection.client.publish(subject, _body(definition.id))
        except (nats.errors.Error, OSError) as error:
            msg = f"NATS does not take messages: {str(error) or type(error).__name__}"
            raise UnavailableError(msg) from error


def _body(key: str) -> bytes:
    return CompleteMessage(subscription=key).model_dump_json().encode()
