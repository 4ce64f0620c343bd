"""One task per site: hold its lease, stay connected to its datastore, keep its log up to date."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.errors import FencedError, PbscastError, UnavailableError
from pbscast_ingest import metrics
from pbscast_ingest.appetite import Appetite
from pbscast_ingest.chronicle import Chronicle
from pbscast_ingest.faults import DatastoreError, JournalSilentError
from pbscast_ingest.reader import Journal
from pbscast_ingest.refusals import Refusals, is_refusal
from pbscast_ingest.retry import Retry, pause
from pbscast_ingest.session import Session
from pbscast_ingest.status import Monitor, WorkerState, WorkerStatus
from pbscast_ingest.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pbscast_store.log import Log
    from pbscast_store.writer import SiteWriter

LEASE_SECONDS: Final = 10.0
"""After a worker's death another takes its site over within this and a third of it."""


_log = structlog.get_logger(__name__)


class SiteWorker:
    """Keeps one site's log up to date for ever; run as many as you like, one holds the site.

    No fault of the datastore, of the log or of ours ends run, only stop: what was read is then
    logged and the lease given back.
    """

    def __init__(
        self, log: Log, site: str, dsn: str, holder: str, *, ttl: float = LEASE_SECONDS
    ) -> None:
        self._log = log
        self._site = site
        self._dsn = dsn
        self._holder = holder
        self._ttl = ttl
        self._monitor = Monitor(site)
        self._refusals = Refusals(site)
        self._appetite = Appetite(lambda: self._refusals.is_careful, site)
        self._stopping = asyncio.Event()

    @property
    def status(self) -> WorkerStatus:
        """What the worker is doing now."""
        return self._monitor.status

    def stop(self) -> None:
        """Ask run to end soon, orderly."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stop."""
        retry = Retry()
        while not self._stopping.is_set():
            before = self.status.position
            try:
                await self._hold()
                retry.reset()
            except FencedError as error:
                self._monitor.fault(error, WorkerState.STANDBY)
                # The site's new holder may be one of our own name: not to take turns in haste.
                await pause(self._ttl / 3, self._stopping)
            except PbscastError as error:
                if not is_refusal(error):
                    self._monitor.fault(error, WorkerState.WAITING)
                else:
                    self._monitor.fault(error, WorkerState.REFUSED)
                    if self.status.position > before:
                        retry.reset()
                await pause(retry.fail(), self._stopping)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this site's alone
                _log.exception("unexpected", site=self._site)
                line = f"{self._site}: a fault of pbscast: {type(error).__name__}: see the log"
                self._monitor.fault(PbscastError(line), WorkerState.WAITING)
                await pause(retry.fail(), self._stopping)
        self._monitor.turn(WorkerState.STOPPED)

    async def _hold(self) -> None:
        """Work under the lease until it is lost, the log fails or stop; or wait a while for it."""
        await self._log.register_site(self._site)
        writer = await self._log.acquire(self._site, self._holder, self._ttl)
        if writer is None:
            self._monitor.turn(WorkerState.STANDBY)
            await pause(self._ttl / 3, self._stopping)
            return
        metrics.LEASE.labels(self._site).set(1)
        try:
            await self._work(writer)
        finally:
            metrics.LEASE.labels(self._site).set(0)

    async def _work(self, writer: SiteWriter) -> None:
        chronicle = Chronicle(writer, self._refusals)
        try:
            async with _renewing(writer, self._ttl):
                await self._stay_connected(chronicle)
                await chronicle.flush()
        finally:
            await chronicle.abandon()
        with suppress(PbscastError):
            await writer.release()

    async def _stay_connected(self, chronicle: Chronicle) -> None:
        retry, watchdog = Retry(), Watchdog()
        while not self._stopping.is_set():
            if not watchdog.silence:
                self._monitor.turn(WorkerState.CONNECTING, position=chronicle.position)
            try:
                async with Journal.open(self._dsn, self._appetite) as journal:
                    session = Session(self._log, chronicle, journal, self._monitor, watchdog)
                    await session.greet()
                    await session.run(self._stopping, retry)
            except DatastoreError as error:
                is_silent = isinstance(error, JournalSilentError)
                state = WorkerState.SILENT if is_silent else WorkerState.CONNECTING
                self._monitor.fault(error, state)
                # A cut that heals at the first attempt is nobody's news.
                if retry.failures or is_silent:
                    await chronicle.fall(str(error))
                await pause(retry.fail(), self._stopping)


@asynccontextmanager
async def _renewing(writer: SiteWriter, ttl: float) -> AsyncIterator[None]:
    """Renew the lease meanwhile; once that fails, what runs inside is stopped with its error."""
    try:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_renew(writer, ttl))
            yield
            renewing.cancel()
    except BaseExceptionGroup as errors:
        raise _innermost(errors) from errors


async def _renew(writer: SiteWriter, ttl: float) -> None:
    """Renew for ever. Raises UnavailableError if that fails until the term is nearly over."""
    renewed = monotonic()
    while True:
        await asyncio.sleep(ttl / 3)
        begun = monotonic()
        try:
            await _renew_once(writer, ttl / 3)
        except UnavailableError:
            if monotonic() - renewed >= ttl * 2 / 3:
                raise
        else:
            renewed = begun


async def _renew_once(writer: SiteWriter, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await writer.renew()
    except TimeoutError as error:
        line = f"lease of {writer.site}: no answer within {seconds:g} s"
        raise UnavailableError(line) from error


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
