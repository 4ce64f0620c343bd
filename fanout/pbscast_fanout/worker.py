"""A fan-out worker publishes the log's sites, delivers them, and answers; any number may run."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import PbscastError
from pbscast.events import Site
from pbscast.requests import StatusRequest, StatusResponse
from pbscast_fanout.answers import Answers
from pbscast_fanout.connection import Connection
from pbscast_fanout.lasting import lasting
from pbscast_fanout.offers import everything
from pbscast_fanout.openings import Openings
from pbscast_fanout.publisher import SitePublisher
from pbscast_fanout.rights import visible_status
from pbscast_fanout.services import Services
from pbscast_fanout.settling import Settling
from pbscast_fanout.streams import ensure_stream
from pbscast_fanout.subscriptions.deliverers import Deliverers
from pbscast_fanout.subscriptions.desk import Desk
from pbscast_fanout.subscriptions.holdings import Holdings
from pbscast_fanout.subscriptions.janitor import Janitor
from pbscast_fanout.subscriptions.membership import Membership

if TYPE_CHECKING:
    from pbscast_fanout.askers import Asker
    from pbscast_fanout.settings import FanoutSettings
    from pbscast_store.log import Log

POLL_SECONDS: Final = 1.0
"""How often the log is asked for its sites and positions, were a doorbell lost or a site new."""

BATCHES_IN_FLIGHT: Final = 12
"""Of one worker: a NATS server refuses more than 50 at a time to a stream."""

_log = structlog.get_logger(__name__)


class Fanout:
    """Publishes and serves until cancelled; outages of NATS and of the log are waited out."""

    def __init__(self, log: Log, settings: FanoutSettings, *, name: str | None = None) -> None:
        self._log = log
        self._settings = settings
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._connection = Connection(settings.nats, name=f"pbscast fanout {self._name}")
        self._membership = Membership(
            self._connection, self._name, replicas=settings.stream.replicas
        )
        self._holdings = Holdings.of(self._connection, settings)
        self._slots = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        self._publishers: dict[Site, SitePublisher] = {}
        self._deliverers = Deliverers(
            log, self._connection, settings, self._membership, self._holdings, self._slots
        )
        self._log_error: str | None = None

    async def run(self) -> None:
        """Run until cancelled, then finish the connection's pending work."""
        desk = Desk(self._log, self._holdings)
        services = Services(
            self._connection,
            everything(
                self._answer_status,
                Answers(self._log, lambda: self._connection.client.max_payload),
                desk,
                Openings(self._connection),
                Settling(self._connection, desk),
            ),
            lambda: self._log_error is None,
        )
        # Two groups: the connection ends last, so that what is being answered still is.
        async with asyncio.TaskGroup() as connecting, asyncio.TaskGroup() as tasks:
            connecting.create_task(lasting(self._connection.keep()))
            tasks.create_task(lasting(services.run()))
            await self._connection.tried()
            tasks.create_task(lasting(self._membership.run()))
            tasks.create_task(lasting(Janitor(self._holdings, self._membership).run()))
            self._deliverers.start(tasks)
            tasks.create_task(lasting(self._listen()))
            tasks.create_task(lasting(self._follow_members()))
            await self._follow_log(tasks)

    def status(self) -> StatusResponse:
        """Return the state of every known site, and what is wrong with NATS or the log.

        Any thread may ask.
        """
        sites = (publisher.progress.status() for publisher in list(self._publishers.values()))
        return StatusResponse(
            worker=self._name,
            error=self._connection.error or self._log_error,
            sites=tuple(sorted(sites, key=lambda status: status.site)),
            deliveries=self._deliverers.status(),
        )

    async def _answer_status(self, _: StatusRequest, asker: Asker | None) -> bytes:
        return visible_status(asker, self.status()).model_dump_json().encode()

    async def _follow_log(self, tasks: asyncio.TaskGroup) -> NoReturn:
        while True:
            try:
                await self._survey(tasks)
            except PbscastError as error:
                if str(error) != self._log_error:
                    _log.warning("log_unusable", error=str(error))
                self._log_error = str(error)
            await asyncio.sleep(POLL_SECONDS)

    async def _listen(self) -> NoReturn:
        """Pass the doorbell on; beside the surveys, so that one that hangs does not silence it."""
        async with self._log.watch() as bell:
            while True:
                for name in await bell.wait(POLL_SECONDS):
                    site = Site(name)
                    self._deliverers.ring(site)
                    publisher = self._publishers.get(site)
                    if publisher is not None:
                        publisher.ring()

    async def _follow_members(self) -> NoReturn:
        """Let each publisher see whether its site is still this worker's."""
        while True:
            await self._membership.wait_changed()
            for publisher in self._publishers.values():
                publisher.ring()

    async def _survey(self, tasks: asyncio.TaskGroup) -> None:
        """Ask the log where each site is; take on those that are new."""
        for row in await self._log.sites():
            site = Site(row.name)
            if site not in self._publishers:
                self._take_on(site, tasks)
            self._publishers[site].hear(row.position)
            self._deliverers.hear(site, row.position)
        self._log_error = None

    def _take_on(self, site: Site, tasks: asyncio.TaskGroup) -> None:
        publisher = SitePublisher(
            site,
            self._log,
            self._connection,
            self._settings.stream,
            self._slots,
            self._membership,
        )
        self._publishers[site] = publisher
        tasks.create_task(lasting(publisher.run()), name=f"publish {site}")
        self._deliverers.take_on(site, tasks)


async def check(settings: FanoutSettings) -> None:
    """Connect once and make the stream, to tell an operator at once what is wrong.

    Raises UnavailableError, AccessDeniedError, UnsupportedError, ConflictError or ConfigError.
    """
    connection = Connection(settings.nats, name="pbscast check")
    await connection.open()
    try:
        await ensure_stream(connection, settings.stream)
    finally:
        await connection.close()
