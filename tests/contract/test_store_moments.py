"""Who is meant at a moment: by how the object stood then, not by what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast.selection import Selection
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def change(
    object_id: str,
    seconds: float,
    kind: Kind = Kind.JOB,
    event: EventName = EventName.MODIFY,
    *,
    begins: bool = False,
    ends: bool = False,
    **stands: Any,
) -> Draft:
    where = {"owner": "alice", "queue": "q1", "project": "p1", "name": "n1", "state": "Q", **stands}
    payload = ChangePayload(changed={"at": str(seconds)}, **where)
    return Draft(
        kind, object_id, event, at(seconds), Provenance.JOURNAL, payload, begins=begins, ends=ends
    )


def end(job: str, seconds: float) -> Draft:
    where: dict[str, Any] = {"owner": "alice", "queue": "q1", "project": "p1", "name": "n1"}
    payload = FinalizePayload(state="F", reason=Reason.FINISHED, **where)
    return Draft(
        Kind.JOB, job, EventName.FINALIZE, at(seconds), Provenance.JOURNAL, payload, ends=True
    )


async def write(log: Log, *drafts: Draft) -> None:
    await log.register_site("sitea")
    writer = await log.acquire("sitea", "test", 60)
    assert writer is not None
    await writer.append(list(drafts), {})
    await writer.release()


async def stood(log: Log, moment: datetime | Mapping[str, int], **criteria: Any) -> list[str]:
    """`id:incarnation:state` of those that are meant."""
    page = await log.at(Selection.model_validate(criteria), moment)
    assert page.next is None
    return [f"{row.id}:{row.incarnation}:{row.state}" for _, row in page.rows]


async def differed(log: Log, begin: int, until: int, **criteria: Any) -> list[str]:
    """`id` of those that are meant, and whether they ended, by positions."""
    selection = Selection.model_validate(criteria)
    page = await log.difference(selection, {"sitea": begin}, {"sitea": until})
    return [f"{row.after.id}:{'ended' if row.ended else 'lives'}" for _, row in page.rows]


async def test_queue_project_and_name_are_those_of_the_moment(log: Log) -> None:
    """A job that was routed since was in the queue where it waited then, and in no other."""
    new: dict[str, Any] = {"queue": "q2", "project": "p2", "name": "n2[.*]"}
    await write(log, change("1.sitea", 0, begins=True), change("1.sitea", 100, **new))
    fields = {"queue": "queues", "project": "projects", "name": "names"}
    old = {"queue": "q1", "project": "p1", "name": "n1"}
    for field, criterion in fields.items():
        before, after = {criterion: [old[field]]}, {criterion: [new[field]]}
        for early, late in ((at(50), at(100)), ({"sitea": 1}, {"sitea": 2})):
            assert await stood(log, early, **before) == ["1.sitea:1:Q"]
            assert await stood(log, early, **after) == []
            assert await stood(log, late, **before) == []
            assert await stood(log, late, **after) == ["1.sitea:1:Q"]
            assert await stood(log, late, ids=["1.sitea"], **before) == []
        for question in (before, after):
            assert await differed(log, 1, 2, **question) == ["1.sitea:lives"]
        assert await differed(log, 1, 2, **{criterion: ["other"]}) == []
    assert await differed(log, 1, 2, queues=["q1"], projects=["p2"]) == []


async def test_names_are_matched_as_the_database_matches_them(log: Log) -> None:
    names = ["fit_1", "fit%2", "a\nb", "N1", "a.b", ""]
    await write(
        log,
        *(change(f"{n}.sitea", 0, begins=True, name=name) for n, name in enumerate(names)),
        change("9.sitea", 0, begins=True, name=None),
    )
    for pattern in (
        "fit_1",
        "fit?1",
        "fit%*",
        "a*b",
        "a?b",
        "a.b",
        "n1",
        "*",
        "?*",
        "*_*",
        "[fN]*",
    ):
        now = await log.snapshot(Selection(names=(pattern,)))
        expected = [f"{row.id}:1:Q" for _, row in now.rows]
        assert await stood(log, at(0), names=[pattern]) == expected, pattern


async def test_a_life_that_nothing_ended_goes_on_until_the_next_begins(log: Log) -> None:
    """A node's row was replaced while nobody looked; another's was deleted and came back."""

    def node(name: str, seconds: float, **flags: bool) -> Draft:
        event = EventName.DELETE if flags.get("ends") else EventName.CREATE
        return change(name, seconds, Kind.NODE, event, state="free", **flags)

    await write(
        log,
        node("n1", 0, begins=True),
        node("n2", 1, begins=True),
        node("n2", 10, ends=True),
        node("n1", 30, begins=True),
        node("n2", 30, begins=True),
    )
    told = [await stood(log, {"sitea": position}, kind="node") for position in range(1, 6)]
    n1, n2, n1_again, n2_again = (f"{name}:free" for name in ("n1:1", "n2:1", "n1:2", "n2:2"))
    assert told == [[n1], [n1, n2], [n1], [n1_again], [n1_again, n2_again]]
    assert await stood(log, at(15), kind="node") == [n1]
    by_id = await log.at(Selection(kind=Kind.NODE, ids=("n1", "n2")), {"sitea": 3})
    assert [row.ended for _, row in by_id.rows] == [None, at(10)]
    assert await differed(log, 0, 3, kind="node") == ["n1:lives", "n2:ended"]
    assert await differed(log, 3, 4, kind="node") == ["n1:ended", "n1:lives"]


CLOCK = [("1.sitea", 7200, "Q"), ("1.sitea", 3600, "R"), ("1.sitea", 3660, "E")]
"""Submitted at eleven; then the datastore's clock was put back by an hour, and it ran at ten."""


