"""What `source check` makes of what a datastore answers."""

from __future__ import annotations

import pytest

from pbscast_ingest.capture import CheckReport, Finding, Verdict, findings
from pbscast_ingest.capture.findings import Installed, Journal, Reader, Surroundings
from pbscast_ingest.capture.script import JOURNAL_VERSION, digest

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL

SEEN = Surroundings(150018, "15.18", True, "public", True, 0.0, None)  # noqa: FBT003 - a row
INSTALLED = Installed(JOURNAL_VERSION, digest(), "sitea", "reader", "2026-11-22", "1:a", ())
JOURNAL = Journal(10, 1 << 20, 1 << 30, 1 << 25, 30.0, 1.0, 0, None, 0, 0)


@pytest.mark.parametrize(
    ("number", "verdict"),
    [(90600, FAIL), (100023, OK), (150018, OK), (180006, OK), (190000, FAIL)],
)
def test_servers_from_10_to_18_are_served(number: int, verdict: Verdict) -> None:
    assert findings.server(SEEN._replace(server_version_num=number)).verdict is verdict


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("1.5.0", OK), ("1.5.12", OK), ("1.4.0", FAIL), ("1.50", FAIL), ("2.0", FAIL), (None, FAIL)],
)
def test_known_schemas_are_those_of_1_5(version: str | None, verdict: Verdict) -> None:
    assert findings.schema(SEEN, version).verdict is verdict


def test_a_database_without_pbs_is_told() -> None:
    assert "none" in findings.schema(SEEN._replace(has_pbs=False), None).text


def test_a_moved_hstore_is_a_fault() -> None:
    assert findings.hstore(SEEN, None, None).verdict is OK
    assert findings.hstore(SEEN, "capture_job", None).verdict is FAIL
    assert findings.hstore(SEEN._replace(hstore_schema=None), None, None).verdict is FAIL


def test_strangers_beside_hstore_are_a_warning() -> None:
    found = findings.hstore(SEEN, None, "PUBLIC")
    assert found.verdict is WARN
    assert found.advice == "REVOKE CREATE ON SCHEMA public FROM PUBLIC"


def test_another_release_is_told_from_a_newer_one() -> None:
    assert findings.installation(INSTALLED).verdict is OK
    assert findings.installation(INSTALLED._replace(script="other")).verdict is WARN
    assert findings.installation(INSTALLED._replace(version=JOURNAL_VERSION - 1)).verdict is WARN
    assert findings.installation(INSTALLED._replace(version=JOURNAL_VERSION + 1)).verdict is FAIL


def test_each_table_has_its_finding() -> None:
    found = findings.triggers(INSTALLED._replace(defects=["pbs.node: no triggers"]))
    assert {item.subject: item.verdict for item in found} == {
        "triggers on pbs.job": OK,
        "triggers on pbs.queue": OK,
        "triggers on pbs.node": FAIL,
        "triggers on pbs.resv": OK,
        "triggers on pbs.server": OK,
        "triggers on pbs.scheduler": OK,
    }
    assert all("upgrade" in item.advice for item in found if item.verdict is FAIL)


@pytest.mark.parametrize(("mode", "verdict"), [(0, OK), (1, WARN), (2, OK), (3, WARN)])
def test_the_switch(mode: int, verdict: Verdict) -> None:
    assert findings.switch(JOURNAL._replace(mode=mode)).verdict is verdict


@pytest.mark.parametrize(
    ("size", "verdict"), [(1 << 29, OK), ((1 << 29) + 1, WARN), ((1 << 30) + 1, FAIL)]
)
def test_the_journal_against_its_cap(size: int, verdict: Verdict) -> None:
    assert findings.size(JOURNAL._replace(bytes=size)).verdict is verdict


@pytest.mark.parametrize(
    ("sessions", "rows", "oldest", "verdict"),
    [
        (0, 0, None, WARN),
        (1, 0, None, OK),
        (1, 1, 9999.0, OK),
        (2, 65, 599.0, OK),
        (2, 65, 601.0, WARN),
    ],
)
def test_reading(sessions: int, rows: int, oldest: float | None, verdict: Verdict) -> None:
    seen = JOURNAL._replace(sessions=sessions, rows=rows, oldest_seconds=oldest)
    assert findings.reading("reader", seen).verdict is verdict


def test_the_last_heartbeat_is_told() -> None:
    assert "heartbeat 7 s ago" in findings.reading("r", JOURNAL._replace(beat_seconds=7.0)).text


def test_times_are_told_in_words() -> None:
    for seconds, words in [(3.4, "3 s ago"), (600.0, "10 min ago"), (90000.0, "25 h ago")]:
        assert findings.last_row(JOURNAL._replace(newest_seconds=seconds)).text == words
    assert findings.last_row(JOURNAL._replace(newest_seconds=None)).text == "none yet"


def test_losses_are_a_warning_until_the_log_was_told() -> None:
    assert findings.losses(JOURNAL).verdict is OK
    lossy = JOURNAL._replace(lost=(3 << 24) + 777, last_gap="error, noon (why)")
    assert findings.losses(lossy, told=1).verdict is WARN
    assert "2 of them not told" in findings.losses(lossy, told=1).text
    assert "1 of them not told" in findings.losses(lossy, told=lossy.lost + 1).text
    on = lossy.lost + (1 << 24)
    assert findings.losses(lossy, told=on, before=lossy.lost - 1).verdict is OK
    assert findings.losses(lossy, told=on, before=on).verdict is WARN
    for told in (lossy.lost, None):
        assert findings.losses(lossy, told=told).verdict is OK
        assert "error, noon" in findings.losses(lossy, told=told).text


def test_a_refused_reader_is_not_said_to_be_away() -> None:
    assert "refused" in findings.reading("reader", JOURNAL, may_read=False).advice


def test_another_database_is_not_advised_to_be_installed_in() -> None:
    assert "install`" in findings.no_installation(SEEN).advice
    elsewhere = findings.no_installation(SEEN._replace(has_pbs=False))
    assert "pbs_datastore" in elsewhere.advice


def test_a_filling_queue_names_the_culprit() -> None:
    assert findings.queue(SEEN).verdict is OK
    found = findings.queue(SEEN._replace(queue_usage=0.5, idle_in_transaction="pid 7 (x) for 9 s"))
    assert found.verdict is WARN
    assert "pid 7" in found.advice


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (None, FAIL),
        (Reader(can_log_in=True, lacks=["pbs.job"], exceeds=False), FAIL),
        (Reader(can_log_in=False, lacks=[], exceeds=False), FAIL),
        (Reader(can_log_in=True, lacks=[], exceeds=True), WARN),
        (Reader(can_log_in=True, lacks=[], exceeds=False), OK),
    ],
)
def test_the_rights_of_the_reader(seen: Reader | None, verdict: Verdict) -> None:
    assert findings.reader("reader", seen).verdict is verdict


def test_a_report_is_as_good_as_its_worst_finding() -> None:
    good, bad = Finding("a", OK, "well"), Finding("b", FAIL, "ill", "mend it")
    assert CheckReport("x", (good,)).verdict is OK
    report = CheckReport("x", (good, Finding("c", WARN, "so-so", "look"), bad))
    assert report.verdict is FAIL
    assert report.lines() == [
        "OK    a: well",
        "WARN  c: so-so",
        "      look",
        "FAIL  b: ill",
        "      mend it",
    ]
