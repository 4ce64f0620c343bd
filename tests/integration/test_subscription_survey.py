"""How the jobs that a subscription names stand, by a real log of three sites."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from harness.moving import Story

from pbscast.events import Kind, Site
from pbscast.subscriptions import SubscribeRequest
from pbscast_fanout.subscriptions import survey as surveying
from pbscast_fanout.subscriptions.definitions import Definition
from pbscast_fanout.subscriptions.destinations import Destinations
from pbscast_fanout.subscriptions.survey import Witness, is_followed, survey
from pbscast_store.log import Log

MARS = "pbs.mars.example.org"


def naming(*ids: str, sites: tuple[str, ...] = (), **criteria: object) -> Definition:
    request = SubscribeRequest.model_validate({"ids": ids, "sites": sites, **criteria})
    return Definition("a" * 32, request, revision=1, ended=False, created=datetime.now(UTC))


async def test_jobs_are_followed_through_sites(log: Log) -> None:
    story = Story(log)
    for site, host in (("sitea", "pbs-a.example.org"), ("siteb", "pbs-b"), ("sitec", "")):
        await story.server(site, host)
    await story.run("sitea", *(f"{number}.sitea" for number in range(1, 13)))
    await story.run("sitea", "20[].sitea", "20[1].sitea", "20[2].sitea")
    await story.end("sitea", "2.sitea")
    await story.purge("sitea", "2.sitea")
    await story.end("sitea", "3.sitea", to="siteb")  # on its way
    await story.end("sitea", "4.sitea", "5.sitea", "6.sitea", "7.sitea", to="pbs-b.example.org")
    await story.run("siteb", "4.sitea", "5.sitea", "6.sitea", "7.sitea")  # arrived
    await story.end("siteb", "5.sitea")
    await story.end("siteb", "6.sitea", to=MARS)
    await story.end("siteb", "7.sitea", to="pbs-a")  # on its way back
    await story.end("sitea", "8.sitea", to=MARS)
    await story.purge("sitea", "8.sitea")
    await story.end("sitea", "9.sitea", to=MARS)  # and came from there to go to siteb
    await story.run("sitea", "9.sitea", begins=True)
    await story.end("sitea", "9.sitea", to="siteb")
    await story.end("sitea", "10.sitea", to="siteb")
    await story.run("siteb", "10.sitea")
    await story.end("siteb", "10.sitea", to="sitea")
    await story.run("sitea", "10.sitea", begins=True)
    await story.end("sitea", "10.sitea")
    await story.end("sitea", "11.sitea", to="sitec")
    await story.end("sitea", "20[].sitea", "20[1].sitea")

    destinations = Destinations(log)
    lives = {"1.sitea", "4.sitea", "20[].sitea"}
    on_their_way = {"3.sitea", "7.sitea", "9.sitea", "11.sitea"}
    for job in (*(f"{number}.sitea" for number in range(1, 12)), "20[].sitea", "99.sitea"):
        found = await survey(log, destinations, naming(job))
        assert found.open == (job in {*lives, *on_their_way, "99.sitea"}), job
        assert (found.left is not None) == (job in {"6.sitea", "8.sitea"}), job
        assert found.positions == {row.name: row.position for row in await log.sites()}

    everything = naming(*lives, *on_their_way, "2.sitea", "8.sitea", "99.sitea")
    assert (await survey(log, destinations, everything)).open == 8
    for sites, count in (
        (("sitea",), 0),  # a move ends it
        (("sitea", "siteb"), 0),  # it went where the subscription is not told of it
        (("sitea", "sitec"), 1),
        (("nowhere",), 1),
    ):
        found = await survey(log, destinations, naming("11.sitea", sites=sites))
        assert found.open == count, sites


async def test_a_witness_is_the_last_that_lives_at_our_sites(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveying, "MOST_VALUES", 3)
    story = Story(log)
    ids = tuple(f"{number}.sitea" for number in range(10))
    await story.run("sitea", *ids)
    await story.run("siteb", "a.siteb")
    destinations = Destinations(log)

    async def witness(site: str, *more: str) -> Witness | None:
        definition = naming(*ids, *more)
        return (await survey(log, destinations, definition, lambda name: name == site)).witness

    assert await witness("sitea") == Witness("sitea", "9.sitea")
    assert await witness("siteb", "1.siteb") is None
    await story.run("siteb", "1.siteb")
    assert await witness("siteb", "1.siteb") == Witness("siteb", "1.siteb")
    await story.end("sitea", *ids[4:])
    assert await witness("sitea") == Witness("sitea", "3.sitea")
    found = await survey(log, destinations, naming(*ids, "1.siteb"))
    assert (found.open, found.witness) == (5, None)


def test_only_what_names_jobs_and_all_of_them_is_followed() -> None:
    assert is_followed(naming("1.sitea"))
    assert not is_followed(naming("1.sitea", more=True))
    assert not is_followed(naming("node1", kinds=[Kind.NODE]))
    assert not is_followed(naming(sites=(Site("sitea"),)))
