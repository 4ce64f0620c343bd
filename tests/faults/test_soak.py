"""Everything goes wrong, for as long as one likes, and nothing is lost.

`make soak MINUTES=n` takes a new seed each time and prints it; SOAK_SEED repeats its schedule.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from itertools import islice
from math import inf
from pathlib import Path
from time import monotonic

import pytest
from harness.soak.course import Course
from harness.soak.report import describe
from harness.soak.scene import open_scene
from harness.soak.schedule import Trouble, Turn, plan

RATE = 75.0
"""Changes per second at each of the two sites."""

JOURNAL_BYTES = 32 * 2**20
"""Of rows that wait while ingest is away, and of trimmed ones until vacuum has been there."""


async def soak(directory: Path, seed: int, turns: Iterable[Turn], seconds: float) -> None:
    begun = monotonic()
    async with open_scene(directory, seed=seed, rate=RATE) as scene:
        course = Course(scene)
        try:
            await course.run(turns, until=begun + seconds)
            await course.settle()
            await course.judge()
        finally:
            print(describe(course.survived, seed=seed, seconds=monotonic() - begun))  # noqa: T201
    again = f"SOAK_SEED={seed} make soak repeats the schedule"
    assert course.survived.found.lines == [], again
    largest = max(journal.peak for journal in course.survived.journals.values())
    assert largest < JOURNAL_BYTES, "what was read is not trimmed, or its place not used again"


@pytest.mark.timeout(300)
async def test_every_kind_of_fault_once(tmp_path: Path) -> None:
    await soak(tmp_path, 7, islice(plan(7), len(Trouble)), inf)


@pytest.mark.soak
async def test_faults_for_as_long_as_told(tmp_path: Path) -> None:
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(10_000))
    minutes = float(os.environ.get("SOAK_MINUTES") or 60)
    await soak(tmp_path, seed, plan(seed), 60 * minutes)
