from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from pbscast import wire
from pbscast.events import ChangePayload
from pbscast.requests import HistoryRequest, HistoryResponse
from pbscast_fanout.answers import Answers
from pbscast_store.log import Log
from pbscast_store.records import Record
from pbscast_store.stories import EventPage

MAX_PAYLOAD = 65_536


def record_of(size: int) -> Record:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return Record(
        site="site0",
        position=7,
        time=moment,
        kind="job",
        id="1.site0",
        incarnation=1,
        revision=2,
        event="modify",
        provenance="journal",
        owner="alice",
        payload=wire.encode_payload(ChangePayload(changed={"Variable_List": "x" * size})),
        logged=moment,
        digest=None,
    )


class OnePage:
    """A log of one event, and of so many sites that where to go on takes much room."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._positions = {f"site{number}": 10**9 for number in range(500)}

    async def events(self, _: HistoryRequest, **__: Any) -> EventPage:
        return EventPage([self._record], self._positions, more=True, starts=self._positions)


async def test_a_page_of_a_large_event_at_many_sites_fits_into_a_message() -> None:
    for size in range(MAX_PAYLOAD - 40_000, MAX_PAYLOAD, 1_000):
        log = cast("Log", OnePage(record_of(size)))
        body = await Answers(log, lambda: MAX_PAYLOAD).history(HistoryRequest(), None)
        assert len(body) <= MAX_PAYLOAD
        assert len(HistoryResponse.model_validate_json(body).events) == 1