async def test_what_happened_after_a_clock_went_back_is_found(log: Log) -> None:
    drafts = [change(job, time, begins=state == "Q", state=state) for job, time, state in CLOCK]
    first, *rest = drafts
    await write(log, change("9.sitea", 0, begins=True), first)
    for draft in rest:  # in batches of their own: the log knows only part of the life
        await write(log, draft)
    alone: dict[str, Any] = {"ids": ["1.sitea"]}
    assert await stood(log, at(3650), owners=["alice"]) == ["9.sitea:1:Q", "1.sitea:1:R"]
    await write(log, end("1.sitea", 3670))
    [life] = (await log.lives(Selection(**alone))).lives
    assert (life.began, life.ended) == (at(3600), at(3670))

    nobody, other = ["9.sitea:1:Q"], "9.sitea:1:Q"
    for seconds, told in [
        (3599, nobody),
        (3600, [other, "1.sitea:1:R"]),
        (3665, [other, "1.sitea:1:E"]),
        (3670, nobody),
        (7200, nobody),
    ]:
        assert await stood(log, at(seconds)) == told, seconds
    assert await stood(log, at(3600), **alone) == ["1.sitea:1:R"]
    assert await stood(log, at(7200), **alone) == ["1.sitea:1:F"]
    assert (await log.at(Selection(**alone), at(3599))).rows == []
    questions: list[dict[str, Any]] = [{}, alone, {"owners": ["alice"]}]
    for question in questions:
        selection = Selection.model_validate(question)
        page = await log.events(selection, begin=at(3000), end=at(4000))
        assert [record.position for record in page.records] == [3, 4, 5]


async def test_what_came_after_an_end_moves_no_beginning(log: Log) -> None:
    """The row of a job that had ended was purged by a clock that had been put back."""
    purge = change("1.sitea", 10, event=EventName.PURGE, state="F", ends=True)
    ended = replace(end("1.sitea", 120), ends=False)
    await write(log, change("9.sitea", 0, begins=True), change("1.sitea", 100, begins=True), ended)
    await write(log, purge)
    [life] = (await log.lives(Selection(ids=("1.sitea",)))).lives
    assert (life.began, life.ended, life.gone) == (at(100), at(120), at(10))
    assert await stood(log, at(50)) == ["9.sitea:1:Q"]
