"""What the commands say where they have nothing, or too much, to show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from pbscast.cli import history, moments
from pbscast.client import Client
from pbscast.errors import NotFoundError, UsageError
from pbscast.events import Change, Kind, Position, Site
from pbscast.history import Recorded
from pbscast.lives import Life, Standing

BEGAN = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def life(job_id: str) -> Life:
    return Life.model_validate(
        {
            "site": "sitea",
            "kind": "job",
            "id": job_id,
            "incarnation": 1,
            "first_position": 1,
            "last_position": 2,
            "began": BEGAN,
        }
    )


def standing(job_id: str) -> Standing:
    fields = {"incarnation": 1, "revision": 1, "position": Position(1), "began": BEGAN}
    return Standing.model_validate(
        {"site": Site("sitea"), "kind": Kind.JOB, "id": job_id, **fields}
    )


def event(number: int) -> Change:
    fields: dict[str, Any] = {"site": "sitea", "position": number, "time": BEGAN, "kind": "job"}
    fields |= {"id": "1.sitea", "incarnation": 1, "revision": number, "provenance": "journal"}
    return Change.model_validate({**fields, "event": "modify", "state": "R", "changed": {}})


class Known:
    """A client of a log that knows some jobs."""

    def __init__(self, *jobs: str, events: int = 0) -> None:
        self._jobs = jobs
        self._events = events

    async def jobs(self, ids: list[str], **_: Any) -> AsyncIterator[Life]:
        for job_id in self._jobs:
            yield life(job_id)

    async def history_with_bodies(self, *_: Any, **__: Any) -> AsyncIterator[Recorded]:
        for number in range(1, self._events + 1):
            yield Recorded(event(number), b"")


async def told(*jobs: str) -> AsyncIterator[Standing]:
    for job_id in jobs:
        yield standing(job_id)


async def test_a_job_that_did_not_exist_then_is_an_error_that_says_when_it_came() -> None:
    missing = moments._Missing(["9.sitea", "6[].sitea", "19.sitea"])
    passed = [item.id async for item in missing.without(told("9.sitea", "6[1].sitea"))]
    assert passed == ["9.sitea", "6[1].sitea"]
    with pytest.raises(NotFoundError, match=r"^19.sitea did not exist then: sitea has it from 20"):
        await missing.explain(cast("Client", Known("19.sitea")), Kind.JOB)


async def test_what_is_told_is_not_missing() -> None:
    missing = moments._Missing(["9.sitea"])
    assert [item.id async for item in missing.without(told("9.sitea"))] == ["9.sitea"]
    await missing.explain(cast("Client", Known()), Kind.JOB)


async def test_a_picture_of_too_many_events_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_EVENTS", 0)
    asked = history._Question.of([], {"owners": ["alice"]}, None, None, newest_first=False)
    with pytest.raises(UsageError, match="more than 0 events, too many for one picture"):
        await asked.story(cast("Client", Known(events=1)))
