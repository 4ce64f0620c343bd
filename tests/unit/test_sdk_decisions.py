"""Filters, continuity and endings: decisions without any server."""

from __future__ import annotations

import pytest
from harness.stream import Message, SiteLog

from pbscast import wire
from pbscast.continuity import MOST_OBJECTS, Continuity, Hole
from pbscast.criteria import Coverage, Criteria, is_site_filter
from pbscast.endings import Endings
from pbscast.errors import ConfigError, InvalidJobId, UsageError
from pbscast.events import AnyEvent
from pbscast.options import plan_watch
from pbscast.requests import HistoryRequest
from pbscast.selection import request
from pbscast.settings import Settings, listed
from pbscast.starts import Last, Now, after, since


def read(message: Message) -> AnyEvent:
    return wire.decode(message.body)


@pytest.mark.parametrize(
    ("options", "subjects", "coverage"),
    [
        ({}, ("pbs.v1.*.*.>",), Coverage.SITES),
        ({"sites": ["b", "a"]}, ("pbs.v1.a.*.>", "pbs.v1.b.*.>"), Coverage.SITES),
        ({"kinds": "job"}, ("pbs.v1.*.job.*.*.*.*",), Coverage.OBJECTS),
        ({"owners": "al.ice"}, ("pbs.v1.*.job.al%2Eice.*.*.*",), Coverage.OBJECTS),
        ({"queues": "workq"}, ("pbs.v1.*.job.*.*.*.*",), Coverage.OBJECTS),
        ({"job_ids": "19.s"}, ("pbs.v1.*.job.*.19/s.-.*",), Coverage.OBJECTS),
        ({"job_ids": "19"}, ("pbs.v1.*.job.*.*.*.*",), Coverage.OBJECTS),
        ({"job_ids": ["6[].s", "6[1].s"]}, ("pbs.v1.*.job.*.6[]/s.*.*",), Coverage.OBJECTS),
        ({"job_ids": "6[1].s"}, ("pbs.v1.*.job.*.6[]/s.1.*",), Coverage.OBJECTS),
        (
            {"events": "finalize"},
            ("pbs.v1.*.*.*.finalize", "pbs.v1.*.job.*.*.*.finalize"),
            Coverage.PART,
        ),
        (
            {"owners": "a", "kinds": ["job", "site"]},
            ("pbs.v1.*.job.a.*.*.*", "pbs.v1.*.site.*.*"),
            Coverage.OBJECTS,
        ),
        (
            {"sites": ["a", "b"], "job_ids": [f"{n}.s" for n in range(99)], "owners": "x"},
            ("pbs.v1.a.job.x.*.*.*", "pbs.v1.b.job.x.*.*.*"),
            Coverage.OBJECTS,
        ),
    ],
    ids=str,
)
def test_the_servers_filters(
    options: dict[str, object], subjects: tuple[str, ...], coverage: Coverage
) -> None:
    plan = plan_watch(options.pop("job_ids", None), **options)  # type: ignore[arg-type]
    filters = plan.criteria.filters()
    assert (filters.subjects, filters.coverage) == (subjects, coverage)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": "jobs"}, "kinds: unknown 'jobs'"),
        ({"events": ["end"]}, "events: unknown 'end'"),
        ({"sites": []}, "sites: give at least one"),
        ({"owners": [""]}, "owners: give at least one, and none empty"),
        ({"until_finished": True}, "until_finished needs the ids"),
        ({"until_finished": True, "job_ids": "1.s", "kinds": "node"}, "until_finished needs"),
    ],
    ids=str,
)
def test_criteria_that_cannot_be_meant(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_watch(options.pop("job_ids", None), **options)  # type: ignore[arg-type]


def test_where_a_watch_starts_unless_told() -> None:
    assert plan_watch(None).start == Now()
    assert plan_watch("1.s", until_finished=True).start == Last()


def test_starts_that_cannot_be_meant() -> None:
    naive = wire.decode(SiteLog("s").job("1.s").body).time.replace(tzinfo=None)
    with pytest.raises(UsageError, match="needs its zone"):
        since(naive)
    with pytest.raises(UsageError, match="a position is 0 or more"):
        after({"sitea": -1})


def test_history_needs_a_whole_id() -> None:
    assert request(HistoryRequest, "007[3].sitea", {}).ids == ("7[3].sitea",)
    with pytest.raises(InvalidJobId, match=r"like 19\.SERVER"):
        request(HistoryRequest, "19", {"sites": "sitea"})


def test_settings_come_from_arguments_then_from_the_environment() -> None:
    environ = {"PBSCAST_SERVERS": "nats://a:1, tls://b:2", "PBSCAST_CREDS": ""}
    assert Settings.read(environ=environ).servers == ("nats://a:1", "tls://b:2")
    assert Settings.read("c", environ=environ).servers == ("nats://c",)
    assert Settings.read(environ={}).servers == ("nats://127.0.0.1:4222",)
    assert listed(Settings.read(["u:p@d:1", "e"], environ={}).servers) == "nats://d:1, nats://e"


@pytest.mark.parametrize("url", ["", "http://a", "nats://", "nats://a:x", "nats://a:0"])
def test_settings_that_cannot_be_right(url: str) -> None:
    with pytest.raises(ConfigError, match="not the URL of a NATS server"):
        Settings.read([url], environ={})


def test_repeats_and_holes_of_whole_sites() -> None:
    site, continuity = SiteLog("sitea"), Continuity(Coverage.SITES)
    events = [read(message) for message in site.life("1.sitea")]
    for event in events[1:3]:
        assert continuity.hole_before(event) is None
        continuity.record(event)
    assert [continuity.is_repeat(event) for event in events] == [True, True, True, False, False]
    assert continuity.hole_before(events[4]) == Hole(events[0].site, 3, 5)
    assert continuity.positions == {"sitea": 3}


def test_who_may_not_see_whole_sites_sees_holes_of_objects_alone() -> None:
    for subject in Criteria.of(sites=["sitea", "b.c"]).filters().subjects:
        assert is_site_filter(subject)
    for subject in ("pbs.v1.*.job.alice.*.*.*", "pbs.v1.*.*.*.*", "pbs.v1.*.job.>", "pbs.v1.a.>"):
        assert not is_site_filter(subject)
    for coverage in Coverage:
        continuity = Continuity(coverage)
        continuity.narrow()
        assert continuity.coverage is min(coverage, Coverage.OBJECTS)


def test_holes_of_objects_across_incarnations() -> None:
    site, continuity = SiteLog("sitea"), Continuity(Coverage.OBJECTS)
    first = [read(message) for message in site.life("1.sitea")]
    other = read(site.job("2.sitea"))
    again = [read(message) for message in site.life("1.sitea")]
    for event in (*first, other):
        assert continuity.hole_before(event) is None
        continuity.record(event)
    assert continuity.hole_before(again[0]) is None
    hole = continuity.hole_before(again[1])
    assert hole == Hole(other.site, 5, 8, other.kind, "1.sitea")


def test_what_is_remembered_is_bounded() -> None:
    site, continuity = SiteLog("sitea"), Continuity(Coverage.OBJECTS)
    template = read(site.job("0.sitea"))
    for number in range(MOST_OBJECTS + 10):
        position = number + 1
        continuity.record(
            template.model_copy(update={"id": f"{number}.sitea", "position": position})
        )
    assert len(continuity._heads) == MOST_OBJECTS


def endings(*ids: str, single_site: bool = False) -> Endings:
    return Endings(ids, single_site=single_site)


def feed(item: Endings, *messages: Message) -> list[bool]:
    return [item.observe(read(message)) for message in messages]


def test_a_job_ends_with_its_finalize_and_nothing_is_told_after_it() -> None:
    site, item = SiteLog("sitea"), endings("1.sitea")
    feed(item, *site.life("1.sitea"))
    assert item.complete
    assert feed(item, site.job("1.sitea", "purge")) == [False]
    assert item.complete


def test_an_id_without_server_waits_for_every_job_it_is_known_to_name() -> None:
    here, there, item = SiteLog("sitea"), SiteLog("siteb"), endings("1")
    feed(item, there.job("1.siteb"), *here.life("1.sitea"))
    assert item.pending == ["1"]
    feed(item, there.job("1.siteb", "finalize"))
    assert item.complete


def test_an_array_waits_for_its_subjobs_and_itself() -> None:
    site, item = SiteLog("sitea"), endings("6[].sitea")
    feed(item, site.job("6[].sitea", "submit"), *site.life("6[1].sitea"))
    assert not item.complete
    feed(item, site.job("6[2].sitea"), site.job("6[].sitea", "finalize"))
    assert not item.complete
    feed(item, site.job("6[2].sitea", "finalize"))
    assert item.complete


def test_a_subjobs_end_is_not_its_arrays() -> None:
    site, item = SiteLog("sitea"), endings("6[]")
    feed(item, *site.life("6[1].sitea"))
    assert not item.complete


@pytest.mark.parametrize("arrives_first", ["here", "there"])
def test_a_move_ends_nothing_in_whichever_order_the_sites_are_heard(arrives_first: str) -> None:
    here, there, item = SiteLog("sitea"), SiteLog("siteb"), endings("1.sitea")
    begun = here.job("1.sitea", "submit")
    moved = here.job("1.sitea", "finalize", reason="moved")
    life = [*there.life("1.sitea")]
    order = [begun, moved, *life] if arrives_first == "here" else [begun, *life, moved]
    for message in order:
        assert not item.complete
        feed(item, message)
    assert item.complete


def test_a_moved_job_that_comes_back() -> None:
    here, there, item = SiteLog("sitea"), SiteLog("siteb"), endings("1.sitea")
    feed(item, here.job("1.sitea", "submit"), here.job("1.sitea", "finalize", reason="moved"))
    feed(item, there.job("1.sitea", "submit"))
    back = here.job("1.sitea", "submit")
    feed(item, there.job("1.sitea", "finalize", reason="moved"), back)
    assert not item.complete
    feed(item, here.job("1.sitea", "finalize"))
    assert item.complete


def test_a_move_out_of_the_only_site_ends_it() -> None:
    site, item = SiteLog("sitea"), endings("1.sitea", single_site=True)
    feed(item, site.job("1.sitea"), site.job("1.sitea", "finalize", reason="moved"))
    assert item.complete


def test_an_id_that_lives_again_is_waited_for() -> None:
    site, item = SiteLog("sitea"), endings("1.sitea")
    feed(item, *site.life("1.sitea"), site.job("1.sitea", "submit"))
    assert not item.complete


def test_a_purge_says_that_the_finalize_was_before() -> None:
    site, item = SiteLog("sitea"), endings("1.sitea", "2.sitea")
    assert feed(item, site.job("1.sitea", "purge", state="F")) == [True]
    # One that was moved away goes on elsewhere, whatever becomes of its row here.
    assert feed(item, site.job("2.sitea", "purge", state="M")) == [True]
    assert item.pending == ["2.sitea"]
    alone = endings("2.sitea", single_site=True)
    feed(alone, site.job("2.sitea", "purge", state="M"))
    assert alone.complete
