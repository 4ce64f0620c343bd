"""The log's own account of what happened, asked from the fan-out tier."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from pbscast import wire
from pbscast.asking import pages
from pbscast.handovers import HandOver, HandOvers
from pbscast.requests import HISTORY, HistoryRequest, HistoryResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pbscast.connection import Connection
    from pbscast.events import AnyEvent


class Recorded(NamedTuple):
    """An event and its CloudEvents JSON, the same bytes as on NATS."""

    event: AnyEvent
    body: bytes
    hand_over: HandOver | None = None
    """Set where the event completes a job's move: its first event at the new site; with newest
    first, its finalize at the old one."""


async def read_history(connection: Connection, request: HistoryRequest) -> AsyncIterator[Recorded]:
    """Yield what the log holds, in the order asked for, a page at a time.

    Raises NotFoundError, UnavailableError, AccessDeniedError, and what else the service answers.
    """
    hand_overs = HandOvers(newest_first=request.newest_first)
    async for page in pages(connection, HISTORY, request, HistoryResponse):
        for item in page.events:
            body = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
            event = wire.decode(body)
            yield Recorded(event, body, hand_overs.note(event))
