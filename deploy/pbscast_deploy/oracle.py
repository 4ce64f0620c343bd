"""What must be known of every job, from what the datastore committed: the yardstick of the tests.

Written from the facts about PBS alone and sharing no code with the way of the data, so that a
mistake there cannot hide here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple

_SUSPENDED: Final = 0x200
_WORKSTATION_BUSY: Final = 0x4000
_NOT_RUNNING: Final = "QHWT"
_CONTINUED_WITHIN: Final = timedelta(milliseconds=100)
_NEXT_WITHIN: Final = timedelta(seconds=2)
"""The same where nothing was saved in between: as long as a commit may take."""
_SUBJOB: Final = re.compile(r"\d+\[\d+\]")
_PARENT: Final = re.compile(r"\d+\[\]")


@dataclass(frozen=True, slots=True)
class Saved:
    """What one committed statement on `pbs.job` left: the part of the row that decides anything."""

    at: datetime
    op: Literal["INSERT", "UPDATE", "DELETE"]
    job: str
    state: str = ""
    substate: int = 0
    svrflags: int = 0
    history: bool = False
    """Whether `history_timestamp` is set."""
    exit_status: int | None = None

    @property
    def visible(self) -> tuple[str, int]:
        """State letter as qstat shows it, and substate."""
        letter = self.state
        if letter == "R" and self.svrflags & _SUSPENDED:
            letter = "S"
        elif letter == "R" and self.svrflags & _WORKSTATION_BUSY:
            letter = "U"
        return letter, self.substate

    def to_line(self) -> str:
        """One JSON object."""
        return json.dumps({**asdict(self), "at": self.at.isoformat()})

    @classmethod
    def from_line(cls, line: str) -> Saved:
        """The inverse of `to_line`."""
        fields = json.loads(line)
        return cls(**{**fields, "at": datetime.fromisoformat(fields["at"])})


class End(NamedTuple):
    """How a job's life at a site ended."""

    reason: str
    exit_status: int | None


@dataclass
class Life:
    """One incarnation."""

    visible: list[tuple[str, int]] = field(default_factory=list)
    """Every visible (state, substate) in order, without immediate repetitions."""
    end: End | None = None
    ended_at: datetime | None = None
    present: bool = True
    """Whether its row is still there."""


@dataclass
class Oracle:
    """Takes the commits of one site in order; `lives` holds what they amount to."""

    lives: dict[tuple[str, int], Life] = field(default_factory=dict)
    """(job id, incarnation 1, 2, 3 …) → life."""
    commits: int = 0
    _deletion: int = 0
    """Number of the last commit that was a DELETE."""
    _newest: dict[str, int] = field(default_factory=dict)
    _last: dict[str, Saved] = field(default_factory=dict)

    def feed(self, saved: Saved) -> None:
        """Takes the next commit."""
        self.commits += 1
        if saved.op == "DELETE":
            self._delete(saved)
            return
        life = self._start(saved) if saved.op == "INSERT" else self._current(saved.job)
        if not life.visible or life.visible[-1] != saved.visible:
            life.visible.append(saved.visible)
        if life.end is None and _is_final(saved):
            life.end = End(_reason(saved), _exit_status(saved))
            life.ended_at = saved.at
        self._last[saved.job] = saved

    def _current(self, job: str) -> Life:
        return self.lives[job, self._newest[job]]

    def _start(self, saved: Saved) -> Life:
        """A requeued subjob is deleted and inserted anew when it runs again: its life goes on."""
        job = saved.job
        if job in self._newest and _SUBJOB.match(job):
            life = self._current(job)
            deleted = self._last[job]
            is_next = self._deletion == self.commits - 1
            soon = saved.at - deleted.at <= (_NEXT_WITHIN if is_next else _CONTINUED_WITHIN)
            if deleted.op == "DELETE" and soon and life.ended_at == deleted.at:
                life.end, life.ended_at, life.present = None, None, True
                return life
        self._newest[job] = self._newest.get(job, 0) + 1
        return self.lives.setdefault((job, self._newest[job]), Life())

    def _delete(self, saved: Saved) -> None:
        life = self._current(saved.job)
        life.present = False
        self._deletion = self.commits
        if life.end is None:
            last = self._last[saved.job]
            life.end = End(_reason(last), _exit_status(last))
            life.ended_at = saved.at
        self._last[saved.job] = saved


def expect(commits: Iterable[Saved]) -> Oracle:
    """An oracle that has taken all of `commits`."""
    oracle = Oracle()
    for saved in commits:
        oracle.feed(saved)
    return oracle


def read_record(path: Path) -> Iterator[Saved]:
    """The commits of a record file; a last line that was cut off is none."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield Saved.from_line(line)


def _is_final(saved: Saved) -> bool:
    """An array parent's early F/92 has no `history_timestamp` yet."""
    if not saved.history:
        return False
    return saved.state in {"F", "M"} or (saved.state == "X" and bool(_SUBJOB.match(saved.job)))


def _reason(saved: Saved) -> str:
    exit_status = _exit_status(saved)
    if saved.substate in {94, 2, 3}:
        return "moved"
    if saved.substate == 54:
        return "deleted"
    if saved.substate == 91 or (exit_status is not None and exit_status >= 256):
        return "terminated"
    if exit_status == 0 or (saved.substate == 92 and not _is_early(saved)):
        return "finished"
    if exit_status is not None or saved.substate == 93:
        return "failed"
    return "deleted"


def _is_early(saved: Saved) -> bool:
    """A parent is saved as F/92 before anybody knows how the array went."""
    return bool(_PARENT.match(saved.job)) and not saved.history


def _exit_status(saved: Saved) -> int | None:
    """A job that waits again still holds the exit status of its earlier run."""
    return None if saved.state in _NOT_RUNNING else saved.exit_status
