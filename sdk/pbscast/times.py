"""Moments as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from pbscast.errors import UsageError

EXPECTED: Final = "2026-11-22T14:05, 14:05, yesterday 14:05, now, or 90s, 30m, 2h, 1d: ago"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AGO: Final = re.compile(r"(\d+)([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CLOCK: Final = re.compile(r"(?:(today|yesterday)(?:[ T]|$))?(\d\d?:\d\d(?::\d\d)?)?", re.ASCII)


def parse_time(text: str, where: str) -> datetime:
    """Return the moment, in UTC; what has no zone is this machine's local time.

    Raises UsageError that begins with ``where``, the option or argument that it was given to; also
    for what lies before 1970.
    """
    moment = _parse(text, where)
    if moment < _EPOCH:
        raise UsageError(f"{where}: {text!r} lies before 1970")
    return moment


def _parse(text: str, where: str) -> datetime:
    now = datetime.now(UTC)
    try:
        if text == "now":
            return now
        if match := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        if text and (match := _CLOCK.fullmatch(text)):
            return _on_day(now, match[1], match[2])
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{where}: not a time: {text!r} (expected {EXPECTED})") from error


def parse_duration(text: str, where: str) -> int:
    """Return how many seconds ``90s``, ``30m``, ``2h`` or ``1d`` are. Raises UsageError."""
    match = _AGO.fullmatch(text)
    if match is None:
        raise UsageError(f"{where}: not a duration: {text!r} (expected 90s, 30m, 2h, 1d)")
    return int(timedelta(**{_UNITS[match[2]]: 1}).total_seconds()) * int(match[1])


def parse_range(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the moments of --since and --until. Raises UsageError, also if the range is empty."""
    begin = None if since is None else parse_time(since, "--since")
    end = None if until is None else parse_time(until, "--until")
    if begin is not None and end is not None:
        check_order(begin, end, "--since", "--until")
    return begin, end


def check_order(begin: datetime, end: datetime, first: str, second: str) -> None:
    """Raise UsageError unless one moment is before the other; they were given as these options."""
    if begin >= end:
        one, other = (time.astimezone().isoformat(" ", "seconds") for time in (begin, end))
        raise UsageError(f"{first} has to be before {second}: {one} is not before {other}")


def _on_day(now: datetime, day: str | None, clock: str | None) -> datetime:
    date = now.astimezone().date() - timedelta(days=day == "yesterday")
    hour, _, rest = (clock or "0:00").partition(":")
    local = datetime.fromisoformat(f"{date}T{int(hour):02}:{rest}")
    return local.astimezone(UTC)
