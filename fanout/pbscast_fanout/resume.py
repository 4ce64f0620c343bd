"""Where to go on publishing a site: after its last message, if that came from this very log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from pbscast.errors import ConflictError, FencedError
from pbscast.events import Site
from pbscast.subjects import mark_subject
from pbscast.wire import Mark
from pbscast_fanout.batches import mark_of, send_mark
from pbscast_fanout.fences import Fence
from pbscast_fanout.jetstream import STREAM
from pbscast_fanout.streams import Tail, part_of, read_between, read_last_event, read_tail

if TYPE_CHECKING:
    from datetime import timedelta

    from pbscast_fanout.connection import Connection
    from pbscast_store.log import Log
    from pbscast_store.records import Record

_log = structlog.get_logger(__name__)


class DivergedError(ConflictError):
    """The stream holds what the log does not: publishing would give a position two meanings."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a site is on the stream."""

    mark: Mark
    """Says so, whether it is written yet or not."""
    fence: Fence
    """The site's last message, or once that was written by us the site's last mark."""
    marked: bool
    """Whether the site's last message is the mark."""

    @property
    def claimed(self) -> bool:
        """Whether the last mark is ours: nobody else can write until he has written one."""
        return self.fence.subject == mark_subject(self.mark.site)

    @property
    def position(self) -> int:
        """Everything up to here is on the stream, or too old for it."""
        return self.mark.position


async def find_place(
    log: Log, connection: Connection, site: Site, max_age: timedelta | None
) -> Place:
    """Return where the site's part of the stream ends.

    A stream without the site is new, or was lost, purged or emptied by its limits: then everything
    that it would still hold is published (again), which readers recognise by the positions. Raises
    DivergedError, UnavailableError.
    """
    tail = await read_tail(connection, site)
    if tail is None:
        position = await _first_retained(log, site, max_age)
        _log.warning("site_not_on_stream", site=site, publishing_from=position + 1)
        mark = Mark(site=site, position=position, time=datetime.now(UTC))
        return Place(mark, Fence(part_of(site).all, 0), marked=False)
    fence = Fence(part_of(site).all, tail.sequence)
    record = await _check_same(log, site, tail)
    if not isinstance(tail.content, Mark):
        return Place(_mark_after(site, tail, record), fence, marked=False)
    # It says too little if what another worker had under way came in just before it (check_last),
    # and its own worker died before it had looked.
    last = await read_last_event(connection, site)
    if last is not None and last.position > tail.position:
        record = await _check_same(log, site, last)
        return Place(_mark_after(site, last, record), fence, marked=False)
    return Place(tail.content, fence, marked=True)


async def renew(log: Log, connection: Connection, place: Place) -> Place:
    """Write the mark; the first one makes us the one who publishes the site.

    Raises FencedError if another worker published since, UnavailableError.
    """
    mark = place.mark.model_copy(update={"time": datetime.now(UTC)})
    fence = await send_mark(connection, mark, place.fence)
    if not place.claimed:
        await check_last(log, connection, place, fence)
    return Place(mark, fence, marked=True)


async def check_last(log: Log, connection: Connection, place: Place, fence: Fence) -> None:
    """Make sure that our first mark, at ``fence``, says all that came before it.

    With replicas, what another worker had under way may have come in just before. Then one more
    mark says so; raises FencedError, to begin anew.
    """
    site = Site(place.mark.site)
    slipped = await read_between(connection, site, place.fence.sequence, fence.sequence)
    if slipped is not None:
        mark = _mark_after(site, slipped, await _check_same(log, site, slipped))
        await send_mark(connection, mark, fence)
        raise FencedError(f"another worker has published {site} up to {slipped.position}")


def _mark_after(site: Site, tail: Tail, record: Record | None) -> Mark:
    if record:
        return mark_of(record)
    return Mark(site=site, position=tail.position, time=datetime.now(UTC))


async def _first_retained(log: Log, site: Site, max_age: timedelta | None) -> int:
    """Return the position after which events are young enough for the stream."""
    if max_age is None:
        return 0
    return await log.position_before(site, datetime.now(UTC) - max_age)


async def _check_same(log: Log, site: Site, tail: Tail) -> Record | None:
    """Return the log's event at the end of the stream, if there is one and the log still has it."""
    position = await log.position(site)
    if position < tail.position:
        raise DivergedError(_advice(site, tail, f"the log ends at {position}"))
    page = await log.read(site, tail.position - 1, 1) if tail.position else []
    record = page[0] if page and page[0].position == tail.position else None
    if record and not tail.agrees(record):
        raise DivergedError(_advice(site, tail, "the log has another event there"))
    return record


def _advice(site: Site, tail: Tail, what: str) -> str:
    return (
        f"site {site}: position {tail.position} was published, but {what} (was it restored?);"
        " to publish what the log has now:"
        f" nats stream purge {STREAM} --subject '{part_of(site).all}'"
    )
