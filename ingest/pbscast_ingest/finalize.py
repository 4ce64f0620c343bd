"""The last word on a job: when it is due and why.

A job is final at the first row that has ``history_timestamp`` and is F, M or, for a subjob, X; or
with the DELETE of a row that was not final before (a site that keeps no history). The early F/92 of
an array parent has no ``history_timestamp`` and so is passed over; if the row goes right after it,
its 92 is no verdict and the exit status decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbscast.events import FinalizePayload, Reason
from pbscast.ids import split_subjob
from pbscast_ingest.codes import small_number
from pbscast_ingest.jobs import describe, substate_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_USAGE: Final = "resources_used."
_NOT_RUN: Final = frozenset("QHWT")
_LEAVING: Final = (2, 3)
_KILLED: Final = 256


def is_final(job_id: str, attributes: Mapping[str, str]) -> bool:
    """Whether a job row with these attributes says that the job has ended at this site."""
    if not attributes.get("history_timestamp"):
        return False
    state = attributes.get("job_state")
    return state in ("F", "M") or (state == "X" and split_subjob(job_id)[1] is not None)


def conclude(job_id: str, attributes: Mapping[str, str]) -> FinalizePayload:
    """Return the finalize of a job whose last row had these attributes (and columns)."""
    reason = _reason(job_id, attributes)
    return FinalizePayload(
        **describe(attributes),
        reason=reason,
        exit_status=_exit_status(attributes),
        destination=_destination(attributes) if reason is Reason.MOVED else None,
        usage={
            name.removeprefix(_USAGE): value
            for name, value in attributes.items()
            if name.startswith(_USAGE)
        },
    )


def _exit_status(attributes: Mapping[str, str]) -> int | None:
    # What an earlier run left behind says nothing about a job that waits again.
    if attributes.get("job_state") in _NOT_RUN:
        return None
    return small_number(attributes.get("Exit_status"))


def _reason(job_id: str, attributes: Mapping[str, str]) -> Reason:
    substate = substate_of(attributes)
    if attributes.get("job_state") == "M" or substate == 94 or substate in _LEAVING:
        return Reason.MOVED
    if substate == 54:
        return Reason.DELETED
    exit_status = _exit_status(attributes)
    if substate == 91 or (exit_status is not None and exit_status >= _KILLED):
        return Reason.TERMINATED
    if exit_status == 0 or (substate == 92 and not _is_early(job_id, attributes)):
        return Reason.FINISHED
    return Reason.DELETED if exit_status is None and substate != 93 else Reason.FAILED


def _is_early(job_id: str, attributes: Mapping[str, str]) -> bool:
    return "[]" in job_id and not attributes.get("history_timestamp")


def _destination(attributes: Mapping[str, str]) -> str | None:
    queue = attributes.get("queue", "")
    if "@" in queue:
        return queue
    return attributes.get("destination") or attributes.get("ji_destin") or None
