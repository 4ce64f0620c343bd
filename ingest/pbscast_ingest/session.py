"""One connection's worth of work on a site: greet the journal, follow it, tend it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pbscast_ingest import metrics
from pbscast_ingest.condition import Condition, moment
from pbscast_ingest.faults import DatastoreError, JournalSilentError
from pbscast_ingest.follower import Follower
from pbscast_ingest.reader import POLL_SECONDS, QUICK_POLL_SECONDS
from pbscast_ingest.resync import Resync
from pbscast_ingest.status import WorkerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast_ingest.chronicle import Chronicle
    from pbscast_ingest.cursor import Cursor
    from pbscast_ingest.reader import Health, Installation, Journal, Page
    from pbscast_ingest.retry import Retry
    from pbscast_ingest.status import Monitor
    from pbscast_ingest.watchdog import Watchdog
    from pbscast_store.log import Log

LOOK_SECONDS: Final = 2.0
"""Interval of looks at the triggers while changes are not being journaled."""

TEND_LOOKS: Final = 5
"""While they are, only every so many times; then a heartbeat is sent as well."""

TRIM_SECONDS: Final = 1.0
"""Pause between two rounds of trimming: a DELETE for each event would cost as much as a save."""

PENDING_SECONDS: Final = 0.1
RESYNC_SHARE: Final = 10
"""Losses that go on mean one resync after another: this much longer is the time between them."""

STRANGE: Final = (
    "the datastore went back in time, its journal was emptied, or the log is an older one"
)


class Session:
    """Keeps the log of a site up to date while one connection to its datastore lasts."""

    def __init__(
        self,
        log: Log,
        chronicle: Chronicle,
        journal: Journal,
        monitor: Monitor,
        watchdog: Watchdog,
    ) -> None:
        self._log = log
        self._chronicle = chronicle
        self._journal = journal
        self._monitor = monitor
        self._watchdog = watchdog
        self._condition = Condition(chronicle.site, watchdog)
        self._follower = Follower(log, chronicle, self._condition, watchdog)
        self._health: Health | None = None
        """The last look at the datastore."""
        self._ripe: Health | None = None
        """One that the page to be taken next was asked for after: markers seen then are in it."""
        self._doorbell = True
        self._after: tuple[object, int] | None = None
        self._next_resync = 0.0
        self._trimmed = 0
        self._complaint = ""
        self._trimmable = asyncio.Event()

    async def greet(self) -> None:
        """Make sure that this is the journal we know; a gap has been if it is not."""
        self._watchdog.begin()
        installation = await self._journal.identify()
        health = await self._journal.health(self._chronicle.cursor)
        cursor = self._chronicle.cursor
        if not cursor.journal:
            changes = {**_fresh(installation, health), "due": {"cause": "first contact"}}
            await self._chronicle.append([], replace(cursor, **changes))
        elif cursor.journal != installation.journal:
            await self._lose(installation, health, "the datastore or its capture is a new one")
        elif not await self._journal.is_witnessed(cursor):
            await self._lose(installation, health, STRANGE)
        await self._look(health, is_read=False)
        self._ripe = health

    async def _lose(self, found: Installation, health: Health, cause: str) -> None:
        """Begin anew with a journal that is not the one that was read."""
        self._watchdog.forget()
        chronicle = self._chronicle
        before = chronicle.cursor
        await chronicle.append(chronicle.pending.give_up())
        # The same installation may be a backup: its rows are old ones, told before.
        is_backup = found.journal.partition(":")[2] == before.journal.partition(":")[2]
        old = await self._find_old(before) if is_backup else 0
        cursor = replace(chronicle.cursor, **_fresh(found, health))
        begin = moment(before.seen)
        await chronicle.say(
            self._condition.gap(cursor, cause, begin, health.now, is_over=True, old=old)
        )

    async def _find_old(self, before: Cursor) -> int:
        """Return the highest seq that may have been told before; nobody can say which of them was.

        A journal of old holds its last row that was read then, so one that begins beyond all that
        we read holds nothing of the kind: it was emptied, or the log itself is the older one.
        """
        low, high = await self._journal.extent()
        return high if low <= before.top else 0

    async def _look(self, health: Health, *, is_read: bool) -> None:
        """Tell the log when capture has stopped working and when it works again.

        That it works again is told by a marker, if there is one: so not before all that the journal
        held at the time of the look is read.
        """
        self._doorbell = health.doorbell
        word = self._condition.look(self._chronicle.cursor, health, is_read=is_read)
        await self._chronicle.say(word)
        self._show(health)

    def _show(self, health: Health) -> None:
        blind, silence = self._chronicle.cursor.blind, self._watchdog.silence
        self._monitor.turn(
            self._state(),
            error=blind or silence or self._complaint or None,
            position=self._chronicle.position,
        )
        self._measure(health)

    def _measure(self, health: Health) -> None:
        self._monitor.measure(health.lag_rows, health.lag_seconds, health.bytes)

    def _state(self) -> WorkerState:
        if self._chronicle.cursor.blind:
            return WorkerState.BLIND
        return WorkerState.SILENT if self._watchdog.silence else WorkerState.FOLLOWING

    async def run(self, stopping: asyncio.Event, retry: Retry) -> None:
        """Follow the journal until stopping is set; retry forgets its failures once all is well.

        Raises DatastoreError or what the log raises.
        """
        helpers = [asyncio.create_task(self._tend()), asyncio.create_task(self._trim())]
        try:
            page = await self._journal.page(self._chronicle.cursor)
            while not stopping.is_set():
                page = await self._step(page, stopping)
                if self._chronicle.cursor.due is None:
                    retry.reset()
                # Between two appends, never in one: an append that is cut short is in doubt.
                for helper in helpers:
                    if helper.done():
                        helper.result()
        finally:
            await _end(helpers)

    async def _step(self, page: Page, stopping: asyncio.Event) -> Page:
        """Log a page and return the next; the two overlap while there is a backlog."""
        cursor = self._chronicle.cursor
        if page.more:
            ahead = cursor.advance((row.seq for row in page.rows), page.bound)
            health = self._pick_health()
            reading = asyncio.create_task(self._journal.page(ahead))
            try:
                await self._take(page)
                self._ripe = health
                return await reading
            finally:
                await _end([reading])
        await self._take(page)
        if await self._is_ready(page):
            await self._resync(stopping)
        else:
            await self._rest()
        self._ripe = self._pick_health()
        return await self._journal.page(self._chronicle.cursor)

    def _pick_health(self) -> Health | None:
        health, self._health = self._health, None
        return health

    async def _take(self, page: Page) -> None:
        await self._follower.take(page)
        if not page.more:
            await self._chronicle.flush()
        if self._chronicle.durable.top > self._trimmed:
            self._trimmable.set()
        if self._ripe is not None:
            health, self._ripe = self._ripe, None
            await self._look(health, is_read=not page.more)
        self._monitor.note(position=self._chronicle.position)
        if not page.more:
            self._monitor.catch_up()

    async def _is_ready(self, page: Page) -> bool:
        """Whether a resync is due and what it looks for has ended.

        The sign of a gap is seen before the saves that were lost have ended: all of them have ids
        below the bound drawn now.
        """
        due = self._chronicle.cursor.due
        if due is None or monotonic() < self._next_resync:
            return False
        if self._after is None or self._after[0] is not due:
            self._after = due, await self._journal.bound()
        return page.xmin >= self._after[1]

    async def _resync(self, stopping: asyncio.Event) -> None:
        state, begun = self._monitor.status.state, monotonic()
        self._monitor.turn(WorkerState.RESYNCING)
        await Resync(self._log, self._chronicle, self._follower, stopping).run(self._journal)
        self._next_resync = monotonic() + RESYNC_SHARE * (monotonic() - begun)
        await self._chronicle.say(self._condition.rise(self._chronicle.cursor, datetime.now(UTC)))
        self._monitor.turn(state, position=self._chronicle.position)

    async def _rest(self) -> None:
        seconds = POLL_SECONDS if self._doorbell else QUICK_POLL_SECONDS
        if self._chronicle.pending or self._chronicle.cursor.due:
            seconds = min(seconds, PENDING_SECONDS)
        await self._journal.wait(seconds)

    async def _tend(self) -> None:
        while True:
            await self._beat()
            for _ in range(TEND_LOOKS):
                await asyncio.sleep(LOOK_SECONDS)
                if self._chronicle.cursor.blind:
                    break
            self._health = await self._journal.health(self._chronicle.cursor)
            self._measure(self._health)

    async def _beat(self) -> None:
        """Send a heartbeat. Raises JournalSilentError once too many did not come through."""
        watchdog, journal = self._watchdog, self._journal
        try:
            watchdog.write(await journal.heartbeat())
        except DatastoreError as error:
            if not journal.is_connected:
                raise
            watchdog.fail(str(error).removeprefix(f"{journal.place}: "))
        if watchdog.is_due and not self._chronicle.cursor.blind:
            raise JournalSilentError(f"{journal.place}: {watchdog.silence}")

    async def _trim(self) -> None:
        while True:
            await self._trimmable.wait()
            self._trimmable.clear()
            durable = self._chronicle.durable
            self._trimmed = durable.top
            await self._trim_to(durable)
            await asyncio.sleep(TRIM_SECONDS)

    async def _trim_to(self, durable: Cursor) -> None:
        """Delete what was read. A journal that does not let us is read all the same, and told."""
        try:
            while gone := await self._journal.trim(durable):
                metrics.TRIMMED.labels(self._chronicle.site).inc(gone)
            self._complaint = ""
        except DatastoreError as error:
            if not self._journal.is_connected:
                raise
            self._complaint = str(error)
            self._monitor.complain(error)
            self._trimmable.set()


def _fresh(found: Installation, health: Health) -> dict[str, Any]:
    """Return the changes that make a cursor stand before a journal's first row."""
    blank = {
        "top": 0,
        "witness": "",
        "holes": (),
        "blind": "",
        "until": "",
        "shape": "",
        "shaped": "",
    }
    return {"journal": found.journal, "lost": health.lost, **blank}


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    # Nothing is suppressed here: it could be our own cancellation.
    await asyncio.gather(*tasks, return_exceptions=True)
