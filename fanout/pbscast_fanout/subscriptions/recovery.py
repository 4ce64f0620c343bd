"""What a deliverer begins with: all of it from what is stored, whoever delivered before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.errors import FencedError
from pbscast_fanout.fences import HEADROOM
from pbscast_fanout.subscriptions import standings
from pbscast_fanout.subscriptions.checkpoints import Checkpoint
from pbscast_fanout.subscriptions.joined import Joined
from pbscast_fanout.subscriptions.notes import Notes, are_late
from pbscast_fanout.subscriptions.site import SiteDeliveries
from pbscast_fanout.subscriptions.stream import Place

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.means import Means
    from pbscast_fanout.subscriptions.writer import DeliveryWriter
    from pbscast_store.log import Log

_PAGE: Final = 250
LARGEST: Final = 64 << 10
"""Bytes of a message: or one person's large values, told to all his subscriptions, would push what
the stream keeps for others out of it."""
_ENVELOPE: Final = 512
"""Bytes of a message around what it tells."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A site as it was when its last message was stored."""

    core: SiteDeliveries
    """Of which `begin` is still to be called."""
    claim: Place
    """How far the site was told."""
    place: Place
    """From where on it is told; between the two nobody is."""
    resumed: Mapping[str, Joined]
    """Subscriptions that go on; all others begin anew."""
    had: frozenset[str]
    """Subscriptions that have had messages before."""
    numbers: Mapping[str, int]
    """How many, as of some time ago."""
    notes: Notes


async def recover(site: Site, means: Means, writer: DeliveryWriter) -> Recovered:
    """Return what to go on with where the site's messages end.

    Raises what NATS and the log raise; FencedError if another worker delivers the site.
    """
    found = await writer.find()
    head = await means.log.position(site)
    joined = await means.joined.load(site)
    checkpoint = await means.checkpoints.load(site)
    notes = Notes(means.joined, site, joined)
    # What changes from here on is noted by the bell.
    definitions = _covering(means, site)
    matching = _matching(definitions, joined)
    resumed: Mapping[str, Joined] = {}
    if await _goes_on(site, means.log, found, head) and found is not None:
        if not _is_ahead(checkpoint, found):
            late = are_late(joined, checkpoint)
            resumed = {
                key: note
                for key, note in matching.items()
                if key not in late and note.position <= found.position
            }
        elif await writer.find() != found:
            raise FencedError(f"another worker delivers {site}")
    if lost := matching.keys() - resumed.keys():
        # The end of the stream was lost, or the log restored; or the note came late.
        _log.warning("subscriptions_join_anew", site=site, count=len(lost), position=head)
        await notes.disown(lost)
    if found is not None and resumed:
        place = found
    else:
        place = Place(head, digest=await _digest(site, means.log, head))
    core = await _with_all(site, means, definitions, resumed)
    core.position = _before(place)
    if len(core):
        await _rebuild(core, site, means.log, place, checkpoint if resumed else None)
    # Not beyond what was told, as long as the checkpoint does not say whose notes hold.
    claim = found if found is not None and place.reaches(found) else place
    numbers = {} if checkpoint is None else checkpoint.numbers
    return Recovered(core, claim, place, resumed, frozenset(joined), numbers, notes)


def _is_ahead(checkpoint: Checkpoint | None, found: Place) -> bool:
    """Whether the stream has lost its end: a checkpoint is stored only after a mark there."""
    return checkpoint is not None and checkpoint.position > found.position


async def _goes_on(site: Site, log: Log, found: Place | None, head: int) -> bool:
    """Whether what was told is what the log says, as far as both know."""
    if found is None or found.position > head:
        return False
    digest = None if found.digest is None else await _digest(site, log, found.position)
    return digest is None or digest == found.digest


async def _digest(site: Site, log: Log, position: int) -> str | None:
    page = await log.read(site, position - 1, 1) if position else []
    if not page or page[0].position != position or page[0].digest is None:
        return None
    return page[0].digest.hex()


def _covering(means: Means, site: Site) -> list[Definition]:
    return [item for item in means.view.definitions.values() if item.covers(site)]


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
    room = means.connection.client.max_payload - HEADROOM
    limit = min(room, LARGEST) - _ENVELOPE
    core = SiteDeliveries(site, limit, means.room)
    for number, definition in enumerate(definitions, 1):
        if number % _PAGE == 0:
            await asyncio.sleep(0)  # others have their turn
        if (joined := resumed.get(definition.id)) is not None:
            core.resume(definition, joined)
        else:
            core.define(definition)
    return core


def _before(place: Place) -> int:
    """Up to where everybody is told of all events."""
    return place.position if place.key is None else place.position - 1


async def _rebuild(
    core: SiteDeliveries, site: Site, log: Log, place: Place, checkpoint: Checkpoint | None
) -> None:
    """Let the core know of the objects what it has to, as of a place.

    The checkpoint is not beyond it.
    """
    position = _before(place)
    if checkpoint is not None:
        core.position = checkpoint.position
        core.restore(checkpoint.departures)
    needs = bool(core.attributes)
    async for page in standings.living(log, site, core.position, attributes=needs):
        core.load(page)
    if core.position == place.position and place.digest is not None:
        core.digest = bytes.fromhex(place.digest)
    while core.position < position:
        for record in await log.read(site, core.position, min(_PAGE, position - core.position)):
            core.replay(record)
        await asyncio.sleep(0)  # others have their turn
