"""Lines of PBS's accounting log, ``MM/DD/YYYY hh:mm:ss;type;id;text``, taken apart. Pure.

The types are those of OpenPBS's ``acct.h``. The text is ``name=value`` pairs between blanks (a
value with blanks stands in quotation marks) but for a few types, where it is prose. PBS writes the
bytes that it was given: values that are not UTF-8 are escaped as the event log escapes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from pbscast.errors import DecodeError
from pbscast.events import escape

_HEAD: Final = re.compile(rb"(\d\d)/(\d\d)/(\d{4}) (\d\d):(\d\d):(\d\d)\Z", re.ASCII)
_PAIR: Final = re.compile(
    rb"""(?<!\S)([^\s=]+)=(?:"([^"]*)"(?=\s|\Z)|'([^']*)'(?=\s|\Z)|(\S*))""", re.ASCII
)
_PARTS: Final = 4
_EPOCHS: Final = ("ctime", "qtime", "etime", "start", "end")
_DIGITS: Final = 12
"""Of a time in seconds, at most."""

YEARS: Final = range(1990, 2200)
"""In which PBS writes."""


class RecordType(StrEnum):
    """What a record says, by PBS's letter."""

    QUEUED = "Q"
    STARTED = "S"
    PRUNED = "s"
    """Started for certain, with fewer nodes than it was given at first."""
    RERUN = "R"
    CHECKPOINTED = "C"
    RESTARTED = "T"
    """Started from a checkpoint."""
    ENDED = "E"
    DELETED = "D"
    """Its deletion was asked for."""
    ABORTED = "A"
    LICENSES = "L"
    MOVED = "M"
    """To another server."""
    UPDATED = "u"
    """A phase of the job ended."""
    NEXT_PHASE = "c"
    LAST_PHASE = "e"
    ALTERED = "a"
    SUSPENDED = "z"
    RESUMED = "r"
    RESV_ENTERED = "U"
    RESV_CONFIRMED = "Y"
    RESV_BEGUN = "B"
    RESV_FINISHED = "F"
    RESV_REMOVED = "K"
    """By the server or the scheduler."""
    RESV_DELETED = "k"
    PROVISIONING = "P"
    PROVISIONED = "p"


RESV_TYPES: Final = frozenset("UYBFKk")
_PROSE: Final = frozenset("ALC")
_JOB: Final = ("user", "jobname", "queue", "ctime", "qtime", "etime")
_ALWAYS: Final = dict.fromkeys("QSTRE", _JOB) | {
    "R": (*_JOB, "end", "Exit_status"),
    "E": (*_JOB, "end", "Exit_status"),
    "M": ("destination",),
}
"""What PBS writes into every record of a type: one without it was cut short."""


class Place(NamedTuple):
    """Where a line stands."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class AccountingRecord:
    """One record."""

    place: Place
    time: datetime
    """With its zone, in whole seconds of the PBS server's clock."""
    type: RecordType
    id: str
    """The job's or reservation's, ``license`` for licenses."""
    fields: dict[str, str] = field(default_factory=dict)
    prose: str = ""
    """The text of a record that has no fields."""


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line that is no record, or no longer one."""

    place: Place
    reason: str


class Parts(NamedTuple):
    """A line taken apart; the time is local time of a zone that the line does not tell."""

    local: datetime
    type: RecordType
    id: str
    fields: dict[str, str]
    prose: str


def parse(line: bytes) -> Parts:
    """Take a line apart (without its line end).

    Raises DecodeError, saying what is wrong, if it is no whole record.
    """
    if b"\0" in line:
        raise DecodeError("holds NUL bytes")
    parts = line.split(b";", _PARTS - 1)
    if len(parts) < _PARTS:
        raise DecodeError(f"cut short: {len(parts)} of {_PARTS} parts between ;")
    head, letter, name, text = parts
    local, kind = _parse_time(head), _parse_type(letter)
    if not name:
        raise DecodeError("no id")
    fields = {} if kind in _PROSE else parse_fields(text)
    prose = escape(text)[0] if kind in _PROSE else ""
    for key in _EPOCHS:
        if len(fields.get(key, "")) > _DIGITS:
            raise DecodeError(f"no such time: {key}={fields[key][:_DIGITS]}…")
    missing = [key for key in _ALWAYS.get(kind, ()) if key not in fields]
    if missing:
        raise DecodeError(f"cut short: {kind} without {', '.join(missing)}")
    return Parts(local, kind, escape(name)[0], fields, prose)


def _parse_time(head: bytes) -> datetime:
    match = _HEAD.match(head)
    if match is None:
        raise DecodeError(f"no date: {_shown(head)}")
    month, day, year, hour, minute, second = map(int, match.groups())
    if year not in YEARS:
        raise DecodeError(f"no such year: {_shown(head)}")
    try:
        # A leap second is told as the one before: PBS writes what the C library says.
        return datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001 - zone unknown
    except ValueError:
        raise DecodeError(f"no date: {_shown(head)}") from None


def _parse_type(letter: bytes) -> RecordType:
    try:
        return RecordType(letter.decode(errors="replace"))
    except ValueError:
        raise DecodeError(f"no such type of record: {_shown(letter)}") from None


def parse_fields(text: bytes) -> dict[str, str]:
    """Return name → value of the pairs of a text.

    Raises DecodeError for what is no pair: two lines have run into one.
    """
    fields: dict[str, str] = {}
    reached = 0
    for match in _PAIR.finditer(text):
        _check_blank(text[reached : match.start()])
        fields[escape(match[1])[0]] = escape(match[2] or match[3] or match[4] or b"")[0]
        reached = match.end()
    _check_blank(text[reached:])
    return fields


def _check_blank(between: bytes) -> None:
    if stray := between.strip():
        raise DecodeError(f"not name=value: {_shown(stray)}")


def _shown(raw: bytes) -> str:
    return repr(raw[:40].decode(errors="backslashreplace"))
