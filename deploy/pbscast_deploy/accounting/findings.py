"""What a comparison finds, one line each, and the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pbscast_deploy.accounting.lines import Place


class FindingKind(StrEnum):
    """How the two sides differ."""

    NO_EVENT = "no event"
    """Accounting has a record, the log has nothing that goes with it."""
    NO_RECORD = "no record"
    """The log has a step that PBS writes a record of, accounting has none."""
    TIME = "time"
    VALUE = "value"
    BROKEN = "broken line"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference."""

    kind: FindingKind
    id: str
    """The object's, empty for a broken line."""
    what: str
    """The type of the record that is meant, empty for a broken line."""
    expected: str
    found: str
    place: Place | None = None
    """The line in the accounting file, if there is one."""
    position: int | None = None
    """The position of the event in the log, if there is one."""
    explained: str | None = None
    """Why this is as it should be."""

    def __str__(self) -> str:
        where = "log" if self.place is None else f"{self.place.file}:{self.place.line}"
        about = f"{self.id} {self.what}".strip()
        at = f" (position {self.position})" if self.position is not None else ""
        because = f"; {self.explained}" if self.explained else ""
        if self.kind is FindingKind.BROKEN:
            return f"{where}: broken line: {self.found}"
        return f"{where}: {about}: expected {self.expected}, found {self.found}{at}{because}"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        place = self.place
        return {
            "kind": self.kind.value,
            "file": place.file if place else None,
            "line": place.line if place else None,
            "id": self.id,
            "record": self.what,
            "expected": self.expected,
            "found": self.found,
            "position": self.position,
            "explained": self.explained,
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """That somebody wanted a job to end, and what became of it."""

    id: str
    what: str
    by: str
    time: datetime
    place: Place
    end: str | None = None
    """The reason of the end that followed, None if none did."""
    position: int | None = None
    """Of that end, in the log."""

    def __str__(self) -> str:
        place = f"{self.place.file}:{self.place.line}"
        became = f"{self.end} (position {self.position})" if self.end else "no end followed"
        return f"{place}: {self.id} {self.what}: asked to end by {self.by}: {became}"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "kind": "asked",
            "file": self.place.file,
            "line": self.place.line,
            "id": self.id,
            "record": self.what,
            "by": self.by,
            "time": self.time.isoformat(),
            "end": self.end,
            "position": self.position,
        }


@dataclass
class Summary:
    """The sums of a comparison."""

    records: Counter[str] = field(default_factory=Counter)
    """By type, all that were read."""
    differing: Counter[str] = field(default_factory=Counter)
    """By type, those with a difference."""
    explained: Counter[str] = field(default_factory=Counter)
    """By type, those that differ for a reason that is known."""
    unrecorded: Counter[str] = field(default_factory=Counter)
    """By step, those of the log without their record."""
    untold: Counter[str] = field(default_factory=Counter)
    """By field, values in records that the datastore never showed."""
    left_out: int = 0
    """Steps of the log at the edges of what the files cover, which were not looked for there."""
    judged: int = 0
    """Steps of the log that were looked for in accounting."""
    periods: list[tuple[datetime, datetime]] = field(default_factory=list)
    """What the files cover."""
    broken: int = 0
    ends: int = 0
    """Records of ends, which say their time twice: as local time and as an epoch."""
    misplaced: int = 0
    """Those of them whose two times are far apart."""
    events: int = 0
    """Events of the log that were read."""
    last_event: datetime | None = None

    def add(self, findings: list[Finding]) -> None:
        """Count what was found of one object."""
        places: dict[Place, tuple[str, bool]] = {}
        for finding in findings:
            is_bad = finding.explained is None
            if finding.place is not None:
                what, was_bad = places.get(finding.place, (finding.what, False))
                places[finding.place] = (what, was_bad or is_bad)
            elif is_bad:
                self.unrecorded[finding.what] += 1
            else:
                self.explained[finding.what] += 1
        for what, is_bad in places.values():
            (self.differing if is_bad else self.explained)[what] += 1

    @property
    def differences(self) -> int:
        """Everything that does not agree and is not explained, broken lines included."""
        return self.differing.total() + self.unrecorded.total() + self.broken

    @property
    def agreeing(self) -> int:
        """Records with which something in the log agrees."""
        odd = self.differing + self.explained
        return sum(count - odd[kind] for kind, count in self.records.items())

    @property
    def is_empty(self) -> bool:
        """Whether nothing could be compared, on either side."""
        return not (self.agreeing or self.judged or self.differences)

    @property
    def is_other_zone(self) -> bool:
        """Whether the files seem to be written in another time zone than they were read in."""
        return self.misplaced * 2 > self.ends

    def as_json(self) -> Mapping[str, Any]:
        """Return it as JSON values."""
        return {
            "records": dict(self.records),
            "differing": dict(self.differing),
            "explained": dict(self.explained),
            "unrecorded": dict(self.unrecorded),
            "untold": dict(self.untold),
            "broken": self.broken,
            "other_zone": self.is_other_zone,
            "events": self.events,
            "last_event": self.last_event.isoformat() if self.last_event else None,
            "periods": [[begin.isoformat(), end.isoformat()] for begin, end in self.periods],
            "left_out": self.left_out,
            "agreeing": self.agreeing,
            "differences": self.differences,
        }
