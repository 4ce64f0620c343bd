"""Takes away what is left of subscriptions that nobody renews."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pbscast_fanout.subscriptions.consumers import Consumers
    from pbscast_fanout.subscriptions.joined import JoinedSites
    from pbscast_fanout.subscriptions.membership import Membership
    from pbscast_fanout.subscriptions.registry import Registry


class Janitor:
    """Removes, of the subscriptions that are this worker's, those whose lease has run out."""

    def __init__(
        self, registry: Registry, consumers: Consumers, joined: JoinedSites, membership: Membership
    ) -> None:
        self._registry = registry
        self._consumers = consumers
        self._joined = joined
        self._membership = membership

    async def run(self) -> NoReturn:
        """Work until cancelled; outages are waited out."""
        raise NotImplementedError
