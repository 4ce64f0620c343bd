"""When the jobs that are watched have ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbscast.criteria import aliases
from pbscast.events import Change, EventName, Finalize, Kind, Reason
from pbscast.ids import split_subjob
from pbscast.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbscast.events import Event


@dataclass(slots=True)
class _Followed:
    """Where one of the given ids stands. A life is ``(site, id, incarnation)``."""

    is_array: bool
    open: set[tuple[str, str]] = field(default_factory=set)
    ended_at: set[str] = field(default_factory=set)
    """Sites where its newest life has ended otherwise than by a move."""

    @property
    def has_ended(self) -> bool:
        return bool(self.ended_at) and not self.open


class Endings:
    """Follows ids until each has had its last word.

    An id has ended when a job it names has been finalized and no job it names is known to be still
    there; an array, when the array itself has been finalized and no subjob is still there. A
    finalize with reason ``moved`` ends nothing: the job goes on at the site it was moved to, and
    its finalize there is the last word. Only where one site alone is watched a move out of it ends
    the watch, for nothing more can come. Nothing is told of a life after its finalize. A purge says
    that the finalize was before: the stream may no longer hold it.
    """

    def __init__(self, ids: Iterable[str], *, single_site: bool) -> None:
        self._followed = {job_id: _Followed("[]" in job_id) for job_id in ids}
        self._single_site = single_site
        self._over: set[tuple[str, str, int]] = set()

    @property
    def complete(self) -> bool:
        """Whether every id has ended."""
        return all(followed.has_ended for followed in self._followed.values())

    @property
    def pending(self) -> list[str]:
        """The given ids that have not ended."""
        return [job_id for job_id, item in self._followed.items() if not item.has_ended]

    def observe(self, event: Event) -> bool:
        """Take note of an event; return whether it is to be told."""
        life = (event.site, event.id, event.incarnation)
        if event.kind is not Kind.JOB or life in self._over:
            return event.kind is not Kind.JOB
        is_last, has_moved = _ends(event), _is_moved(event)
        if is_last:
            self._over.add(life)
        for alias in aliases(event.id):
            if (followed := self._followed.get(alias)) is not None:
                self._update(followed, event, is_last=is_last, has_moved=has_moved)
        return True

    def _update(self, followed: _Followed, event: Event, *, is_last: bool, has_moved: bool) -> None:
        decides = not followed.is_array or split_subjob(event.id)[1] is None
        if not is_last:
            followed.open.add((event.site, event.id))
            if decides:
                followed.ended_at.discard(event.site)
            return
        followed.open.discard((event.site, event.id))
        if decides and (not has_moved or self._single_site):
            followed.ended_at.add(event.site)
        elif decides:
            followed.ended_at.discard(event.site)


def _ends(event: Event) -> bool:
    return isinstance(event, Finalize) or event.event is EventName.PURGE


def _is_moved(event: Event) -> bool:
    if isinstance(event, Finalize):
        return event.reason is Reason.MOVED
    return isinstance(event, Change) and event.state == JobState.MOVED
