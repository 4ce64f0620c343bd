"""Bars of states and their time axis, a line of text each."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.text import Text

from pbscast.palette import STATE_STYLES, state_order, state_word
from pbscast.render import printable
from pbscast.scale import Scale, brief, cells, ticks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pbscast.terminal.paper import Paper
    from pbscast.timeline import Course, Span

_DAY: Final = timedelta(days=1)
_SHARE: Final = 0.005
"""Of a whole, below which it is not worth a percentage."""


def scale_of(courses: Sequence[Course], width: int, now: datetime) -> Scale:
    """Return the scale on which all of these lives have their place."""
    begin = min(course.began for course in courses)
    return Scale(begin, max(begin, *(course.ended or now for course in courses)), width)


def bar(spans: Sequence[Span], scale: Scale, paper: Paper) -> Text:
    """Return a life's states over time: in colours with a letter each, else all letters."""
    return letters([None if i is None else spans[i].state for i in cells(spans, scale)], paper)


def letters(states: Sequence[str | None], paper: Paper) -> Text:
    """Return a line with a cell for each state, blank where there is none."""
    text = Text()
    for state, group in groupby(states):
        width = len(list(group))
        if state is None:
            text.append(" " * width)
            continue
        letter = printable(state)[:1]
        if paper.colours:
            text.append(letter.ljust(width), background(state))
        else:
            text.append(letter * width)
    return text


def background(state: str) -> str:
    """Return the style of a cell in this state."""
    colour = STATE_STYLES.get(state, "white")
    return f"{'white' if colour == 'bright_black' else 'black'} on {colour}"


def axis(scale: Scale, paper: Paper) -> list[Text]:
    """Return the axis under a bar: a line with ticks, and their times in local time if any."""
    times = ticks(scale, 14)
    form = _form(times)
    line, labels = [paper.glyphs.line] * scale.width, ""
    for time in times:
        place = min(int(scale.place(time)), scale.width - 1)
        line[place] = paper.glyphs.tick
        label = f"{time:%m-%d}" if "%H" in form and _is_midnight(time) else f"{time:{form}}"
        if place >= len(labels) + bool(labels) and place + len(label) <= scale.width:
            labels = labels.ljust(place) + label
    return [Text(text, "dim") for text in ("".join(line), labels) if text]


def _form(times: Sequence[datetime]) -> str:
    if len(times) > 1 and times[1] - times[0] >= _DAY:
        return "%m-%d"
    return "%H:%M:%S" if any(time.second for time in times) else "%H:%M"


def _is_midnight(time: datetime) -> bool:
    return (time.hour, time.minute, time.second) == (0, 0, 0)


def durations(spent: Mapping[str, timedelta], paper: Paper) -> Text:
    """Return how long was spent in each state, the key to a bar's letters."""
    total = sum(spent.values(), timedelta())
    text = Text()
    for state, length in spent.items():
        text.append("   " if text else "")
        letter = printable(state)[:1]
        text.append(f" {letter} " if paper.colours else letter, background(state))
        text.append(f" {printable(state_word(state))} ")
        text.append(brief(length), "bold")
        if total and _SHARE <= length / total < 1:
            text.append(f" {length / total:.0%}", "dim")
    return text


def key(states: Sequence[str], paper: Paper) -> Text:
    """Return what the letters of a chart mean."""
    text = Text()
    for state in sorted(set(states), key=state_order):
        text.append("  " if text else "")
        letter = printable(state)[:1]
        text.append(f" {letter} " if paper.colours else letter, background(state))
        text.append(f" {printable(state_word(state))}")
    return text
