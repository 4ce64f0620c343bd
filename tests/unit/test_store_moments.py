"""Where in a log the events of a time begin."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pbscast_store.bounds import CLOCKS, NEVER, logged_since
from pbscast_store.moments import position_logged_before
from pbscast_store.records import Record

START = datetime(2026, 11, 22, tzinfo=UTC)
EVENT = Record(
    site="sitea",
    position=1,
    time=START,
    kind="job",
    id="1.sitea",
    incarnation=1,
    revision=1,
    event="usage",
    provenance="journal",
    owner="alice",
    payload="{}",
    logged=START,
    digest=None,
)


class _Told:
    """Events that are left of a log, by position."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    async def read(self, site: str, after: int, limit: int) -> list[Record]:
        assert site == "sitea"
        return [record for record in self.records if record.position > after][:limit]


HOURS = st.tuples(
    st.integers(0, 40),  # from one to the next, by the log's clock
    st.integers(-24, 100),  # by which the datastore's is behind
    st.booleans(),  # whether the event is still there
)


@given(events=st.lists(HOURS, max_size=30), hour=st.integers(-50, 700))
async def test_no_event_of_a_time_or_later_stands_before(
    events: list[tuple[int, int, bool]], hour: int
) -> None:
    """Though clocks go back and forth, and events have been thinned, the last ones too."""
    records, logged = [], START
    for position, (step, behind, is_there) in enumerate(events, 1):
        logged += timedelta(hours=step)
        time = logged - timedelta(hours=behind)
        if is_there:
            records.append(replace(EVENT, position=position, time=time, logged=logged))
    moment = START + timedelta(hours=hour)
    found = await position_logged_before(_Told(records), "sitea", len(events), moment)
    assert 0 <= found <= len(events)
    wanted = [record.position for record in records if record.time >= moment]
    assert all(position > found for position in wanted)
    needless = [r for r in records if r.position > found and r.logged < moment - CLOCKS]
    assert needless == []


def test_a_day_is_taken_off_any_time() -> None:
    assert logged_since(START) == START - CLOCKS
    assert logged_since(NEVER) == logged_since(NEVER + CLOCKS / 2) == NEVER
