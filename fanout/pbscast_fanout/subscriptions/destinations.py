"""To which site of the log a job was moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbscast.events import Site
    from pbscast_store.log import Log


class Destinations:
    """Which PBS server is which site, by the servers that the log has seen."""

    def __init__(self, log: Log) -> None:
        raise NotImplementedError

    async def site_of(self, destination: str | None) -> Site | None:
        """Return the site of a `destination` (`queue@server`) of a finalize; None: not in the log.

        Raises UnavailableError.
        """
        raise NotImplementedError
