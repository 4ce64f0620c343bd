"""PBS job states as users see them in ``qstat``.

Letters and meanings: OpenPBS ``job.h`` (``T Q H W R E X B M F``); ``S`` and ``U`` are never stored
by PBS but shown for a running job whose server flags say that it is suspended.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SUSPENDED_FLAG: Final = 0x200
"""``ji_svrflags`` bit of a job suspended by a client or the scheduler (shown as ``S``)."""

WORKSTATION_SUSPENDED_FLAG: Final = 0x4000
"""``ji_svrflags`` bit of a job suspended because its workstation is busy (shown as ``U``)."""


class JobState(StrEnum):
    """The visible state letter of a job."""

    TRANSIT = "T"
    QUEUED = "Q"
    HELD = "H"
    WAITING = "W"
    RUNNING = "R"
    EXITING = "E"
    EXPIRED = "X"
    BEGUN = "B"
    MOVED = "M"
    FINISHED = "F"
    SUSPENDED = "S"
    USER_SUSPENDED = "U"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state will not run again at this site."""
        return self in _FINAL


_FINAL: Final = frozenset({JobState.EXPIRED, JobState.MOVED, JobState.FINISHED})


def visible_state(letter: str, svrflags: int) -> str:
    """Return the letter that ``qstat`` shows for a stored ``job_state`` and ``ji_svrflags``.

    A letter that this release does not know is returned as it is. PBS shows ``S`` before ``U`` when
    both bits are set.
    """
    if letter != JobState.RUNNING:
        return letter
    if svrflags & SUSPENDED_FLAG:
        return JobState.SUSPENDED
    if svrflags & WORKSTATION_SUSPENDED_FLAG:
        return JobState.USER_SUSPENDED
    return letter
