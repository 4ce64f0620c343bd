"""What a deliverer begins with: all of it from what is stored, whoever delivered before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from pbscast_fanout.fences import HEADROOM
from pbscast_fanout.subscriptions import standings
from pbscast_fanout.subscriptions.checkpoints import Checkpoint
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.site import SiteDeliveries, covers
from pbscast_fanout.subscriptions.stream import Place

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.joined import JoinedSites
    from pbscast_fanout.subscriptions.means import Means
    from pbscast_store.log import Log

_PAGE: Final = 250
_ABREAST: Final = 50
_ENVELOPE: Final = 512
"""Bytes of a message around what it tells."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A site as it was when its last message was stored."""

    core: SiteDeliveries
    """Of which `begin` is still to be called."""
    place: Place
    """How far the site is told."""
    resumed: Mapping[str, Joined]
    """Subscriptions that go on; all others begin anew."""
    had: frozenset[str]
    """Subscriptions that have had messages before."""
    numbers: Mapping[str, int]
    """How many, as of some time ago."""


async def recover(site: Site, means: Means, found: Place | None) -> Recovered:
    """Return what to go on with; `found` is where the site's messages end.

    Raises what NATS and the log raise.
    """
    head = await means.log.position(site)
    joined = await means.joined.load(site)
    checkpoint = await means.checkpoints.load(site)
    # What changes from here on is noted by the bell.
    definitions = _covering(means, site)
    resumed = _matching(definitions, joined)
    is_lost = found is None or found.position > head
    place = Place(head) if found is None or is_lost or not resumed else found
    position = place.position if place.key is None else place.position - 1
    core = await _with_all(site, means, definitions, {} if is_lost else resumed)
    if is_lost and resumed:
        # The stream was lost, or the log restored.
        _log.warning("subscriptions_join_anew", site=site, count=len(resumed), position=head)
        await disown(means.joined, site, resumed)
        resumed = {}
    await _rebuild(core, site, means.log, position, checkpoint if resumed else None)
    numbers = {} if checkpoint is None else checkpoint.numbers
    return Recovered(core, place, resumed, frozenset(joined), numbers)


async def disown(joined: JoinedSites, site: Site, keys: Iterable[str]) -> None:
    """Note that these have to join anew, so that they do even if this is interrupted."""
    waiting = list(keys)
    for start in range(0, len(waiting), _ABREAST):
        some = waiting[start : start + _ABREAST]
        await asyncio.gather(
            *(joined.put(site, key, Joined(position=0, revision=0)) for key in some)
        )


def _covering(means: Means, site: Site) -> list[Definition]:
    return [item for item in means.view.definitions.values() if covers(item, site)]


def _matching(
    definitions: Iterable[Definition], joined: Mapping[str, Joined]
) -> Mapping[str, Joined]:
    """Of those that had joined as they are now."""
    return {
        item.id: joined[item.id]
        for item in definitions
        if item.id in joined and joined[item.id].revision == item.revision
    }


async def _with_all(
    site: Site, means: Means, definitions: Iterable[Definition], resumed: Mapping[str, Joined]
) -> SiteDeliveries:
    core = SiteDeliveries(site, means.connection.client.max_payload - HEADROOM - _ENVELOPE)
    for number, definition in enumerate(definitions, 1):
        if number % _PAGE == 0:
            await asyncio.sleep(0)  # others have their turn
        if (joined := resumed.get(definition.id)) is not None:
            core.resume(definition, joined)
        else:
            core.define(definition)
    return core


async def _rebuild(
    core: SiteDeliveries, site: Site, log: Log, position: int, checkpoint: Checkpoint | None
) -> None:
    """Let the core know of the objects what it has to, as of a position."""
    if checkpoint is not None and checkpoint.position <= position:
        core.position = checkpoint.position
        core.restore(checkpoint.departures)
    else:
        core.position = position
    needs = bool(core.attributes)
    async for page in standings.living(log, site, core.position, attributes=needs):
        core.load(page)
    while core.position < position:
        for record in await log.read(site, core.position, min(_PAGE, position - core.position)):
            core.replay(record)
