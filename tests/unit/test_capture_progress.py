"""What `source check` makes of what the log says of a site."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pbscast_ingest.capture import Verdict, progress
from pbscast_ingest.capture.progress import Lag
from pbscast_ingest.cursor import Cursor, witness
from pbscast_store.records import SiteRow

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
READ = Cursor(journal="1:a", top=7, witness=witness(99, NOW), up=True)
ROW = SiteRow(
    name="sitea",
    position=40,
    epoch=3,
    holder="host:1",
    lease_expires=NOW + timedelta(seconds=8),
    logged=NOW - timedelta(seconds=5),
    cursor=READ.dump(),
)
WELL = Lag(0, None, 99, NOW)


def _said(**changes: Any) -> tuple[Verdict, str]:
    found = progress.log("sitea", "1:a", replace(ROW, **changes), NOW)
    return found.verdict, found.text


def test_a_log_that_is_written() -> None:
    assert _said() == (
        Verdict.OK,
        "40 events, the last 5 s ago; host:1 holds the site for 8 s more",
    )


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"cursor": None}, Verdict.WARN, "nothing of sitea"),
        ({"holder": None, "lease_expires": None}, Verdict.WARN, "nobody holds"),
        ({"lease_expires": NOW - timedelta(seconds=1)}, Verdict.WARN, "nobody holds"),
        ({"cursor": replace(READ, journal="2:b").dump()}, Verdict.WARN, "another journal, 2:b"),
        ({"cursor": replace(READ, blind="paused").dump()}, Verdict.FAIL, "not journaled: paused"),
        ({"cursor": replace(READ, due={"cause": "x"}).dump()}, Verdict.WARN, "resync is due: x"),
        ({"cursor": replace(READ, up=False).dump()}, Verdict.WARN, "last word on the site is down"),
    ],
)
def test_what_is_not_well_is_said(changes: dict[str, Any], verdict: Verdict, words: str) -> None:
    found, text = _said(**changes)
    assert found is verdict
    assert words in text


def test_a_site_that_the_log_does_not_know() -> None:
    assert progress.log("sitea", "1:a", None, NOW).verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("lag", "verdict", "words"),
    [
        (WELL, Verdict.OK, "none"),
        (WELL._replace(rows=3, oldest_seconds=2.0), Verdict.OK, "3 rows"),
        (WELL._replace(rows=3, oldest_seconds=61.0), Verdict.WARN, "61 s ago"),
        (WELL._replace(witness_xid=None, witness_at=None), Verdict.WARN, "gone"),
        (WELL._replace(witness_xid=98), Verdict.WARN, "gone"),
    ],
)
def test_the_lag(lag: Lag, verdict: Verdict, words: str) -> None:
    found = progress.lag(READ, READ, lag)
    assert found.verdict is verdict
    assert words in found.text


def test_a_log_that_reads_on_meanwhile() -> None:
    gone = WELL._replace(witness_xid=None, witness_at=None)
    assert progress.lag(READ, replace(READ, top=8), gone).verdict is Verdict.OK


def test_nothing_was_read_yet() -> None:
    blank = Cursor(journal="1:a")
    assert progress.lag(blank, blank, Lag(0, None, None, None)).verdict is Verdict.OK
