"""How much of a site's backlog is asked for at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbscast_ingest.faults import DatastoreError, DatastoreUnavailableError, is_about_content
from pbscast_ingest.lone import LONE_BYTES, TRIES, Hardships

if TYPE_CHECKING:
    from collections.abc import Callable

STORED_BYTES: Final = 3_000_000
"""What a page's rows may weigh as stored, where PostgreSQL packs them up to 90 times smaller."""

FIRST_BYTES: Final = 250_000
LEAST_BYTES: Final = 1000

ALONE: Final = 100
"""So many rows are read one by one after reading them together has failed."""


class Appetite:
    """How much of a site's backlog is asked for at once; outlives the connections.

    The server unpacks all that a page may hold before it knows how large that is. So the first
    pages are small, and where one had to be cut or never came, the next is a smaller one; where
    none comes, row after row is read by itself.
    """

    def __init__(self, is_careful: Callable[[], bool] = bool, site: str = "") -> None:
        self.bytes = FIRST_BYTES
        """Of rows as they are stored."""
        self.hardships = Hardships(site)
        self._is_careful = is_careful
        self._failures = 0
        self._alone = 0

    def limit(self, rows: int) -> int:
        """Return how many rows to ask for: these, but one where each has to be tried by itself."""
        return 1 if self._is_careful() else rows

    @property
    def lone(self) -> int:
        """Rows that weigh more than this, as they are stored, are to be read by themselves."""
        return -1 if self._alone else LONE_BYTES

    def grow(self) -> None:
        """A page came whole."""
        self.bytes = min(STORED_BYTES, 2 * self.bytes)

    def shrink(self) -> None:
        """A page was too large, or did not come in time."""
        self.bytes = max(LEAST_BYTES, self.bytes // 2)

    def come(self, rows: int) -> None:
        """Take note that so many rows came."""
        self._failures, self._alone = 0, max(0, self._alone - rows)

    def fail(self, error: DatastoreError) -> None:
        """Take note that rows did not come: because of what they hold, or too often in a row."""
        is_content = is_about_content(error)
        if not (is_content or isinstance(error, DatastoreUnavailableError)):
            return
        self.shrink()
        self._failures += 1
        if is_content or self._failures >= TRIES:
            self._failures, self._alone = 0, ALONE
