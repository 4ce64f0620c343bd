"""Reads the log ahead of the publisher, in bounded memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pbscast.errors import UnavailableError
from pbscast_fanout.batches import compose
from pbscast_fanout.fences import MAX_BYTES, MAX_MESSAGES

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_fanout.batches import Message
    from pbscast_fanout.connection import Connection
    from pbscast_store.log import Log
    from pbscast_store.records import Record


class Pages:
    """A site's messages after a position, page by page.

    While one page is published the next is read. ``aclose`` it. Its reads raise what the log
    raises, and UnavailableError where the log is suddenly another one: a backup that was restored,
    a standby that lacked what had been published.
    """

    def __init__(self, log: Log, connection: Connection, site: Site, after: int) -> None:
        self._log = log
        self._connection = connection
        self._site = site
        self._after = after
        self._last: Record | None = None
        self._reading: asyncio.Task[tuple[list[Message], bool]] | None = None

    async def next(self) -> list[Message]:
        """Return the next page; an empty one if the log has no more at the moment."""
        reading, self._reading = self._reading or self._start(), None
        page, more = await reading
        if page:
            self._check(page[0].record)
            self._last = page[-1].record
            self._after = self._last.position
        if more:
            self._reading = self._start()
        return page

    def _check(self, first: Record) -> None:
        """The rest of a page was read at one moment."""
        if self._last is not None and not first.follows(self._last.digest):
            raise UnavailableError(
                f"site {self._site}: position {first.position} of the log does not follow the one"
                " that was read before: the log is another one"
            )

    def _start(self) -> asyncio.Task[tuple[list[Message], bool]]:
        return asyncio.create_task(self._read())

    async def _read(self) -> tuple[list[Message], bool]:
        """Return a page, and whether more is likely to be there already."""
        records = await self._log.read(self._site, self._after, MAX_MESSAGES, max_bytes=MAX_BYTES)
        max_payload = self._connection.client.max_payload
        page = [compose(record, max_payload) for record in records]
        return page, len(page) == MAX_MESSAGES

    async def aclose(self) -> None:
        """Stop reading ahead."""
        if self._reading is not None:
            self._reading.cancel()
            # Nothing is suppressed here: it could be our own cancellation.
            await asyncio.gather(self._reading, return_exceptions=True)
