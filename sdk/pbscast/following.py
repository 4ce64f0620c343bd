"""Which messages of a subscription repeat what was told, and where some are missing. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast.deliveries import BeginMessage, BoundaryMessage, EventMessage, ObjectMessage
from pbscast.notices import Missed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast.events import Site

SiteMessage = BeginMessage | ObjectMessage | BoundaryMessage | EventMessage


class Following:
    """Where a subscription stands at each site, by the numbers of its messages.

    ``place`` is what it was at the end of an earlier reading; None: it is not known, but for what
    ``go_on`` is given. A number that has been told is a repeat, unless the stream stored it later:
    then it was lost and began anew.
    """

    def __init__(self, place: Mapping[str, tuple[int, int]] | None, *, is_new: bool) -> None:
        self._is_new = is_new
        self._numbers = {site: number for site, (number, _) in (place or {}).items()}
        self._positions = {site: position for site, (_, position) in (place or {}).items()}
        self._times: dict[str, int] = {}
        self._live = set(self._positions)
        self._acknowledged: Mapping[Site, int] = {}

    def go_on(self, acknowledged: Mapping[Site, int] | None) -> None:
        """Take note of what the service knows of an earlier reading: the last number of each site.

        Of a site that is not named nothing that was acknowledged is left: all that lies before what
        comes next may have gone unread. None: it knows nothing.
        """
        self._is_new = acknowledged is not None
        self._acknowledged = acknowledged or {}

    @property
    def positions(self) -> dict[str, int]:
        """The last position of each site that was told."""
        return dict(self._positions)

    @property
    def place(self) -> dict[str, tuple[int, int]]:
        """Of each site the number of its last message and the last position."""
        return {
            site: (number, self._positions.get(site, 0)) for site, number in self._numbers.items()
        }

    def is_repeat(self, message: SiteMessage, time: int) -> bool:
        """Whether it was told before; ``time`` is when the stream stored it."""
        last = self._numbers.get(message.site)
        if message.n is None or last is None or message.n > last:
            return False
        told = self._times.get(message.site)
        if told is None:
            return not isinstance(message, BeginMessage)
        return time <= told

    def hole_before(self, message: SiteMessage) -> Missed | None:
        """Return what is missing between the site's last message and this one."""
        site, after = message.site, self._positions.get(message.site)
        if isinstance(message, BeginMessage):
            # It counts from wherever it likes; what happened up to it was not told.
            is_behind = site in self._live and after is not None and after < message.position
            return Missed(site, after, message.position + 1) if is_behind else None
        last = self._numbers.get(site, self._acknowledged.get(site, 0 if self._is_new else None))
        if message.n is None or last is None or message.n == last + 1:
            return None
        return Missed(site, after, _first_told(message))

    def record(self, message: SiteMessage, time: int) -> None:
        """Take note of a message that is told."""
        site = message.site
        if message.n is not None:
            self._numbers[site] = message.n
            self._times[site] = time
        if isinstance(message, EventMessage):
            self._positions[site] = message.event.position
        elif not isinstance(message, ObjectMessage):
            self._positions[site] = message.position
        if isinstance(message, BeginMessage):
            self._live.discard(site)
        elif not isinstance(message, ObjectMessage):
            self._live.add(site)


def _first_told(message: SiteMessage) -> int | None:
    if isinstance(message, EventMessage):
        return message.event.position
    return message.position + 1 if isinstance(message, BoundaryMessage) else None
