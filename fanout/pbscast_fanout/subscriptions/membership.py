"""Which workers live, and so which of them does what."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing, suppress
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import PbscastError
from pbscast_fanout.lasting import lasting
from pbscast_fanout.subscriptions.buckets import Bucket, Entry, Gone
from pbscast_fanout.subscriptions.following import Anew

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast_fanout.connection import Connection

WORKERS: Final = "PBS_WORKERS"

LIFE_SECONDS: Final = 5
"""After which a worker that shows no sign of life counts as dead."""
SIGN_SECONDS: Final = 1.5
_LEAVE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Membership:
    """A worker's view of all workers: each thing is one worker's, the same for all that see alike.

    Only who should do a thing is said here. Views differ for a while (LIFE_SECONDS after a crash),
    so what must not be done by two needs a fence besides.
    """

    def __init__(self, connection: Connection, name: str, *, replicas: int = 1) -> None:
        # In memory: signs of life need to survive nothing, and a disk to take none of them.
        self._bucket = Bucket(connection, WORKERS, replicas=replicas, in_memory=True)
        self._key = secrets.token_hex(8)
        self._name = f"{name} {self._key}"
        self._seen: dict[str, str] = {}
        self._before: dict[str, str] = {}
        """Those that were seen before the last cut, and have not been seen again."""
        self._seen_anew = 0.0
        self._workers: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    async def run(self) -> NoReturn:
        """Be one of the workers, and see the others, until cancelled; then be none at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lasting(self._watch()))
                await self._show()
        finally:
            await self._leave()

    @property
    def workers(self) -> frozenset[str]:
        """Those that live, each by a name of its own, this one too; empty: nothing is known."""
        return self._workers

    @property
    def is_known(self) -> bool:
        """Whether the view is of now, and this worker in it."""
        return bool(self._workers)

    def mine(self, thing: str) -> bool:
        """Whether a site (or anything else) is this worker's; True of all while nothing is known.

        Rendezvous hashing: a worker that comes or goes moves nothing between the others.
        """
        return not self._workers or owner(self._workers, thing) == self._name

    async def wait_changed(self) -> None:
        """Wait until `workers` is another."""
        await self._changed.wait()

    async def changed(self, seconds: float) -> None:
        """Wait until `workers` is another, but not longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait_changed()

    async def known(self, seconds: float) -> None:
        """Wait until something is known, but not longer."""
        if not self.is_known:
            await self.changed(seconds)

    async def _show(self) -> NoReturn:
        """Give signs of life."""
        is_there = False
        while True:
            try:
                if not is_there:
                    await self._bucket.ensure()
                await self._bucket.put(self._key, self._name.encode(), ttl=LIFE_SECONDS)
                is_there = True
            except PbscastError:
                is_there = False  # whoever follows says what is wrong
            await asyncio.sleep(SIGN_SECONDS)

    async def _watch(self) -> None:
        is_current = False
        async with aclosing(self._bucket.follow()) as changes:
            async for change in changes:
                if isinstance(change, Entry):
                    self._seen[change.key] = change.value.decode(errors="replace")
                elif isinstance(change, Gone):
                    self._seen.pop(change.key, None)
                    self._before.pop(change.key, None)
                elif isinstance(change, Anew):
                    if is_current:
                        self._before |= self._seen
                    self._seen.clear()
                    is_current = False
                else:
                    is_current = True
                    self._seen_anew = monotonic()
                is_known = is_current and self._key in self._seen
                self._see(self._living() if is_known else frozenset())

    def _living(self) -> frozenset[str]:
        # A server that restarts has forgotten all, and each shows itself again in its own time:
        # whoever is first must not take itself for the only one.
        if monotonic() - self._seen_anew >= LIFE_SECONDS:
            self._before.clear()
        return frozenset((self._before | self._seen).values())

    def _see(self, workers: frozenset[str]) -> None:
        if workers != self._workers:
            _log.info("workers", workers=sorted(workers))
            self._workers = workers
            self._changed.set()
            self._changed = asyncio.Event()

    async def _leave(self) -> None:
        with suppress(PbscastError, TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._bucket.delete(self._key)


def owner(workers: Iterable[str], thing: str) -> str:
    """Return the worker whose thing it is: that whose hash with it is highest."""
    return max(workers, key=lambda worker: (sha256(f"{worker}|{thing}".encode()).digest(), worker))
