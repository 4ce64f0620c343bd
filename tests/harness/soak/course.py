"""Runs the schedule, waits until all is quiet, and has the result judged."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from harness.pbs import PbsServer
from harness.soak.faults import fault, has_standby, part_of
from harness.soak.journals import JournalSize
from harness.soak.ledger import LONG_AGO
from harness.soak.rows import attributes_of
from harness.soak.scene import SITES, Scene
from harness.soak.schedule import Trouble, Turn
from harness.soak.verdict import (
    Findings,
    LogBook,
    check_delivery,
    check_durable,
    check_gaps,
    check_lives,
    check_rows,
)

from pbscast.events import Event
from pbscast_deploy.demo.picture import Picture
from pbscast_store.log import Log

_PAGE: Final = 1000


@dataclass
class Survived:
    """What was done, and how it went."""

    turns: Counter[Trouble] = field(default_factory=Counter)
    recovery: dict[Trouble, float] = field(default_factory=dict)
    """Longest time until the subscriber had what every site committed from then on, in seconds:
    since the fault began where a standby takes over, else since it was mended. Of faults that came
    alone."""
    together: float = 0.0
    """The same of faults that overlapped, since the last of them was mended."""
    committed: int = 0
    logged: int = 0
    received: int = 0
    lives: int = 0
    ended: int = 0
    gaps: int = 0
    resyncs: int = 0
    pauses: int = 0
    excused: int = 0
    """Changes that were committed while capture was off."""
    exits: Counter[str] = field(default_factory=Counter)
    journals: Mapping[str, JournalSize] = field(default_factory=dict)
    found: Findings = field(default_factory=Findings)


class Course:
    """One run."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._busy: dict[str, asyncio.Task[None]] = {}
        self.survived = Survived()

    async def run(self, turns: Iterable[Turn], until: float) -> None:
        """Take the turns in order, none after `until` (of the monotonic clock)."""
        for turn in turns:
            if monotonic() > until:
                break
            async with self._explained(turn):
                await self._take(turn)
        async with self._explained(turn):
            await self._calm_down()

    @asynccontextmanager
    async def _explained(self, what: object) -> AsyncIterator[None]:
        """Whoever does not recover, or ends by itself, is told of."""
        try:
            yield
        except TimeoutError as error:
            said = await self._scene.describe()
            raise AssertionError(f"no recovery from {what}:\n{said}") from error
        if dead := self._scene.dead():
            raise AssertionError(f"after {what} a daemon has ended by itself: {dead}")

    async def _take(self, turn: Turn) -> None:
        if turn.calm:
            await self._calm_down()
        part = part_of(turn)
        if part in self._busy:
            await self._busy[part]
        self._busy[part] = asyncio.create_task(self._trouble(turn))
        self.survived.turns[turn.trouble] += 1
        if turn.calm:
            await self._busy[part]
        else:
            await self._scene.pass_changes(turn.lull)

    async def _trouble(self, turn: Turn) -> None:
        begun, measured = monotonic(), turn.calm
        async with fault(self._scene, turn):
            if measured and has_standby(turn):
                await self._recover(turn, begun)
                measured = False
            await self._scene.pass_changes(turn.hold)
        if measured:
            await self._recover(turn, monotonic())

    async def _recover(self, turn: Turn, begun: float) -> None:
        await self._scene.wait_until_current()
        longest = self.survived.recovery.get(turn.trouble, 0.0)
        self.survived.recovery[turn.trouble] = max(longest, monotonic() - begun)

    async def _calm_down(self) -> None:
        """Wait until the faults that last are mended and overcome."""
        for task in self._busy.values():
            await task
        begun = monotonic()
        await self._scene.wait_until_current()
        self.survived.together = max(self.survived.together, monotonic() - begun)

    async def settle(self) -> None:
        """Stop the load and wait until the subscriber has the last word of every site.

        That is a job of its own, submitted after everything else: the journal is read in order.
        """
        scene = self._scene
        for load in scene.loads.values():
            load.stop()
        await scene.wait_until_idle()
        # Later than a subjob's DELETE waits for its INSERT.
        await asyncio.sleep(0.3)
        for site in scene.stage.sites.values():
            with PbsServer(site.dsn) as pbs:
                pbs.submit(f"0.{site.name}")
        async with self._explained("all that happened"):
            await scene.tail.wait_for(lambda: all(map(self._is_told, SITES)))

    def _is_told(self, site: str) -> bool:
        """What left no mark is found by the next look, within ten seconds."""
        tail, pauses = self._scene.tail, self._scene.loads[site].ledger.pauses
        is_covered = not pauses or tail.covered.get(site, LONG_AGO) >= pauses[-1].end
        return f"0.{site}" in tail.last_words and tail.settled[site] and is_covered

    async def judge(self) -> None:
        """Compare what was committed, logged and received."""
        scene, survived = self._scene, self.survived
        survived.exits, survived.journals = scene.subscriber.exits, scene.journals
        async with AsyncExitStack() as stack:
            log = await stack.enter_async_context(Log.open(scene.stage.log_dsn))
            ends = {site: await log.position(site) for site in SITES}
            await scene.tail.wait_for(
                lambda: all(scene.tail.positions[site] >= end for site, end in ends.items())
            )
            received = await asyncio.to_thread(scene.tail.copies)
            for site in SITES:
                book, picture = LogBook(site), Picture()
                async for event, body in _events(log, site):
                    book.read(event, body)
                    picture.observe(event)
                book.close()
                self._judge_site(book, picture)
                check_delivery(survived.found, site, book.copies, received.get(site, []))
                survived.received += len(received.get(site, []))

    def _judge_site(self, book: LogBook, picture: Picture) -> None:
        site, survived = book.site, self.survived
        ledger = self._scene.loads[site].ledger
        commits, found = list(ledger.commits()), survived.found
        book.heard.pop(f"0.{site}")
        found.extend(book.found)
        survived.lives += check_lives(found, site, commits, book.heard, ledger.pauses)
        check_gaps(found, site, book.gaps, ledger.pauses)
        rows = attributes_of(self._scene.stage.sites[site].dsn, site)
        told = {(n.kind, n.id): v for n, v in picture.attributes.items() if n.site == site}
        check_rows(found, site, rows, told)
        rows.pop(("job", f"0.{site}"))
        check_durable(found, site, commits, rows)
        survived.committed += len(commits)
        survived.logged += len(book.copies)
        survived.ended += book.ended
        survived.gaps += len(book.gaps)
        survived.resyncs += book.resyncs
        survived.pauses += len(ledger.pauses)
        survived.excused += sum(pause.last - pause.first + 1 for pause in ledger.pauses)


async def _events(log: Log, site: str) -> AsyncIterator[tuple[Event, bytes]]:
    position = 0
    while page := await log.read(site, position, _PAGE):
        for record in page:
            body = record.encode()
            yield record.decode(), body
        position = page[-1].position
