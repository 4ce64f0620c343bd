"""The log's own account of what happened, asked from the fan-out tier."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from pbscast import wire
from pbscast.asking import pages
from pbscast.errors import UsageError
from pbscast.handovers import HandOver, HandOvers
from pbscast.requests import HISTORY, MAX_PAGE, HistoryRequest, HistoryResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pbscast.connection import Connection
    from pbscast.events import AnyEvent


class Recorded(NamedTuple):
    """An event and its CloudEvents JSON, the same bytes as on NATS."""

    event: AnyEvent
    body: bytes
    hand_over: HandOver | None = None
    """Set where the event completes a job's move: its first event at the new site; with newest
    first, its finalize at the old one."""


async def read_history(
    connection: Connection, request: HistoryRequest, limit: int | None = None
) -> AsyncIterator[Recorded]:
    """Yield what the log holds, in the order asked for, a page at a time; ``limit`` events at most.

    Raises NotFoundError, UnavailableError, AccessDeniedError, and what else the service answers.
    """
    hand_overs = HandOvers(newest_first=request.newest_first)
    left = limit
    async for page in pages(connection, HISTORY, request, HistoryResponse):
        for item in page.events[:left]:
            body = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
            event = wire.decode(body)
            yield Recorded(event, body, hand_overs.note(event))
        if left is not None and (left := left - len(page.events)) <= 0:
            return


def page_size(limit: int | None) -> int | None:
    """Return how many events to ask for at once; None: as many as one answer holds."""
    return None if limit is None else min(limit, MAX_PAGE)


def to_go_on(positions: Mapping[str, int] | None) -> str | None:
    """Return a request's ``after``: what follows these positions of sites in the order told.

    Raises UsageError for what cannot be a position.
    """
    for site, position in (positions or {}).items():
        if position < 0:
            raise UsageError(f"a position is 0 or more, that of site {site} is {position}")
    return json.dumps(dict(positions)) if positions else None
