"""How an event looks in a terminal: one aligned line each. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

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

_WIDTHS: Final = {"site": 8, "id": 16, "name": 15, "owner": 10, "queue": 10, "event": 8}
_STATE_WIDTH: Final = 6
_MOST_NAMES: Final = 4
_DULL: Final = frozenset({"mtime"})
"""What changes with everything else."""


def render(event: AnyEvent, *, with_date: bool = False, arrow: str = "→") -> Text:
    """Return the line: time, site, id, name, owner, queue, event, old→new state, the rest."""
    line = Text(_clock(event.time, with_date=with_date), style="dim", end="")
    about = event if isinstance(event, ObjectPayload) else ObjectPayload()
    cells = {
        "site": event.site,
        "id": event.id if event.kind == "job" else f"{event.kind} {event.id}",
        "name": about.name or "-",
        "owner": about.owner or "-",
        "queue": about.queue or "-",
        "event": event.event,
    }
    for column, text in cells.items():
        line.append(" " + printable(text).ljust(_WIDTHS[column]), _cell_style(column))
    state = _state(event, arrow)
    line.append(" " + state.ljust(_STATE_WIDTH), STATE_STYLES.get(about.state or "", ""))
    if detail := _detail(event):
        line.append(" " + printable(detail), _detail_style(event))
    line.rstrip()
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
