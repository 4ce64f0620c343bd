"""What the log answers about lives and moments, and how histories of several sites become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pbscast.errors import NotFoundError, UsageError
from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    Kind,
    Provenance,
    Reason,
    Site,
)
from pbscast.lives import Difference, Standing
from pbscast.selection import Selection
from pbscast_store import stories
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.standings import Page, Spot

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def change(job: str, seconds: float, state: str, **changed: Any) -> Draft:
    name = changed.pop("name", "STDIN")
    owner = changed.pop("owner", "alice")
    removed = changed.pop("removed", ())
    begins = changed.pop("begins", False)
    payload = ChangePayload(
        owner=owner,
        queue="workq",
        project="p1",
        name=name,
        state=state,
        changed=changed,
        removed=removed,
    )
    event = EventName.SUBMIT if begins else EventName.STATE
    return Draft(Kind.JOB, job, event, at(seconds), Provenance.JOURNAL, payload, begins=begins)


def end(job: str, seconds: float, reason: str = "finished", **fields: Any) -> Draft:
    ends = fields.pop("ends", True)
    values = {"owner": "alice", "queue": "workq", "project": "p1", "name": "STDIN", "state": "F"}
    payload = FinalizePayload.model_validate({**values, **fields, "reason": reason})
    return Draft(
        Kind.JOB, job, EventName.FINALIZE, at(seconds), Provenance.JOURNAL, payload, ends=ends
    )


def life(job: str, begin: float, **fields: Any) -> list[Draft]:
    """Queued at once, running after 10 seconds, ended after 20."""
    owner, name = fields.pop("owner", "alice"), fields.pop("name", "STDIN")
    return [
        change(job, begin, "Q", begins=True, owner=owner, name=name, job_state="Q"),
        change(job, begin + 10, "R", owner=owner, name=name, job_state="R"),
        end(job, begin + 20, owner=owner, name=name, **fields),
    ]


def in_order(*lives: Iterable[Draft]) -> list[Draft]:
    """As a datastore would tell them."""
    return sorted((draft for drafts in lives for draft in drafts), key=lambda draft: draft.time)


async def write(log: Log, site: str, drafts: Iterable[Draft]) -> None:
    await log.register_site(site)
    writer = await log.acquire(site, "test", 60)
    assert writer is not None
    await writer.append(list(drafts), {})
    await writer.release()


async def told(log: Log, limit: int = 3, **question: Any) -> list[str]:
    """`site:position` of all events, asked in small pages."""
    criteria = {
        name: question.pop(name) for name in list(question) if name in Selection.model_fields
    }
    found: list[str] = []
    positions: Mapping[str, int] = {}
    while True:
        page = await log.events(
            Selection.model_validate(criteria), positions=positions, limit=limit, **question
        )
        found += [f"{record.site}:{record.position}" for record in page.records]
        if not page.more:
            return found
        positions = page.positions


async def lived(log: Log, **question: Any) -> list[str]:
    criteria = {
        name: question.pop(name) for name in list(question) if name in Selection.model_fields
    }
    found: list[str] = []
    positions: Mapping[str, int] = {}
    while True:
        page = await log.lives(
            Selection.model_validate(criteria), positions=positions, limit=2, **question
        )
        found += [item.id for item in page.lives]
        if not page.more:
            return found
        positions = page.positions


async def stood(
    log: Log, moment: datetime | Mapping[str, int], *, attributes: bool = False, **criteria: Any
) -> list[Standing]:
    found: list[Standing] = []
    after: Spot | None = None
    while True:
        page = await log.at(
            Selection.model_validate(criteria), moment, attributes=attributes, after=after, limit=2
        )
        found += [row for _, row in page.rows]
        if page.next is None:
            return found
        after = page.next


async def differed(log: Log, begin: Any, until: Any, **criteria: Any) -> list[Difference]:
    found: list[Difference] = []
    after: Spot | None = None
    while True:
        selection = Selection.model_validate(criteria)
        page = await log.difference(selection, begin, until, after=after, limit=2)
        found += [row for _, row in page.rows]
        if page.next is None:
            return found
        after = page.next


@pytest.fixture
async def cluster(log: Log) -> Log:
    """Two sites; job n of sitea begins at 100 n seconds."""
    lives = [
        life("1.sitea", 100, owner="alice", exit_status=0),
        life("2.sitea", 200, owner="bob", name="fit_1", reason="failed", exit_status=1),
        life("3.sitea", 300, owner="bob", name="fit%2", reason="deleted"),
        life("4[].sitea", 400, owner="carol"),
        life("4[1].sitea", 405, owner="carol"),
        [change("5.sitea", 500, "Q", begins=True, owner="dave", queue="x")],
    ]
    await write(log, "sitea", in_order(*lives))
    await write(log, "siteb", in_order(life("1.siteb", 305, owner="bob", name="fit_1")))
    return log


async def test_history_goes_either_way(cluster: Log) -> None:
    forward = await told(cluster, ids=["2.sitea", "1.siteb"])
    assert forward == ["sitea:4", "sitea:5", "sitea:6", "siteb:1", "siteb:2", "siteb:3"]
    assert await told(cluster, ids=["2.sitea", "1.siteb"], newest_first=True) == forward[::-1]
    everything = await told(cluster)
    assert len(everything) == len(set(everything)) == 19
    assert await told(cluster, newest_first=True) == everything[::-1]


SELECTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"owners": ["bob"]}, ["2.sitea", "3.sitea", "1.siteb"]),
    ({"owners": ["bob"], "sites": ["siteb"]}, ["1.siteb"]),
    ({"names": ["fit?1"]}, ["2.sitea", "1.siteb"]),
    ({"names": ["fit%*"]}, ["3.sitea"]),
    ({"names": ["fit_1", "nothing"]}, ["2.sitea", "1.siteb"]),
    ({"reasons": ["failed", "deleted"]}, ["2.sitea", "3.sitea"]),
    ({"exit_statuses": [0]}, ["1.sitea"]),
    ({"states": ["Q"]}, ["5.sitea"]),
    ({"reached": ["R"], "owners": ["carol", "dave"]}, ["4[].sitea", "4[1].sitea"]),
    ({"queues": ["nowhere"]}, []),
    ({"projects": ["p1"], "owners": ["dave"]}, ["5.sitea"]),
    ({"ids": ["4[].sitea"], "owners": ["carol"]}, ["4[].sitea", "4[1].sitea"]),
    ({"begin": at(310), "end": at(325)}, ["3.sitea", "1.siteb"]),
    ({"end": at(200)}, ["1.sitea"]),
    ({"begin": at(425)}, ["4[1].sitea", "5.sitea"]),
]


@pytest.mark.parametrize("few", [stories.FEW, 0])
async def test_lives_and_history_by_selection(
    cluster: Log, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Whether each life's events are looked up or the log is read in order."""
    monkeypatch.setattr(stories, "FEW", few)
    monkeypatch.setattr(stories, "STRIDE", 2)
    records = [record for site in ("sitea", "siteb") for record in await cluster.read(site, 0, 100)]
    for question, jobs in SELECTIONS:
        assert await lived(cluster, newest_first=False, **question) == jobs
        assert await lived(cluster, newest_first=True, **question) == jobs[::-1]
        story = await told(cluster, **question)
        assert await told(cluster, newest_first=True, **question) == story[::-1]
        begin, until = question.get("begin", at(0)), question.get("end", at(10_000))
        assert sorted(story) == sorted(
            f"{record.site}:{record.position}"
            for record in records
            if record.id in jobs and begin <= record.time < until
        )


