"""What the simulator committed, beside what the log holds and what the subscriber was given: pure.

The yardstick is the record alone. A state may be missing only if it was committed while capture was
off, which the record says by number and not by the clock, and only if the log tells of a gap
there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from harness.soak.lives import Heard, disagreements

from pbscast.events import Change, Event, Finalize, Gap, Kind, Resync
from pbscast_deploy.oracle import Saved


class Copy(NamedTuple):
    """An event as somebody holds it."""

    position: int
    digest: bytes

    @classmethod
    def of(cls, position: int, body: bytes) -> Copy:
        return cls(position, sha256(body).digest())


@dataclass(frozen=True)
class Pause:
    """A time without capture, as the one who paused it knows it."""

    first: int
    """Number of the first change (1, 2, 3 … at its site) that may not have been captured."""
    last: int
    """Number of the last one."""
    begin: datetime
    """Capture was off from then on, perhaps since `earliest`."""
    end: datetime
    """Capture was off until then, perhaps until `latest`."""
    earliest: datetime
    latest: datetime


@dataclass
class Findings:
    """Everything that is wrong, a line each."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)

    def extend(self, other: Findings) -> None:
        """Take over what another found."""
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.disordered += other.disordered
        self.altered += other.altered

    @property
    def lines(self) -> list[str]:
        return [
            f"{name}: {line}"
            for name in ("lost", "duplicated", "disordered", "altered")
            for line in getattr(self, name)
        ]


