from __future__ import annotations

import asyncio
from time import monotonic

from pbscast_ingest.retry import FIRST_SECONDS, LAST_SECONDS, Retry, pause


def test_pauses_double_up_to_a_ceiling_and_vary() -> None:
    retry = Retry()
    pauses = [retry.fail() for _ in range(2000)]
    for number, seconds in enumerate(pauses):
        due = min(LAST_SECONDS, FIRST_SECONDS * 2 ** min(number, 50))
        assert due / 2 <= seconds <= due
    assert len(set(pauses)) == len(pauses)


def test_after_a_success_they_begin_anew() -> None:
    retry = Retry()
    assert max(retry.fail() for _ in range(20)) > 1
    retry.reset()
    assert retry.fail() <= FIRST_SECONDS


async def test_a_pause_ends_when_its_time_is_over_or_all_is_to_stop() -> None:
    stopping = asyncio.Event()
    await pause(0.01, stopping)
    stopping.set()
    begun = monotonic()
    await pause(60, stopping)
    assert monotonic() - begun < 5