async def test_a_life_is_told_whole(cluster: Log) -> None:
    [failed] = (await cluster.lives(Selection(owners=("bob",), reasons=(Reason.FAILED,)))).lives
    assert (failed.id, failed.incarnation, failed.site) == ("2.sitea", 1, "sitea")
    assert (failed.first_position, failed.last_position) == (4, 6)
    assert (failed.began, failed.ended, failed.gone) == (at(200), at(220), at(220))
    assert (failed.exit_status, failed.state, failed.reached) == (1, "F", ("Q", "R", "F"))
    [living] = (await cluster.lives(Selection(owners=("dave",)))).lives
    assert (living.ended, living.reason, living.reached) == (None, None, ("Q",))


async def test_what_the_log_does_not_know_is_not_found(cluster: Log) -> None:
    with pytest.raises(NotFoundError, match=r"^the log has no job 9\.sitea$"):
        await told(cluster, ids=["1.sitea", "9.sitea"])
    with pytest.raises(NotFoundError, match=r"no job 8\[\]\.sitea at site siteb"):
        await told(cluster, ids=["8[].sitea"], sites=["siteb"])
    with pytest.raises(NotFoundError, match=r"no such site: sitec \(known: sitea, siteb\)"):
        await lived(cluster, sites=["sitec"])
    with pytest.raises(NotFoundError, match=r"the log begins at 2026-11-22T09:01:40\.000000Z"):
        await stood(cluster, at(99))
    with pytest.raises(UsageError, match="lies in the future"):
        await stood(cluster, datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(
        UsageError, match="position 99 is beyond the log of sitea, which ends at 16"
    ):
        await stood(cluster, {"sitea": 99})
    with pytest.raises(NotFoundError, match="no such site: sitec"):
        await stood(cluster, {"sitec": 1})
    for ask in (cluster.events, cluster.lives):
        with pytest.raises(NotFoundError, match=r"no such site: siteb \(asked about: sitea\)"):
            await ask(Selection(sites=(Site("sitea"),)), positions={"siteb": 1})
        with pytest.raises(UsageError, match="position 17 is beyond the log of sitea"):
            await ask(Selection(), positions={"sitea": 17}, newest_first=False)


async def test_whether_jobs_live_is_said_of_many_at_once(log: Log) -> None:
    await write(log, "sitea", [change(job, 1, "R") for job in ("1.sitea", "6[].sitea")])
    await write(log, "sitea", [change(f"6[{index}].sitea", 2, "R") for index in range(3)])
    await write(log, "sitea", [change("66[1].sitea", 2, "R"), change("6[1].siteb", 2, "R")])
    await write(log, "sitea", [end("6[1].sitea", 3), end("1.sitea", 4, "moved")])
    await write(log, "siteb", [change("1.sitea", 5, "Q")])
    latest = await log.latest_lives(["1.sitea", "6[].sitea", "9.sitea"], ["sitea", "siteb"])
    assert latest.positions == {"sitea": 9, "siteb": 1}
    found = {(life.site, life.id): (life.ended, life.reason) for life in latest.lives}
    assert found == {
        ("sitea", "1.sitea"): (at(4), "moved"),
        ("siteb", "1.sitea"): (None, None),
        ("sitea", "6[].sitea"): (None, None),
        ("sitea", "6[0].sitea"): (None, None),
        ("sitea", "6[2].sitea"): (None, None),
    }
    assert (await log.latest_lives(["1.sitea"], ["siteb", "sitec"])).positions == {"siteb": 1}


async def test_unknown_ids_can_be_passed_over(cluster: Log) -> None:
    some, none = Selection(ids=("9.sitea", "1.sitea")), Selection(ids=("9.sitea", "8[].sitea"))
    moment = {"sitea": await cluster.position("sitea")}
    for selection, ids in ((some, ["1.sitea"]), (none, [])):
        now = await cluster.snapshot(selection, known_only=True)
        then = await cluster.at(selection, moment, known_only=True)
        for page in (now, then):
            assert [standing.id for _, standing in page.rows] == ids
        assert set(now.positions) == {"sitea", "siteb"}


async def test_a_job_that_moved_is_one_story(log: Log) -> None:
    """The new site knows the job before the old one says that it has left, or its clock lags."""
    await write(
        log,
        "siteb",
        [
            change("7.sitea", 0, "Q", begins=True),
            change("7.sitea", 10, "M"),
            end("7.sitea", 10.5, "moved", destination="workq@sitea", state="M", ends=False),
            change("7.sitea", 90, "M"),
        ],
    )
    await write(log, "sitea", life("7.sitea", 9.8))
    story = ["siteb:1", "siteb:2", "siteb:3", "sitea:1", "sitea:2", "sitea:3", "siteb:4"]
    for limit in (1, 2, 100):
        assert await told(log, limit, ids=["7.sitea"]) == story
        assert await told(log, limit, ids=["7.sitea"], newest_first=True) == story[::-1]
        assert await told(log, limit, owners=["alice"]) == story


async def test_how_objects_stood_at_a_time(cluster: Log) -> None:
    assert await stood(cluster, at(120)) == []
    assert [(item.id, item.state) for item in await stood(cluster, at(119.9))] == [("1.sitea", "R")]
    both = await stood(cluster, at(312))
    assert [(item.site, item.id, item.state) for item in both] == [
        ("sitea", "3.sitea", "R"),
        ("siteb", "1.siteb", "Q"),
    ]
    assert [item.id for item in await stood(cluster, at(312), states=["R"])] == ["3.sitea"]
    assert [item.id for item in await stood(cluster, at(312), reasons=["deleted"])] == ["3.sitea"]
    later = await stood(cluster, at(5_000))
    assert [(item.id, item.position, item.revision) for item in later] == [("5.sitea", 16, 1)]


async def test_how_objects_stood_at_a_position(cluster: Log) -> None:
    """Job 4[] and its subjob interleave: after each event exactly those are live that should be."""
    steps = {p: [item.id for item in await stood(cluster, {"sitea": p})] for p in range(1, 17)}
    assert steps[1] == steps[2] == ["1.sitea"]
    assert steps[3] == []
    assert steps[10] == ["4[].sitea"]
    assert steps[11] == steps[13] == ["4[].sitea", "4[1].sitea"]
    assert steps[14] == ["4[1].sitea"]
    assert steps[15] == []
    assert steps[16] == ["5.sitea"]
    [standing] = await stood(cluster, {"sitea": 14})
    assert (standing.position, standing.state, standing.began) == (13, "R", at(405))


async def test_an_object_asked_for_by_id_is_told_after_its_end(log: Log) -> None:
    again = [change("1.sitea", 200, "Q", begins=True, owner="bob")]
    await write(log, "sitea", [*life("1.sitea", 100, exit_status=0), *again])

    async def one(moment: Any) -> Standing:
        [standing] = await stood(log, moment, ids=["1.sitea"])
        return standing

    for moment in (at(120), at(199), {"sitea": 3}):
        ended = await one(moment)
        assert (ended.incarnation, ended.ended, ended.reason) == (1, at(120), Reason.FINISHED)
        assert (ended.exit_status, ended.state) == (0, "F")
    for moment in (at(119), {"sitea": 2}):
        live = await one(moment)
        assert (live.ended, live.reason, live.exit_status, live.state) == (None, None, None, "R")
    assert (await one(at(200))).incarnation == (await one({"sitea": 4})).incarnation == 2


async def test_attributes_at_a_moment_are_what_the_events_had_left(log: Log) -> None:
    big = "x" * 50_000
    drafts = [
        change("1.sitea", 0, "Q", begins=True, a="1", Variable_List=big),
        change("2.sitea", 0, "Q", begins=True, a="7"),
        change("1.sitea", 1, "R", a="2", b="é"),
        change("1.sitea", 2, "R", removed=("a",)),
    ]
    await write(log, "sitea", drafts)
    for number, expected in enumerate(
        [{"a": "1"}, {"a": "1"}, {"a": "2", "b": "é"}, {"b": "é"}], start=1
    ):
        first, *_ = await stood(log, {"sitea": number}, attributes=True)
        assert first.attributes == {"Variable_List": big, **expected}
        assert first.columns == {}
    assert [item.attributes for item in await stood(log, at(1), attributes=True, states=["Q"])] == [
        {"a": "7"}
    ]
    [without] = await stood(log, at(0), ids=["2.sitea"])
    assert without.attributes is None


async def test_where_an_object_stands_is_found_behind_very_long_names(log: Log) -> None:
    drafts = [change("1.sitea", 0, "Q", begins=True, name="n" * 9_000, Variable_List="v" * 9_000)]
    await write(log, "sitea", drafts)
    [standing] = await stood(log, at(0))
    assert (standing.state, standing.name) == ("Q", "n" * 9_000)


async def test_the_difference_of_two_moments(cluster: Log) -> None:
    found = await differed(cluster, at(205), at(311))
    assert [(item.after.id, item.appeared, item.ended) for item in found] == [
        ("2.sitea", False, True),
        ("3.sitea", True, False),
        ("1.siteb", True, False),
    ]
    changed, *_ = found
    assert changed.before is not None
    assert (changed.before.state, changed.after.state) == ("Q", "F")
    assert changed.changed == {"job_state": ("Q", "R")}
    assert (changed.after.reason, changed.after.exit_status) == (Reason.FAILED, 1)
    passed = await differed(cluster, at(150), at(250))
    assert [(item.appeared, item.ended) for item in passed] == [(True, True)]
    assert await differed(cluster, at(221), at(299)) == []
    assert [item.after.id for item in await differed(cluster, at(205), at(311), states=["Q"])] == [
        "2.sitea",
        "1.siteb",
    ]


async def test_the_difference_of_two_positions(cluster: Log) -> None:
    found = await differed(cluster, {"sitea": 11}, {"sitea": 14})
    assert [(item.after.id, item.appeared, item.ended) for item in found] == [
        ("4[].sitea", False, True),
        ("4[1].sitea", False, False),
    ]
    assert await differed(cluster, {"sitea": 3}, {"sitea": 3}) == []


async def test_a_change_and_its_undoing_make_no_difference(log: Log) -> None:
    drafts = [
        change("1.sitea", 0, "Q", begins=True, a="1"),
        change("1.sitea", 1, "H", a="2", b="3"),
        change("1.sitea", 2, "Q", a="1", removed=("b",)),
    ]
    await write(log, "sitea", drafts)
    assert await differed(log, at(0), at(2)) == []
    [found] = await differed(log, at(0), at(1))
    assert found.changed == {"a": ("1", "2"), "b": (None, "3")}


async def test_a_snapshot_is_of_one_moment_and_names_it(cluster: Log) -> None:
    page = await cluster.snapshot(Selection(), attributes=True)
    assert page.positions == {"sitea": 16, "siteb": 3}
    [(spot, standing)] = page.rows
    assert (standing.id, standing.position, standing.state) == ("5.sitea", 16, "Q")
    assert (standing.began, standing.attributes) == (at(500), {"queue": "x"})
    assert spot == Spot("sitea", 16)
    by_id = await cluster.snapshot(Selection(ids=("1.sitea", "5.sitea")))
    assert [(row.id, row.ended, row.attributes) for _, row in by_id.rows] == [
        ("1.sitea", at(120), None),
        ("5.sitea", None, None),
    ]
    rest = await cluster.snapshot(Selection(ids=("1.sitea", "5.sitea")), after=by_id.rows[0][0])
    assert [row.id for _, row in rest.rows] == ["5.sitea"]


async def test_the_time_of_the_projection_is_that_of_the_fold(cluster: Log) -> None:
    snapshot = await cluster.snapshot(
        Selection(ids=("1.sitea", "2.sitea", "5.sitea")), attributes=True
    )
    at_now = await stood(
        cluster, datetime.now(UTC), attributes=True, ids=["1.sitea", "2.sitea", "5.sitea"]
    )
    assert [row for _, row in snapshot.rows] == at_now


async def test_pages_end_by_bytes_and_go_on(log: Log) -> None:
    drafts = [change(f"{n}.sitea", n, "Q", begins=True, a="x" * 1_000) for n in range(1, 8)]
    await write(log, "sitea", drafts)
    selection = Selection(sites=(Site("sitea"),))

    async def by_time(after: Spot | None) -> Page[Standing]:
        return await log.at(selection, at(10), attributes=True, after=after, max_bytes=2_500)

    async def now(after: Spot | None) -> Page[Standing]:
        return await log.snapshot(selection, attributes=True, after=after, max_bytes=2_500)

    for ask in (by_time, now):
        page = await ask(None)
        sizes = [len(page.rows)]
        while page.next is not None:
            page = await ask(page.next)
            sizes.append(len(page.rows))
        assert sizes == [3, 3, 1]
