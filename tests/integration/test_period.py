"""A period that the log cannot know is an error, or a warning, and never a zero."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from harness.fanning import write

from pbscast.errors import NotFoundError, UsageError
from pbscast.events import EventName, GapPayload, Kind, Provenance
from pbscast_deploy.cli.period import check_period
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

BEGIN = datetime(2026, 11, 22, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def begin_at(log: Log, site: str, time: datetime) -> None:
    draft = Draft(
        kind=Kind.SITE,
        id=site,
        event=EventName.GAP,
        time=time,
        provenance=Provenance.JOURNAL,
        payload=GapPayload(cause="cap"),
        begins=False,
        ends=False,
    )
    await write(log, site, [draft])


async def test_before_partly_and_within(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    await begin_at(log, "a", BEGIN)
    await begin_at(log, "b", BEGIN + 2 * HOUR)
    both = ("a", "b")

    with pytest.raises(NotFoundError, match="before the log begins: a 2026"):
        await check_period(log, both, BEGIN - 2 * HOUR, BEGIN - HOUR)
    with pytest.raises(NotFoundError, match="before the log begins: b 2026"):
        await check_period(log, ["b"], None, BEGIN + HOUR)
    with pytest.raises(UsageError, match="begins in the future"):
        await check_period(log, both, datetime.now(UTC) + HOUR, None)
    assert await check_period(log, both, None, BEGIN + HOUR) == {}
    assert await check_period(log, both, BEGIN + 3 * HOUR, None) == {}
    assert capsys.readouterr().err == ""

    late = await check_period(log, both, BEGIN + HOUR, BEGIN + 3 * HOUR)
    assert late == {"b": BEGIN + 2 * HOUR}
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("pbscastd: warning: the log of b begins 2026-11-22")
    assert said.err.count("\n") == 1
