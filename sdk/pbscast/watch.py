"""A watch: the events that are asked for, each once and in order, for as long as one listens."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from pbscast import wire
from pbscast.continuity import Continuity
from pbscast.criteria import Coverage, is_site_filter
from pbscast.errors import DecodeError, PbscastError
from pbscast.events import AnyEvent, EventName, Finalize, Position, Site
from pbscast.history import Recorded
from pbscast.lookup import find_position
from pbscast.mending import mend
from pbscast.notices import Boundary, Missed, Unreadable
from pbscast.openings import Begin, StreamResponse
from pbscast.reader import REWIND, Origin, Reader, Sign
from pbscast.reading import Reading, Received
from pbscast.starts import After, Beginning, Last, Now, Since, Start

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from pbscast.connection import Connection
    from pbscast.criteria import Criteria
    from pbscast.endings import Endings
    from pbscast.pulling import Delivered

Item = AnyEvent | Boundary | Missed | Unreadable


_ORIGINS: Final = {
    Now: Origin(Begin.NEW),
    Last: Origin(Begin.LAST_PER_SUBJECT),
    Beginning: Origin(Begin.ALL),
}


class Watch(Reading[Item]):
    """An asynchronous iterator over events and notices; made by ``Client.watch``.

    Every event that was published and matches is told once and, per object, in the order of its
    revisions, through lost connections, restarted servers and slow callers. What can no longer be
    had is told as Missed. At most one batch of messages waits in memory; who does not ask for the
    next item stops nobody else. Leaving ``async with`` gives everything back; without it that
    happens when the client closes.
    """

    def __init__(
        self, connection: Connection, criteria: Criteria, start: Start, endings: Endings | None
    ) -> None:
        self._connection = connection
        self._criteria = criteria
        self._start = start
        self._endings = endings
        also = frozenset({EventName.FINALIZE} if endings else ())
        self._filters = criteria.filters(also=also)
        named = start.positions if isinstance(start, After) else {}
        self._continuity = Continuity(
            self._filters.coverage,
            named,
        )
        self._held: dict[tuple[str, str, str], Recorded] = {}
        self._is_live = False
        self._reader: Reader | None = None
        self._found: list[tuple[str, int, StreamResponse]] = []
        """Of each site the position to go on behind, and where that is."""
        self._taken: Delivered | Sign | None = None
        """Received, and not understood yet."""
        self._ready: Iterator[Received[Item]] = iter(())
        self._closing: AsyncGenerator[None, None] | None = None

    async def open(self) -> Self:
        """Begin: what is published after this returns will be told.

        Raises UnavailableError, AccessDeniedError, NotFoundError if NATS has no such stream, or
        ConflictError if we have as many readers as we may.
        """
        if self._reader is None:
            origin = await self._origin()
            reader = Reader(self._connection, self._filters.subjects, origin)
            try:
                await reader.open()
            except BaseException:
                await reader.close()
                raise
            self._reader, self._closing = reader, _closing(reader)
            await anext(self._closing)
            self._note_coverage(reader)
            self._ready = iter([Received(missed, None) for missed in self._missing()])
        return self

    async def close(self) -> None:
        """End the iteration and give back what is held on the server."""
        self._ready, self._taken = iter(()), None
        if self._reader is not None:
            await self._reader.close()
        if self._closing is not None:
            with suppress(RuntimeError):  # another task is closing it
                await self._closing.aclose()

    async def receive(self) -> Received[Item]:
        """Return the next item with its message. Raises StopAsyncIteration at the end.

        Who waits may be cancelled, and wait again.
        """
        await self.open()
        assert self._reader is not None  # noqa: S101 - it has begun
        while (received := next(self._ready, None)) is None:
            await self._advance(self._reader)
        return received

    @property
    def positions(self) -> dict[str, int]:
        """The last position of each site that has been handed out or passed over.

        ``after(watch.positions)`` resumes behind the item that was returned last.
        """
        return self._continuity.positions

    @property
    def pending(self) -> list[str]:
        """With ``until_finished``, the ids that have not ended yet."""
        return [] if self._endings is None else self._endings.pending

    async def _origin(self) -> Origin:
        start = self._start
        if isinstance(start, Since):
            return Origin(Begin.BY_START_TIME, time=start.time - REWIND)
        if isinstance(start, After):
            return await self._resume(start)
        return _ORIGINS[type(start)]

    async def _resume(self, start: After) -> Origin:
        wanted = self._criteria.sites
        self._found = [
            (site, position, await find_position(self._connection, site, position))
            for site, position in start.positions.items()
            if wanted is None or site in wanted
        ]
        sequences = [found.sequence or 1 for _, _, found in self._found]
        return Origin(Begin.BY_START_SEQUENCE, sequence=min(sequences, default=1))

    def _missing(self) -> Iterator[Missed]:
        # Where whole sites are read, Continuity sees the same hole at the first event.
        if self._continuity.coverage is not Coverage.SITES:
            for site, after, found in self._found:
                if found.next is not None and found.next > after + 1:
                    yield Missed(site, after, found.next)

    def _note_coverage(self, reader: Reader) -> None:
        """Who may not see a site as a whole sees holes in its positions."""
        if not all(map(is_site_filter, reader.told_of)):
            self._continuity.narrow()

    async def _advance(self, reader: Reader) -> None:
        if self._is_over:
            await reader.close()
        if self._taken is None:
            self._taken = await self._take(reader)
        if self._taken is Sign.CLOSED:
            raise StopAsyncIteration
        self._ready = iter(await self._understand(self._taken))
        self._taken = None

    async def _take(self, reader: Reader) -> Delivered | Sign:
        try:
            return await reader.receive()
        except PbscastError:
            await reader.close()
            raise

    async def _understand(self, got: Delivered | Sign) -> Iterable[Received[Item]]:
        if not isinstance(got, Sign):
            if self._reader is not None:
                self._note_coverage(self._reader)
            return await self._digest(got)
        return self._go_live() if got is Sign.CAUGHT_UP else self._cut()

    @property
    def _is_over(self) -> bool:
        return self._is_live and self._endings is not None and self._endings.complete

    async def _digest(self, delivery: Delivered) -> list[Received[Item]]:
        body = delivery.data
        try:
            event = wire.decode(body)
        except DecodeError as error:
            self._pass_over(body)
            return [Received(Unreadable(body, error), body)]
        if isinstance(self._start, Last) and not self._is_live:
            self._hold(event, body)
            return []
        if self._continuity.is_repeat(event):
            return []
        if isinstance(self._start, Now) and not self._continuity.has_heard_of(event.site):
            await self._doubt(event)
        hole = self._continuity.hole_before(event)
        if hole is None:
            return self._tell(event, body)
        mended = await mend(self._connection, hole)
        found = [*mended, Recorded(event, body)]
        return [item for told in found for item in self._tell(told.event, told.body)]

    async def _doubt(self, event: AnyEvent) -> None:
        # Of a site that was heard of repeats are known by their position.
        if self._reader is not None:
            await self._reader.doubt(event.time)

    def _tell(self, event: AnyEvent, body: bytes) -> list[Received[Item]]:
        told: list[Received[Item]] = []
        if (hole := self._continuity.hole_before(event)) is not None:
            missed = Missed(hole.site, hole.after, hole.before, hole.kind, hole.id)
            told.append(Received(missed, None))
        self._continuity.record(event)
        if self._is_wanted(event):
            told.append(Received(event, body))
        return told

    def _is_wanted(self, event: AnyEvent) -> bool:
        if self._endings is not None and not self._endings.observe(event):
            return False
        if isinstance(self._start, Since) and not self._is_live and event.time < self._start.time:
            return False
        return self._criteria.matches(event) and not self._is_stale(event)

    def _is_stale(self, event: AnyEvent) -> bool:
        """Whether a lost stream that was filled again tells of what was before the watch."""
        if not isinstance(self._start, Now) or self._reader is None:
            return False
        limit = self._reader.stale_before
        return limit is not None and event.time < limit

    def _hold(self, event: AnyEvent, body: bytes) -> None:
        """Keep each object's newest event, but a life's finalize before what follows it."""
        self._continuity.record(event)
        key = (event.site, event.kind, event.id)
        held = self._held.get(key)
        if held is not None and (
            event.position <= held.event.position
            or (isinstance(held.event, Finalize) and held.event.incarnation == event.incarnation)
        ):
            return
        self._held.pop(key, None)
        self._held[key] = Recorded(event, body)

    def _go_live(self) -> Iterator[Received[Item]]:
        for held in self._held.values():
            if self._is_wanted(held.event):
                yield Received(held.event, held.body)
        self._held.clear()
        self._is_live = True
        if not isinstance(self._start, Now):
            yield Received(Boundary(self.positions), None)

    def _cut(self) -> Iterator[Received[Item]]:
        # Where whole sites are read, Continuity sees exactly what is missing.
        if self._continuity.coverage is Coverage.SITES:
            return
        for site, position in self.positions.items():
            yield Received(Missed(site, position, None), None)

    def _pass_over(self, body: bytes) -> None:
        """Take the unreadable message's place in the order into account, as far as it tells it."""
        with suppress(ValueError, KeyError, TypeError):
            header = json.loads(body)["data"]
            self._continuity.advance(Site(header["site"]), Position(int(header["position"])))


async def _closing(reader: Reader) -> AsyncGenerator[None, None]:
    """Hold a reader: closed with this, also when whoever has this is forgotten."""
    try:
        yield
    finally:
        await reader.close()
