"""When the jobs that a subscription names have all ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from pbscast.events import AnyEvent, Finalize, Kind, Reason
from pbscast.ids import split_subjob
from pbscast.lives import Standing


class _Stand(NamedTuple):
    """Where a named id stands; shared by all that stand alike."""

    open: frozenset[str]
    """Sites where it lives."""
    ended: frozenset[str]
    """Sites where its newest life has ended otherwise than by going on elsewhere."""


_UNSEEN: Final = _Stand(frozenset(), frozenset())


class Completion:
    """Follows named jobs until each has had its last word.

    Fed with what the matcher finds for the subscription, event by event, of all sites, and at the
    beginning with how the jobs stand. A job has ended when it was finalized at a site and lives at
    none. A finalize with reason ``moved`` ends nothing while it goes on where it can be seen: then
    the job is open until its finalize there, in whichever order the two sites are read. An array
    has ended when it was finalized and none of its subjobs that were seen lives. A job of which
    nothing was ever seen is open.

    Holds a pointer for each id, and the subjobs that live. To begin again after a restart, feed it
    with how the ids stand: the log tells that of ended jobs as well.
    """

    def __init__(self, ids: Iterable[str], *, sites: Iterable[str] = ()) -> None:
        """`sites` are those the subscription is confined to: one alone, and a move ends a job."""
        self._stands = dict.fromkeys(ids, _UNSEEN)
        self._subjobs: dict[str, set[tuple[str, str]]] = {}
        self._is_followed = len(frozenset(sites)) != 1
        self._open = len(self._stands)

    @property
    def is_complete(self) -> bool:
        """Whether every id has ended. Costs nothing."""
        return not self._open

    @property
    def pending(self) -> int:
        """How many have not."""
        return self._open

    def open_ids(self) -> Iterator[str]:
        """Those that have not ended."""
        return (job_id for job_id in self._stands if not self._has_ended(job_id))

    def add(self, ids: Iterable[str]) -> None:
        """Follow these too; what was known of one that is followed stays."""
        for job_id in ids:
            if job_id not in self._stands:
                self._stands[job_id] = _UNSEEN
                self._open += 1

    def remove(self, ids: Iterable[str]) -> None:
        """Follow these no longer."""
        for job_id in ids:
            if job_id in self._stands:
                self._open -= not self._has_ended(job_id)
                del self._stands[job_id]
                self._subjobs.pop(job_id, None)

    def give_up(self, ids: Iterable[str]) -> None:
        """Hold these for ended: they have gone where nothing can be seen of them."""
        for job_id in ids:
            if job_id in self._stands:
                self._set(job_id, _stand(frozenset(), frozenset({"elsewhere"})))

    def note(self, event: AnyEvent) -> None:
        """Take in an event that the matcher found for the subscription."""
        if event.kind is Kind.JOB:
            is_last = isinstance(event, Finalize)
            goes_on = isinstance(event, Finalize) and event.reason is Reason.MOVED
            self._note(event.site, event.id, is_last=is_last, goes_on=goes_on)

    def note_standing(self, standing: Standing) -> None:
        """Take in how a job stands, or stood when it ended."""
        if standing.kind is Kind.JOB:
            goes_on = standing.reason is Reason.MOVED
            is_last = standing.ended is not None
            self._note(standing.site, standing.id, is_last=is_last, goes_on=goes_on)

    def note_life(self, site: str, job_id: str, *, has_ended: bool, was_moved: bool) -> None:
        """Take in whether a job's latest life at a site has ended."""
        self._note(site, job_id, is_last=has_ended, goes_on=was_moved)

    def _note(self, site: str, job_id: str, *, is_last: bool, goes_on: bool) -> None:
        if job_id in self._stands:
            self._decide(site, job_id, is_last=is_last, goes_on=goes_on)
        array, index = split_subjob(job_id)
        if index is not None and array in self._stands:
            self._note_subjob(array, (site, job_id), is_last=is_last)

    def _decide(self, site: str, job_id: str, *, is_last: bool, goes_on: bool) -> None:
        stand, here = self._stands[job_id], frozenset({site})
        if not is_last:
            self._set(job_id, _stand(stand.open | here, stand.ended - here))
        elif goes_on and self._is_followed:
            self._set(job_id, _stand(stand.open - here, stand.ended - here))
        else:
            self._set(job_id, _stand(stand.open - here, stand.ended | here))

    def _note_subjob(self, array: str, subjob: tuple[str, str], *, is_last: bool) -> None:
        had_ended = self._has_ended(array)
        living = self._subjobs.setdefault(array, set())
        (living.discard if is_last else living.add)(subjob)
        if not living:
            del self._subjobs[array]
        self._open += had_ended - self._has_ended(array)

    def _set(self, job_id: str, stand: _Stand) -> None:
        had_ended = self._has_ended(job_id)
        self._stands[job_id] = stand
        self._open += had_ended - self._has_ended(job_id)

    def _has_ended(self, job_id: str) -> bool:
        open_at, ended_at = self._stands[job_id]
        return bool(ended_at) and not open_at and job_id not in self._subjobs


@lru_cache(4096)
def _stand(open_at: frozenset[str], ended_at: frozenset[str]) -> _Stand:
    return _Stand(open_at, ended_at)
