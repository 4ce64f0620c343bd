"""Ends a subscription once every job that it names has ended and been told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pbscast.events import Finalize
    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.joined import JoinedSites
    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.registry import Registry
    from pbscast_store.log import Log


class Completing:
    """Watches the subscriptions of a worker that name jobs.

    Of each it remembers one job that lives at a site whose events it is told (`note`): while that
    one lives nothing is complete. When it ends the log is asked how all stand, of all sites; if
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

        `mine` says whether this worker is to look, now and then, after a subscription.
        """
        raise NotImplementedError

    def note(self, event: Finalize, subscriptions: Iterable[str]) -> None:
        """Say that a job's end has been stored for these subscriptions; cheap.

        Has to be told of each finalize of the sites that this worker delivers, were it for no
        subscription. Repeats do no harm.
        """
        raise NotImplementedError

    def consider(self, subscription: str) -> None:
        """Say that it may be complete: it has joined a site, was modified or was read anew."""
        raise NotImplementedError

    async def run(self) -> NoReturn:
        """Check, and look after what was missed, until cancelled; outages are waited out."""
        raise NotImplementedError


async def pending(log: Log, definition: Definition) -> int:
    """Return how many of the jobs that a subscription names have not ended, by the log now.

    A hundred thousand take a second or more. Raises UnavailableError.
    """
    raise NotImplementedError
