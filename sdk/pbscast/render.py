"""How events and standings look in a terminal: one aligned line each. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from pbscast.deliveries import Passage
from pbscast.events import (
    AnyEvent,
    Change,
    Finalize,
    Gap,
    Liveness,
    ObjectPayload,
    Resync,
)
from pbscast.palette import BAD_REASONS, STATE_STYLES

if TYPE_CHECKING:
    from datetime import datetime

    from pbscast.lives import Standing
    from pbscast.told import Matched

    _About = ObjectPayload | Standing

_WIDTHS: Final = {"site": 8, "id": 16, "name": 15, "owner": 10, "queue": 10, "event": 8}
_STATE_WIDTH: Final = 6
_NO_CLOCK: Final = " " * len("00:00:00")
_STANDS: Final = "stands"
_MOST_NAMES: Final = 4
_DULL: Final = frozenset({"mtime"})
"""What changes with everything else."""


def render(event: AnyEvent, *, with_date: bool = False, arrow: str = "→") -> Text:
    """Return the line: time, site, id, name, owner, queue, event, old→new state, the rest."""
    about = event if isinstance(event, ObjectPayload) else ObjectPayload()
    line = _begin(_clock(event.time, with_date=with_date), event, about, event.event)
    state = _state(event, arrow)
    line.append(" " + state.ljust(_STATE_WIDTH), STATE_STYLES.get(about.state or "", ""))
    if detail := _detail(event):
        line.append(" " + printable(detail), _detail_style(event))
    line.rstrip()
    return line


def render_standing(standing: Standing) -> Text:
    """Return the line of an object that stands so: as an event's, without a time."""
    line = _begin(_NO_CLOCK, standing, standing, _STANDS)
    state = printable(standing.state or "")
    line.append(" " + state.ljust(_STATE_WIDTH), STATE_STYLES.get(standing.state or "", ""))
    exit_status = "" if standing.exit_status is None else f" exit {standing.exit_status}"
    if standing.ended is not None:
        line.append(f" {standing.reason or 'gone'}{exit_status}")
    attributes = standing.attributes or {}
    if len(attributes) <= _MOST_NAMES:
        values = (f" {name}={value}" for name, value in sorted(attributes.items()))
        line.append(printable("".join(values)))
    line.rstrip()
    return line


def render_matched(matched: Matched, *, arrow: str = "→") -> Text:
    """Return the event's line, with what it means where that is not clear from it."""
    line = render(matched.event, arrow=arrow)
    if matched.to is not None:
        line.append(f" (goes on at {printable(matched.to)})", "dim")
    elif matched.passage is Passage.LEFT or matched.standing is not None:
        line.append(f" ({matched.passage})", "dim")
    return line


def _begin(clock: str, thing: AnyEvent | Standing, about: _About, what: str) -> Text:
    line = Text(clock, style="dim", end="")
    cells = {
        "site": thing.site,
        "id": thing.id if thing.kind == "job" else f"{thing.kind} {thing.id}",
        "name": about.name or "-",
        "owner": about.owner or "-",
        "queue": about.queue or "-",
        "event": what,
    }
    for column, text in cells.items():
        line.append(" " + printable(text).ljust(_WIDTHS[column]), _cell_style(column))
    return line


def printable(text: str) -> str:
    """Return text in which nothing can move a terminal's cursor or colour it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _clock(time: datetime, *, with_date: bool) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S" if with_date else "%H:%M:%S")


def _cell_style(column: str) -> str:
    return {"id": "bold", "event": "dim"}.get(column, "")


def _state(event: AnyEvent, arrow: str) -> str:
    if not isinstance(event, ObjectPayload) or event.state is None:
        return ""
    new = printable(event.state)
    old = event.old_state if isinstance(event, Change) else None
    return f"{printable(old)}{arrow}{new}" if old is not None and old != event.state else new


def _detail(event: AnyEvent) -> str:
    match event:
        case Finalize():
            return _finalize(event)
        case Change():
            return _change(event)
        case Gap():
            return _gap(event)
        case Resync():
            found = f"appeared {event.appeared} changed {event.changed} vanished {event.vanished}"
            return f"{event.cause}: {found}"
        case Liveness():
            return event.cause or ""


def _gap(event: Gap) -> str:
    with_date = event.begin is not None and event.begin.date() != event.time.date()
    begin, end = (
        "?" if time is None else _clock(time, with_date=with_date)
        for time in (event.begin, event.end)
    )
    return f"{begin} to {end}: {event.cause}"


def _finalize(event: Finalize) -> str:
    exit_status = "" if event.exit_status is None else f"exit {event.exit_status}"
    destination = "" if event.destination is None else f"to {event.destination}"
    used = " ".join(f"{name}={value}" for name, value in event.usage.items())
    return " ".join(part for part in (event.reason, destination, exit_status, used) if part)


def _change(event: Change) -> str:
    substate = "" if event.substate is None else str(event.substate)
    if event.event in ("submit", "create", "state"):
        return substate
    changed = (name for name in event.changed if name not in _DULL)
    names = [*changed, *(f"-{name}" for name in event.removed)]
    more = "" if len(names) <= _MOST_NAMES else f" +{len(names) - _MOST_NAMES}"
    return f"{substate} {' '.join(names[:_MOST_NAMES])}{more}".strip()


def _detail_style(event: AnyEvent) -> str:
    if isinstance(event, Gap) or (isinstance(event, Finalize) and event.reason in BAD_REASONS):
        return "red"
    return "green" if isinstance(event, Finalize) else ""
