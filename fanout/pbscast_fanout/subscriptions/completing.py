"""Finds out when every job that a subscription names has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import PbscastError
from pbscast.subscriptions import Delivery
from pbscast_fanout.lasting import lasting
from pbscast_fanout.subscriptions.destinations import Destinations
from pbscast_fanout.subscriptions.endings import Endings
from pbscast_fanout.subscriptions.survey import Witness, is_followed, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pbscast.events import Finalize, Site
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.joined import JoinedSites
    from pbscast_fanout.subscriptions.registry import Registry
    from pbscast_fanout.subscriptions.survey import Survey
    from pbscast_store.log import Log

SWEEP_SECONDS: Final = 600.0
"""Within which each subscription is looked after, were everything else missed."""

ELSEWHERE_SECONDS: Final = 10.0
"""A job that went to a server that is no site's may still turn up at one under another name."""

_ABREAST: Final = 4
_SHARE: Final = 10
"""Looking at one subscription takes at most one of so many seconds."""
_LONGEST_REST: Final = 30.0
_RETRY_SECONDS: Final = 1.0
_LAST: Final = 50
"""Of so many of the last ids it is known at once whether they live."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Watch:
    """A subscription that was not complete when it was looked at."""

    witness: Witness | None
    rests_until: float


class Completing:
    """Watches the subscriptions of a worker that name jobs.

    Of each it remembers one job that lives at a site whose events it is told (``note``): while that
    one lives nothing is complete. When it ends the log is asked how all stand, at all sites; if
    none lives and all sites have delivered what led there, the subscription is ended and told so.
    Any number of workers may do so at once.
    """

    def __init__(
        self,
        log: Log,
        connection: Connection,
        registry: Registry,
        joined: JoinedSites,
        definitions: Mapping[str, Definition],
        mine: Callable[[str], bool],
    ) -> None:
        """`definitions` is a live view of what is registered, by id.

        `mine` says whether a site, or the sweeping after a subscription, is this worker's.
        """
        self._log = log
        self._definitions = definitions
        self._mine = mine
        self._destinations = Destinations(log)
        self._endings = Endings(connection, registry, joined, definitions, self.consider)
        self._queues: list[asyncio.Queue[str]] = [asyncio.Queue() for _ in range(_ABREAST)]
        self._queued: set[str] = set()
        self._looking: dict[str, set[Witness]] = {}
        self._watches: dict[str, _Watch] = {}
        self._witnesses: dict[Witness, set[str]] = {}

    def note(
        self,
        event: Finalize,
        subscriptions: Iterable[str],
        lives: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Say that a job's end has been stored for these subscriptions; cheap.

        Has to be told of each finalize of the sites that this worker delivers, were it for no
        subscription. Repeats do no harm. `lives` says of jobs of the event's site whose end is
        still to be told here that they live.
        """
        ended = Witness(event.site, event.id)
        for meanwhile in self._looking.values():
            meanwhile.add(ended)
        witnessed = self._witnesses.pop(ended, set())
        for key in witnessed:
            self._watches[key].witness = None
        for key in witnessed.union(subscriptions):
            if not (self._is_open(key) or self._stays_open(key, event.site, lives)):
                self.consider(key)

    def consider(self, subscription: str) -> None:
        """Say that it may be complete: it has joined a site, was modified or was read anew."""
        definition = self._definitions.get(subscription)
        if definition is not None and is_followed(definition) and subscription not in self._queued:
            watch = self._watches.get(subscription)
            self._queue(subscription, 0.0 if watch is None else watch.rests_until - monotonic())

    async def run(self) -> NoReturn:
        """Look, and look after what was missed, until cancelled; outages are waited out."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lasting(self._endings.run()))
            for queue in self._queues:
                tasks.create_task(lasting(self._look_on(queue)))
            while True:
                await self._sweep()

    def _is_open(self, key: str) -> bool:
        """Whether a job is known that lives where we are told of its end."""
        watch = self._watches.get(key)
        witness = None if watch is None else watch.witness
        return witness is not None and self._mine(witness.site)

    def _stays_open(self, key: str, site: Site, lives: Callable[[str], bool]) -> bool:
        """Whether another job of it lives at the site, one of the last ids: its witness now.

        So the log is asked once when all have ended, not at each end.
        """
        definition = self._definitions.get(key)
        if definition is None or not is_followed(definition) or not self._mine(site):
            return False
        last = definition.request.ids[-_LAST:]
        job = next((job for job in reversed(last) if lives(job)), None)
        if job is None:
            return False
        self._unwatch(key)
        self._bear(key, Witness(site, job), monotonic())
        return True

    def _queue(self, key: str, delay: float) -> None:
        self._queued.add(key)
        # The same one always to the same queue: nobody else looks at it meanwhile.
        queue = self._queues[hash(key) % len(self._queues)]
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, queue.put_nowait, key)
        else:
            queue.put_nowait(key)

    async def _look_on(self, queue: asyncio.Queue[str]) -> NoReturn:
        while True:
            key = await queue.get()
            self._queued.discard(key)
            definition = self._definitions.get(key)
            if definition is None or not is_followed(definition):
                self._unwatch(key)
            elif key not in self._endings:
                await self._try(definition)

    async def _try(self, definition: Definition) -> None:
        key = definition.id
        try:
            await self._look(definition)
        except PbscastError as error:
            _log.warning("completing", subscription=key, error=str(error))
            self._again(key, _RETRY_SECONDS)
        except Exception:  # noqa: BLE001 - our own bug must not stop the others
            _log.exception("completing_bug", subscription=key)

    async def _look(self, definition: Definition) -> None:
        key = definition.id
        if definition.ended:
            self._unwatch(key)
            if definition.request.delivery is Delivery.AT_LEAST_ONCE:
                await self._endings.complete(key)
            return
        meanwhile = self._looking[key] = set()
        begun = monotonic()
        try:
            found = await survey(self._log, self._destinations, definition, self._mine)
        finally:
            del self._looking[key]
        if found.open:
            self._watch(key, found, monotonic() - begun)
            if found.witness in meanwhile:
                self.consider(key)
        elif (wait := _wait(found)) > 0:
            self._again(key, wait)
        else:
            self._unwatch(key)
            self._endings.add(definition, found.positions)

    def _again(self, key: str, delay: float) -> None:
        if key not in self._queued:
            self._queue(key, delay)

    def _watch(self, key: str, found: Survey, took: float) -> None:
        self._unwatch(key)
        rest = min(took * _SHARE, _LONGEST_REST)
        self._bear(key, found.witness, monotonic() + rest)

    def _bear(self, key: str, witness: Witness | None, rests_until: float) -> None:
        self._watches[key] = _Watch(witness, rests_until)
        if witness is not None:
            self._witnesses.setdefault(witness, set()).add(key)

    def _unwatch(self, key: str) -> None:
        watch = self._watches.pop(key, None)
        if watch is not None and watch.witness is not None:
            witnessed = self._witnesses[watch.witness]
            witnessed.discard(key)
            if not witnessed:
                del self._witnesses[watch.witness]

    async def _sweep(self) -> None:
        """Look at each once, those first that are ended but may not have been told."""
        for key in [key for key in self._watches if key not in self._definitions]:
            self._unwatch(key)
        self._endings.tidy()
        followed = [key for key, one in self._definitions.items() if is_followed(one)]
        waiting: list[str] = []
        for key in filter(self._mine, followed):
            (self.consider if self._definitions[key].ended else waiting.append)(key)
        pause = SWEEP_SECONDS / (len(waiting) + 1)
        for key in waiting:
            self.consider(key)
            await asyncio.sleep(pause)
        await asyncio.sleep(pause)


def _wait(found: Survey) -> float:
    """Seconds until it is certain that nothing went on where it can be seen."""
    if found.left is None:
        return 0.0
    past = (datetime.now(UTC) - found.left).total_seconds()
    return min(ELSEWHERE_SECONDS, ELSEWHERE_SECONDS - past)


async def pending(log: Log, definition: Definition) -> int:
    """Return how many of the jobs that a subscription names have not ended, by the log now.

    A hundred thousand take a second. Raises as `survey`.
    """
    return (await survey(log, Destinations(log), definition)).open
