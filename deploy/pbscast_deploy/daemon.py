"""The daemon: the parts that its roles ask for, run until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import structlog

from pbscast.errors import PbscastError
from pbscast.requests import PublisherState
from pbscast_deploy.config import Role
from pbscast_deploy.monitor import Monitor, PartStatus
from pbscast_deploy.signing import sign_regularly
from pbscast_fanout.settings import FanoutSettings
from pbscast_fanout.worker import Fanout
from pbscast_ingest.retry import pause
from pbscast_ingest.status import WorkerState
from pbscast_ingest.worker import SiteWorker
from pbscast_store.connection import is_promotion_lossy
from pbscast_store.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbscast.requests import DelivererStatus, SiteStatus
    from pbscast_deploy.config import Settings
    from pbscast_ingest.status import WorkerStatus

_INGEST_READY: Final = {WorkerState.STANDBY, WorkerState.FOLLOWING, WorkerState.RESYNCING}
_FANOUT_READY: Final = {
    PublisherState.STANDBY,
    PublisherState.PUBLISHING,
    PublisherState.CURRENT,
}
_LOG_RETRY_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class Daemon:
    """One process's share of the work; any number of daemons may share the same settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._holder = settings.daemon.holder or _holder_of_its_own()
        self._workers: list[SiteWorker] = []
        self._fanout: Fanout | None = None
        self._log_error: str | None = None
        self._is_log_open = False
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask run to end soon, orderly: what was read is logged, leases are given back."""
        self._stopping.set()
        for worker in self._workers:
            worker.stop()

    def parts(self) -> Iterator[PartStatus]:
        """How each part is doing."""
        if not self._is_log_open:
            yield PartStatus("log", "connecting", ready=False, position=0, error=self._log_error)
        for worker in self._workers:
            yield _ingest_part(worker.status)
        if self._fanout is not None:
            status = self._fanout.status()
            for site in status.sites:
                yield _publish_part(site)
            for delivery in status.deliveries:
                yield _deliver_part(delivery)
            if status.error is not None:
                yield PartStatus("fanout", "waiting", ready=False, position=0, error=status.error)

    async def run(self) -> None:
        """Work until stop is called or SIGTERM or SIGINT arrives.

        Whatever stands in the way of a part (a server that is away or refuses us, a log that was
        not migrated) is logged, shown and tried again. Raises ConfigError if the address to listen
        on cannot be had.
        """
        self._warn()
        self._handle_signals()
        async with AsyncExitStack() as stack:
            listen = self._settings.daemon.listen
            if listen is not None:
                await stack.enter_async_context(Monitor(self.parts).serve(listen))
            log = await self._open_log(stack)
            if log is not None:
                await self._work(log)
        _log.info("stopped")

    async def _open_log(self, stack: AsyncExitStack) -> Log | None:
        while not self._stopping.is_set():
            try:
                log = await stack.enter_async_context(
                    Log.open(self._settings.log.dsn, self._settings.archive.directory)
                )
                await self._warn_of_standby()
            except PbscastError as error:
                if str(error) != self._log_error:
                    _log.warning("log_unusable", error=str(error))
                self._log_error = str(error)
            else:
                self._log_error = None
                self._is_log_open = True
                _log.info("log_ready")
                return log
            await pause(_LOG_RETRY_SECONDS, self._stopping)
        return None

    async def _warn_of_standby(self) -> None:
        if await is_promotion_lossy(self._settings.log.dsn):
            _log.warning(
                "log_standby_not_waited_for",
                effect="if a standby is promoted, events that were published may be missing",
                advice="set synchronous_standby_names on the log's primary",
            )

    def _warn(self) -> None:
        """Of settings that are legal and hardly meant."""
        if Role.INGEST in self._settings.daemon.roles and not self._settings.site:
            _log.warning("no_sites", advice="add a [[site]] to the configuration")
        if "PGPASSWORD" in os.environ:
            _log.warning("pgpassword_set", effect="it is used instead of every passfile")

    async def _work(self, log: Log) -> None:
        async with asyncio.TaskGroup() as tasks:
            if Role.INGEST in self._settings.daemon.roles:
                self._start_ingest(log, tasks)
            if Role.FANOUT in self._settings.daemon.roles:
                settings = FanoutSettings(
                    nats=self._settings.nats,
                    stream=self._settings.stream,
                    subscriptions=self._settings.subscriptions,
                )
                self._fanout = Fanout(log, settings, name=self._holder)
                fanout = tasks.create_task(self._fanout.run(), name="fanout")
            signing = self._start_signing(tasks)
            await self._stopping.wait()
            for worker in self._workers:
                worker.stop()
            if self._fanout is not None:
                fanout.cancel()
            if signing is not None:
                signing.cancel()

    def _start_ingest(self, log: Log, tasks: asyncio.TaskGroup) -> None:
        ttl = self._settings.daemon.lease_seconds
        for site in self._settings.site:
            worker = SiteWorker(log, site.name, site.dsn, self._holder, ttl=ttl)
            self._workers.append(worker)
            tasks.create_task(worker.run(), name=f"ingest {site.name}")

    def _start_signing(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None] | None:
        audit = self._settings.audit
        if audit.key is None:
            return None
        signing = sign_regularly(self._settings.log.dsn, audit.key, audit.interval_seconds)
        return tasks.create_task(signing, name="signing")

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)


def _holder_of_its_own() -> str:
    """Containers may share host name and process id; two daemons may not share a holder."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def _ingest_part(status: WorkerStatus) -> PartStatus:
    return PartStatus(
        f"ingest {status.site}",
        status.state.value,
        ready=status.state in _INGEST_READY,
        position=status.position,
        error=status.error,
    )


def _publish_part(status: SiteStatus) -> PartStatus:
    return PartStatus(
        f"publish {status.site}",
        status.state.value,
        ready=status.state in _FANOUT_READY,
        position=status.published,
        error=status.error,
    )


def _deliver_part(status: DelivererStatus) -> PartStatus:
    return PartStatus(
        f"deliver {status.site}",
        status.state.value,
        ready=status.state in _FANOUT_READY,
        position=status.delivered,
        error=status.error,
    )
