"""Where to go on publishing a site: after the last mark, if it was made from this very log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog

from pbscast.errors import ConflictError
from pbscast.subjects import ROOT, encode_token
from pbscast.wire import Mark
from pbscast_fanout.jetstream import STREAM
from pbscast_fanout.streams import last_mark

if TYPE_CHECKING:
    from datetime import timedelta

    from pbscast.events import Site
    from pbscast_fanout.connection import Connection
    from pbscast_store.log import Log

_log = structlog.get_logger(__name__)


class DivergedError(ConflictError):
    """The stream holds what the log does not: publishing would give a position two meanings."""


@dataclass(frozen=True, slots=True)
class Place:
    """The site's last mark, and its sequence on the stream; 0 if it is yet to be written."""

    mark: Mark
    fence: int

    @property
    def position(self) -> int:
        """Everything up to here is on the stream, or too old for it."""
        return self.mark.position


async def find_place(
    log: Log, connection: Connection, site: Site, max_age: timedelta | None
) -> Place:
    """Return where the stream ends.

    A stream without a mark of the site is new, or was lost, purged or emptied by its limits: then
    everything that it would still hold is published (again), which readers recognise by the
    positions. Raises DivergedError, UnavailableError.
    """
    stored = await last_mark(connection, site)
    if stored is None:
        position = await _first_retained(log, site, max_age)
        _log.warning("no_mark_on_stream", site=site, publishing_from=position + 1)
        return Place(Mark(site=site, position=position, time=datetime.now(UTC)), 0)
    await _check_same(log, stored.mark)
    return Place(stored.mark, stored.sequence)


async def _first_retained(log: Log, site: Site, max_age: timedelta | None) -> int:
    """Return the position after which events are young enough for the stream.

    Times grow with positions, or nearly so.
    """
    if max_age is None:
        return 0
    oldest = datetime.now(UTC) - max_age
    low, high = 0, await log.position(site)
    while low < high:
        middle = (low + high) // 2
        page = await log.read(site, middle, 1)
        if page and page[0].time >= oldest:
            high = middle
        else:
            low = middle + 1
    return low


async def _check_same(log: Log, mark: Mark) -> None:
    position = await log.position(mark.site)
    if position < mark.position:
        raise DivergedError(_advice(mark, f"the log ends at {position}"))
    page = await log.read(mark.site, mark.position - 1, 1) if mark.position else []
    if page and mark.digest and sha256(page[0].encode()).hexdigest() != mark.digest:
        raise DivergedError(_advice(mark, "the log has another event there"))


def _advice(mark: Mark, what: str) -> str:
    return (
        f"site {mark.site}: position {mark.position} was published, but {what} (was it restored?);"
        " to publish what the log has now:"
        f" nats stream purge {STREAM} --subject '{ROOT}.{encode_token(mark.site)}.>'"
    )
