"""How objects stand now, and from where to follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pbscast.asking import pages
from pbscast.requests import SNAPSHOT, SnapshotRequest, SnapshotResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pbscast.connection import Connection
    from pbscast.lives import Standing


class Snapshot:
    """An async iterator over standings, asked page by page as it goes.

    Iterating raises NotFoundError, UnavailableError, AccessDeniedError.
    """

    def __init__(self, connection: Connection, request: SnapshotRequest) -> None:
        self._positions: dict[str, int] = {}
        self._standings = self._read(connection, request)

    @property
    def positions(self) -> dict[str, int]:
        """The position of each site when the snapshot was begun; empty before the first object.

        A watch from ``after(snapshot.positions)`` misses nothing: whatever changed while the
        snapshot was read is told there, and an event of an object is news if its position is higher
        than that of the object's standing.
        """
        return dict(self._positions)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Standing:
        return await anext(self._standings)

    async def _read(
        self, connection: Connection, request: SnapshotRequest
    ) -> AsyncIterator[Standing]:
        async for page in pages(connection, SNAPSHOT, request, SnapshotResponse):
            if not self._positions:
                self._positions = {str(site): position for site, position in page.positions.items()}
            for standing in page.objects:
                yield standing
