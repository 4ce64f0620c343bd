"""What a caller may ask of a watch, checked before anything is asked of a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from pbscast.criteria import Criteria, CriteriaOptions
from pbscast.endings import Endings
from pbscast.errors import UsageError
from pbscast.events import Kind
from pbscast.starts import Last, Now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast.starts import Start


class WatchOptions(CriteriaOptions, total=False):
    """The options of ``Client.watch``, which says what they mean."""

    start: Start | None
    until_finished: bool


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """What a watch is going to do."""

    criteria: Criteria
    start: Start
    endings: Endings | None


def plan_watch(
    job_ids: str | Iterable[str] | None,
    *,
    start: Start | None = None,
    until_finished: bool = False,
    **criteria: Unpack[CriteriaOptions],
) -> WatchPlan:
    """Check the options. Raises InvalidJobId or UsageError."""
    wanted = Criteria.of(job_ids, **criteria)
    if not until_finished:
        return WatchPlan(wanted, start or Now(), None)
    if wanted.ids is None or Kind.JOB not in (wanted.kinds or {Kind.JOB}):
        raise UsageError("until_finished needs the ids of the jobs that are to finish")
    single_site = wanted.sites is not None and len(wanted.sites) == 1
    return WatchPlan(wanted, start or Last(), Endings(wanted.ids, single_site=single_site))