class LogBook:
    """Reads a site's log in order and holds what it amounts to."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.found = Findings()
        self.copies: list[Copy] = []
        self.heard: dict[str, list[Heard]] = {}
        self.gaps: list[Gap] = []
        self.resyncs = 0
        self.ended = 0
        self._revisions: dict[tuple[Kind, str], tuple[int, int]] = {}

    def read(self, event: Event, body: bytes) -> None:
        """Take in the next event, by position as the log gave it."""
        self.copies.append(Copy.of(event.position, body))
        self._check_revision(event)
        if isinstance(event, Gap):
            self.gaps.append(event)
        self.resyncs += isinstance(event, Resync)
        if event.kind is Kind.JOB and isinstance(event, Change | Finalize):
            self._follow(event)

    def close(self) -> None:
        """No more will come."""
        last = self.copies[-1].position if self.copies else 0
        check_positions(self.found, f"log of {self.site}", self.copies, last)

    def _check_revision(self, event: Event) -> None:
        key = (event.kind, event.id)
        incarnation, revision = self._revisions.get(key, (0, 0))
        self._revisions[key] = (event.incarnation, event.revision)
        goes_on = (incarnation, revision + 1)
        begins = (incarnation + 1, 1)
        if (event.incarnation, event.revision) not in (goes_on, begins):
            self.found.disordered.append(
                f"{self.site} {event.kind} {event.id}: {event.incarnation}/{event.revision} "
                f"after {incarnation}/{revision}"
            )

    def _follow(self, event: Change | Finalize) -> None:
        lives = self.heard.setdefault(event.id, [])
        if event.revision == 1 or not lives:
            lives.append(Heard())
        if isinstance(event, Finalize):
            self.ended += 1
            lives[-1].ends.append((event.reason.value, event.exit_status))
        elif event.state is not None:
            lives[-1].enter(event.state, event.substate)


def check_positions(found: Findings, where: str, copies: Iterable[Copy], last: int) -> None:
    """Positions must be 1, 2, 3 … `last`, each once."""
    expected, missing = 1, set[int]()
    for position, _ in copies:
        if position >= expected:
            missing.update(range(expected, position))
            expected = position + 1
        elif position in missing:
            missing.remove(position)
            found.disordered.append(f"{where}: {position} came after {expected - 1}")
        else:
            found.duplicated.append(f"{where}: {position} came again")
    missing.update(range(expected, last + 1))
    found.lost += [f"{where}: {position} never came" for position in sorted(missing)]


def check_delivery(found: Findings, site: str, logged: Sequence[Copy], got: Sequence[Copy]) -> None:
    """The subscriber must hold what the log holds: every byte, once, in its order."""
    where = f"subscriber of {site}"
    check_positions(found, where, got, logged[-1].position if logged else 0)
    bodies = dict(logged)
    for position, digest in got:
        if position not in bodies:
            found.duplicated.append(f"{where}: {position} is not in the log")
        elif bodies[position] != digest:
            found.altered.append(f"{where}: {position} is not what the log holds")


def check_lives(
    found: Findings,
    site: str,
    commits: Iterable[Saved],
    heard: Mapping[str, list[Heard]],
    pauses: Sequence[Pause],
) -> int:
    """The states and the end of every job must be those committed; returns how many lives.

    How a job's events differ is told as lost, duplicated, disordered or altered, by its states.
    """
    jobs = _by_job(commits, pauses)
    for job in jobs.keys() | heard.keys():
        wrong = disagreements(jobs.get(job, []), heard.get(job, []))
        if wrong is not None:
            blame = _blame(wrong.committed, wrong.logged)
            getattr(found, blame).append(
                f"{site} {job}: committed {wrong.committed}, logged {wrong.logged}"
            )
    return sum(map(len, heard.values()))


def _by_job(
    commits: Iterable[Saved], pauses: Sequence[Pause]
) -> dict[str, list[tuple[Saved, bool]]]:
    """The commits of each job, and whether each must have been captured."""
    excused = {n for pause in pauses for n in range(pause.first, pause.last + 1)}
    jobs: dict[str, list[tuple[Saved, bool]]] = {}
    for number, saved in enumerate(commits, 1):
        jobs.setdefault(saved.job, []).append((saved, number not in excused))
    return jobs


def _blame(committed: Sequence[object], logged: Sequence[object]) -> str:
    want, got = Counter(map(str, committed)), Counter(map(str, logged))
    if want == got:
        return "disordered"
    if not got - want:
        return "lost"
    return "altered" if want - got else "duplicated"


def check_gaps(found: Findings, site: str, gaps: Iterable[Gap], pauses: Sequence[Pause]) -> None:
    """Every pause must be told as a gap that covers it, and no gap may be told for nothing."""
    told = list(gaps)
    for pause in pauses:
        if not any(_covers(gap, pause) for gap in told):
            found.lost.append(f"{site}: no gap tells of the pause {pause.begin} to {pause.end}")
    for gap in told:
        if not any(_overlaps(gap, pause) for pause in pauses):
            found.altered.append(
                f"{site}: a gap without a pause: {gap.cause} {gap.begin} to {gap.end}"
            )


def _covers(gap: Gap, pause: Pause) -> bool:
    begins_in_time = gap.begin is None or gap.begin <= pause.begin
    return begins_in_time and (gap.end or gap.time) >= pause.end


def _overlaps(gap: Gap, pause: Pause) -> bool:
    begins_in_time = gap.begin is None or gap.begin <= pause.latest
    return begins_in_time and (gap.end or gap.time) >= pause.earliest


def check_rows(
    found: Findings,
    site: str,
    want: Mapping[tuple[str, str], Mapping[str, bytes]],
    got: Mapping[tuple[str, str], Mapping[str, bytes]],
) -> None:
    """Every row of the datastore must be what its events add up to; `mtime` is no event."""
    for name, attributes in want.items():
        known = got.get(name, {})
        for attribute in sorted((attributes.keys() | known.keys()) - {"mtime"}):
            if attributes.get(attribute) != known.get(attribute):
                found.lost.append(f"{site} {name[0]} {name[1]}: {attribute} is not as in its row")


def check_durable(
    found: Findings,
    site: str,
    commits: Iterable[Saved],
    rows: Mapping[tuple[str, str], Mapping[str, bytes]],
) -> None:
    """The datastore must hold what was committed, whatever became of it meanwhile."""
    last = {saved.job: saved for saved in commits}
    want = {job: saved.state for job, saved in last.items() if saved.op != "DELETE"}
    got = {
        name: attributes["job_state"].decode()
        for (kind, name), attributes in rows.items()
        if kind == "job"
    }
    for job in sorted(want.keys() | got.keys()):
        if want.get(job) != got.get(job):
            found.lost.append(
                f"datastore of {site}: {job} is {got.get(job)}, {want.get(job)} was committed"
            )
