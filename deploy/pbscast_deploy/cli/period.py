"""A period that is asked for, beside what the log knows of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import typer

from pbscast.errors import NotFoundError, UsageError
from pbscast_store.log import Log


async def check_period(
    log: Log, sites: Iterable[str], begin: datetime | None, end: datetime | None
) -> dict[str, datetime]:
    """Return when the log of each site began, where that is within the period.

    What the log cannot know is no zero: there is a warning on standard error for each site whose
    log began after `begin`. Raises NotFoundError for a period that no site's log reaches into,
    UsageError for one that has not begun.
    """
    if begin is not None and begin > datetime.now(UTC):
        raise UsageError(f"the period begins in the future, {_shown(begin)}")
    began = {site: time for site in sites if (time := await _beginning(log, site)) is not None}
    late = {site: time for site, time in began.items() if begin is None or time > begin}
    if end is not None and late and all(time >= end for time in began.values()):
        site, first = min(late.items(), key=lambda item: item[1])
        raise NotFoundError(
            f"the period ends {_shown(end)}, before the log begins: {site} {_shown(first)}"
        )
    if begin is None:
        return {}
    for site, time in late.items():
        typer.echo(
            f"pbscastd: warning: the log of {site} begins {_shown(time)}: nothing is known of the"
            f" time from {_shown(begin)} until then",
            err=True,
        )
    return late


async def _beginning(log: Log, site: str) -> datetime | None:
    first = await log.read(site, 0, 1)
    return first[0].time if first else None


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z}"
