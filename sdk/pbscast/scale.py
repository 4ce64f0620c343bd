"""Time on a line of cells: which state each cell shows, where an axis has its ticks. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast.timeline import Span

_SECONDS: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000),
)
"""Steps that people count in, up to thirty days."""


class Scale(NamedTuple):
    """A period drawn on a number of cells, at least one."""

    begin: datetime
    end: datetime
    width: int

    @property
    def length(self) -> timedelta:
        """Of the period; never zero."""
        return max(self.end - self.begin, timedelta(microseconds=1))

    def place(self, time: datetime) -> float:
        """How many cells lie before a time; may be outside of the line."""
        return (time - self.begin) / self.length * self.width


def cells(spans: Sequence[Span], scale: Scale) -> list[int | None]:
    """Return for each cell which span it shows, by index; None where there is none.

    A cell shows the span that covers most of it. A span too short to win any takes the cell of its
    middle, unless that is another's last one: nothing is invisible as long as there is room. The
    indices never decrease from left to right.
    """
    shares: list[dict[int, float]] = [{} for _ in range(scale.width)]
    places = [_extent(span, scale) for span in spans]
    for index, (left, right) in enumerate(places):
        for cell in range(max(0, int(left)), min(scale.width, int(right) + 1)):
            share = min(right, cell + 1) - max(left, cell)
            if share > 0:
                shares[cell][index] = share
    line = [max(share, key=share.__getitem__) if share else None for share in shares]
    _show_the_short(line, places, scale.width)
    return line


def _extent(span: Span, scale: Scale) -> tuple[float, float]:
    return scale.place(span.begin), scale.place(scale.end if span.end is None else span.end)


def _show_the_short(line: list[int | None], places: list[tuple[float, float]], width: int) -> None:
    count = dict.fromkeys(range(len(places)), 0)
    for shown in line:
        if shown is not None:
            count[shown] += 1
    for index, (left, right) in enumerate(places):
        cell = min(int((left + right) / 2), width - 1)
        if count[index] or right < 0 or left > width or cell < 0:
            continue
        owner = line[cell]
        if owner is None or count[owner] > 1:
            line[cell] = index
            count[index] = 1
            if owner is not None:
                count[owner] -= 1


def ticks(scale: Scale, room: int) -> list[datetime]:
    """Return round times within the period, in local time, at least ``room`` cells apart."""
    most = max(1, scale.width // max(1, room))
    wanted = scale.length.total_seconds() / most
    step = next((seconds for seconds in _SECONDS if seconds >= wanted), None)
    if step is None:
        step = _SECONDS[-1] * -(-int(wanted) // _SECONDS[-1])
    local = scale.begin.astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    first = -(-int((local - midnight).total_seconds()) // step) if local > midnight else 0
    found: list[datetime] = []
    time = midnight + timedelta(seconds=first * step)
    while time <= scale.end:
        if time >= scale.begin:
            found.append(time)
        time += timedelta(seconds=step)
    return found


def brief(length: timedelta) -> str:
    """Return a length of time in two units: ``1d 04h``, ``2h 05m``, ``3m 10s``, ``4.2s``."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds >= 0.0005 else "0s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for unit, size, lower, lower_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // lower_size:02}{lower}"
    return f"{whole}s"
