"""A report counts what a whole history of the same time would, in the memory of what lives."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness.fanning import logged, write

from pbscast.census import Census, Tally
from pbscast.errors import NotFoundError
from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    Payload,
    Provenance,
    Reason,
)
from pbscast.timeline import Timeline
from pbscast_deploy.report.owner_plots import owner_sections
from pbscast_deploy.report.page import report_page
from pbscast_deploy.report.reading import Reading, read_site
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

BEGIN = datetime(2026, 11, 22, 9, tzinfo=UTC)
NOW = BEGIN + timedelta(hours=1)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def draft(
    seconds: float, job: str, event: EventName, payload: Payload, *, kind: Kind = Kind.JOB
) -> Draft:
    return Draft(
        kind=kind,
        id=job,
        event=event,
        time=at(seconds),
        provenance=Provenance.JOURNAL,
        payload=payload,
        begins=event is EventName.SUBMIT,
        ends=event is EventName.PURGE,
    )


def life(job: str, submit: float, run: float, end: float | None, owner: str) -> Iterable[Draft]:
    common: dict[str, Any] = {"owner": owner, "queue": "workq"}
    yield draft(submit, job, EventName.SUBMIT, ChangePayload(state="Q", **common))
    running = ChangePayload(state="R", old_state="Q", **common)
    yield draft(run, job, EventName.STATE, running)
    yield draft(run + 1, job, EventName.MODIFY, ChangePayload(state="R", **common))
    if end is not None:
        ended = FinalizePayload(reason=Reason.FAILED, exit_status=1, state="F", **common)
        yield draft(end, job, EventName.FINALIZE, ended)
        purged = ChangePayload(state="F", **common)
        yield draft(end + 30, job, EventName.PURGE, purged)


def everything() -> list[Draft]:
    lives = [
        life("1.a", 0, 10, 20, "alice"),  # over before the period
        life("2.a", 0, 10, 200, "alice"),  # runs when it begins
        life("3.a", 50, 150, None, "bob"),  # waits when it begins, lasts beyond it
        life("4.a", 120, 130, 140, "bob"),  # within it
        life("1.a", 160, 170, 290, "carol"),  # an id that came back
        life("5.a", 350, 360, 370, "dave"),  # after it
        [draft(180, "a", EventName.GAP, GapPayload(cause="cap"), kind=Kind.SITE)],
    ]
    return sorted((item for found in lives for item in found), key=lambda item: item.time)


async def whole(log: Log, site: str, census: Census) -> Census:
    timeline = Timeline.of([record.decode() for record in await logged(log, site)])
    for course in timeline.courses:
        census.add(course, NOW)
    return census


def plain(census: Census) -> dict[str, Any]:
    def tally(item: Tally) -> dict[str, Any]:
        found = asdict(item)
        return found | {name: vars(found[name]) for name in ("waits", "runs")}

    return {
        "lives": census.lives,
        "sites": {name: tally(item) for name, item in census.sites.items()},
        "owners": {name: tally(item) for name, item in census.owners.items()},
        "states": {name: dict(item.states()) for name, item in census.states.items()},
        "longest": [(course.key, course.began) for course in census.longest],
    }


async def read(log: Log, begin: datetime, end: datetime) -> Reading:
    reading = Reading(Census(begin, end))
    await read_site(log, "a", reading, lambda _: None)
    return reading


@pytest.mark.parametrize(("begin", "end"), [(100, 300), (-50, 300), (15, 16), (0, 3000)])
async def test_a_report_is_what_the_whole_history_says(log: Log, begin: int, end: int) -> None:
    await write(log, "a", everything())
    reading = await read(log, at(begin), at(end))
    assert plain(reading.census) == plain(await whole(log, "a", Census(at(begin), at(end))))


async def test_a_page_tells_its_facts(log: Log) -> None:
    await write(log, "a", everything())
    reading = await read(log, at(100), at(300))
    assert (reading.census.lives, len(reading.gaps)) == (4, 1)
    assert set(reading.census.owners) == {"alice", "bob", "carol"}
    html = "".join(report_page(reading, ["a"], NOW))
    text = re.sub(r"<[^>]*>", " ", html.partition("<script")[0])
    first, last = reading.positions["a"]
    assert f"a {first} to {last}" in text
    assert "Gaps in capture" in text
    assert ">cap<" in html


async def test_owners_have_plots_of_their_own(log: Log) -> None:
    await write(log, "a", everything())
    reading = await read(log, at(100), at(300))
    (section,) = owner_sections(reading.owners)
    running, queued = section.drawings
    drawn = {line.name: max(line.y) for line in running.figure.data}
    assert {name for name, most in drawn.items() if most} == {"alice", "bob", "carol"}
    # 2.a runs from before the period until its middle, and nothing else is alice's.
    alice = next(line for line in running.figure.data if line.name == "alice")
    assert [sum(alice.y[:60]), sum(alice.y[61:])] == [60, 0]
    assert {line.name for line in queued.figure.data} >= {"bob", "carol"}
    html = "".join(report_page(reading, ["a"], NOW))
    assert "Owners over time" in html


async def test_an_empty_period_is_a_page_that_says_so(log: Log) -> None:
    await write(log, "a", everything())
    reading = await read(log, BEGIN - timedelta(days=2), BEGIN - timedelta(days=1))
    assert "No job lived in this period" in "".join(report_page(reading, ["a"], NOW))


async def test_a_site_that_is_not_there(log: Log) -> None:
    with pytest.raises(NotFoundError, match="no such site: a"):
        await read(log, at(0), at(100))
