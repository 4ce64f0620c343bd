"""Filling a hole that has shown itself in one object's revisions."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pbscast import wire
from pbscast.errors import PbscastError
from pbscast.history import Recorded, read_history
from pbscast.lookup import find_messages
from pbscast.requests import HistoryRequest

if TYPE_CHECKING:
    from pbscast.connection import Connection
    from pbscast.continuity import Hole


async def mend(connection: Connection, hole: Hole) -> list[Recorded]:
    """Return what the stream holds in the hole, else what the log does; what neither has stays out.

    A hole in a site as a whole cannot be filled object by object: nothing is found.
    """
    if hole.id is None or hole.kind is None:
        return []
    found: list[Recorded] = []
    with suppress(PbscastError):
        found = [
            Recorded(wire.decode(message.data), message.data)
            async for message in find_messages(connection, hole)
        ]
    # The stream may hold but the later part: only the log knows whether that is all.
    if len(found) < hole.before - hole.after - 1:
        with suppress(PbscastError):
            request = HistoryRequest(ids=(hole.id,), kind=hole.kind, sites=(hole.site,))
            found = [item async for item in read_history(connection, request) if _is_in(item, hole)]
    return found


def _is_in(item: Recorded, hole: Hole) -> bool:
    return item.event.id == hole.id and hole.after < item.event.position < hole.before
