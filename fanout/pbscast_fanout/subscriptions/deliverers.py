"""What a worker does for registered subscriptions, beside answering requests about them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pbscast_fanout.lasting import lasting
from pbscast_fanout.subscriptions.checkpoints import Checkpoints
from pbscast_fanout.subscriptions.completing import Completing
from pbscast_fanout.subscriptions.deliverer import Deliverer
from pbscast_fanout.subscriptions.destinations import Destinations
from pbscast_fanout.subscriptions.duties import do_while_mine
from pbscast_fanout.subscriptions.means import Means
from pbscast_fanout.subscriptions.room import Room
from pbscast_fanout.subscriptions.view import RegistryView

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast.requests import DelivererStatus
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.settings import FanoutSettings
    from pbscast_fanout.subscriptions.holdings import Holdings
    from pbscast_fanout.subscriptions.membership import Membership
    from pbscast_store.log import Log

ERRANDS: Final = 3
"""Pages that one worker reads at a time for those who join; publishing needs the log as well."""


class Deliverers:
    """One for each site; those whose site is this worker's deliver it."""

    def __init__(
        self,
        log: Log,
        connection: Connection,
        settings: FanoutSettings,
        membership: Membership,
        holdings: Holdings,
        slots: asyncio.Semaphore,
    ) -> None:
        """Each atomic batch takes one of the ``slots``."""
        self._membership = membership
        self._view = RegistryView(holdings.registry)
        self._completing = Completing(
            log,
            connection,
            holdings.registry,
            holdings.joined,
            self._view.definitions,
            membership.mine,
        )
        self._means = Means(
            log=log,
            connection=connection,
            settings=settings,
            view=self._view,
            joined=holdings.joined,
            checkpoints=Checkpoints(connection, replicas=settings.stream.replicas),
            completing=self._completing,
            destinations=Destinations(log),
            slots=slots,
            reading=asyncio.Semaphore(ERRANDS),
            room=Room(),
            is_sure=lambda: membership.is_known,
        )
        self._sites: dict[Site, Deliverer] = {}

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Do what is of no site."""
        tasks.create_task(lasting(self._view.run()), name="follow the registry")
        tasks.create_task(lasting(self._completing.run()), name="complete subscriptions")

    def take_on(self, site: Site, tasks: asyncio.TaskGroup) -> None:
        """Deliver a site, too, whenever it is this worker's."""
        deliverer = self._sites[site] = Deliverer(site, self._means)
        work = do_while_mine(self._membership, site, deliverer.run)
        tasks.create_task(lasting(work), name=f"deliver {site}")

    def ring(self, site: Site) -> None:
        """Say that the log has news of a site."""
        if site in self._sites:
            self._sites[site].ring()

    def hear(self, site: Site, logged: int) -> None:
        """Say where a site's log ends."""
        self._sites[site].hear(logged)

    def status(self) -> tuple[DelivererStatus, ...]:
        """Return the state of every site. Any thread may ask."""
        states = (deliverer.progress.status() for deliverer in list(self._sites.values()))
        return tuple(sorted(states, key=lambda state: state.site))
