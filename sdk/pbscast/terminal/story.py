"""The story of one job, life after life."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from pbscast.palette import BAD_REASONS, STATE_STYLES
from pbscast.render import printable
from pbscast.scale import brief
from pbscast.terminal.bar import axis, bar, durations, scale_of
from pbscast.terminal.entries import put_entries
from pbscast.terminal.layout import INDENT, put_wrapped
from pbscast.terminal.paper import NARROW
from pbscast.terminal.steps import (
    Step,
    clocks,
    describe,
    describe_end,
    describe_others,
    describe_usage,
    steps_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pbscast.events import Finalize
    from pbscast.handovers import HandOver
    from pbscast.terminal.paper import Paper
    from pbscast.timeline import Course


def tell_course(
    course: Course,
    paper: Paper,
    now: datetime,
    *,
    newest_first: bool = False,
    in_full: bool = False,
) -> None:
    """Print one life: its header, bar, durations, and its steps in order.

    In full: instead of the steps each event with all that it changed.
    """
    for place, text in enumerate(_header(course, now)):
        put_wrapped(text, paper, indent=INDENT if place else 0)
    if course.spans:
        scale = scale_of([course], paper.width - INDENT - 2, now)
        line = bar(course.spans, scale, paper)
        if course.end is None:
            line.append(f" {paper.glyphs.arrow}", "dim")
        paper.put("", *(Text("  ").append_text(text) for text in (line, *axis(scale, paper))))
        put_wrapped(durations(course.durations(now), paper), paper)
    if course.usage:
        usage = describe_usage(sorted(course.usage.items()))
        put_wrapped(Text().append("used ", "dim").append(printable(usage)), paper)
    paper.put("")
    if in_full:
        put_entries(course.entries[::-1] if newest_first else course.entries, paper)
        return
    steps = steps_of(course.entries)
    _put_steps(steps[::-1] if newest_first else steps, paper)


def tell_hand_over(hand_over: HandOver, paper: Paper) -> None:
    """Print the line that stands between the two lives of a job that moved."""
    where = f" ({hand_over.destination})" if hand_over.destination else ""
    text = f" handed over: {hand_over.source} {paper.glyphs.arrow} {hand_over.target}{where} "
    line = paper.glyphs.line
    head = f"{line * 2}{printable(text)}"
    paper.put("", Text(head.ljust(paper.width - 1, line), "bold cyan"), "")


def end_style(end: Finalize) -> str:
    """Return the colour of an end."""
    return "red" if end.reason in BAD_REASONS else "green"


def _header(course: Course, now: datetime) -> Iterator[Text]:
    title = Text().append(f"{printable(course.key.id)}  {printable(course.name or '')}", "bold")
    title.append(f"  at {course.key.site}, life {course.key.incarnation}")
    yield title
    yield _facts(
        ("owner", course.owner), ("queue", ", ".join(course.queues)), ("project", course.project)
    )
    began = f"{_moment(course.began)}" if course.whole else f"before {_moment(course.began)}"
    facts = _facts(("began", began), ("ended", _moment(course.ended) if course.ended else None))
    lasted = brief((course.ended or now) - course.began)
    yield facts.append(f"  after {lasted}" if course.end else f"  {lasted} ago, goes on", "dim")
    if course.end is not None:
        end = describe_end(course.end, course.ended_by)
        yield Text().append(printable(end), f"bold {end_style(course.end)}")


def _facts(*facts: tuple[str, str | None]) -> Text:
    text = Text()
    for name, value in facts:
        if value:
            text.append("  " if text else "")
            text.append(f"{name} ", "dim").append(printable(value))
    return text


def _moment(time: datetime) -> str:
    return time.astimezone().isoformat(" ", "seconds")


def _put_steps(steps: list[Step], paper: Paper) -> None:
    if not steps:
        return
    times = clocks([step.begin for step in steps])
    states = max(len(_states(step, paper)) for step in steps)
    names = max(len(step.event) for step in steps)
    heads = [
        Text()
        .append(f"  {when}  ", "dim")
        .append(f"{step.event:{names}}  ")
        .append(_states(step, paper).ljust(states), _state_style(step))
        for when, step in zip(times, steps, strict=True)
    ]
    room = paper.width - (4 if paper.width < NARROW else len(heads[0]) + 2)
    _lay_out(heads, [_what(step, paper, room) for step in steps], paper)


def _lay_out(heads: list[Text], details: list[Text], paper: Paper) -> None:
    if not paper.wraps:
        for head, detail in zip(heads, details, strict=True):
            line = head.append("  ").append_text(detail)
            line.rstrip()
            paper.put(line)
    elif paper.width < NARROW:
        for head, detail in zip(heads, details, strict=True):
            paper.put(head)
            if detail:
                paper.console.print(Padding(detail, (0, 0, 0, 4)), soft_wrap=False)
    else:
        from rich.table import Table  # noqa: PLC0415 - slow to import, not needed in a pipe

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for head, detail in zip(heads, details, strict=True):
            table.add_row(head, detail)
        paper.console.print(table, soft_wrap=False)


def _states(step: Step, paper: Paper) -> str:
    return printable(paper.glyphs.arrow.join(step.states))


def _state_style(step: Step) -> str:
    return STATE_STYLES.get(step.states[-1], "") if step.states else ""


def _what(step: Step, paper: Paper, room: int) -> Text:
    glyphs = paper.glyphs
    if step.finalize is not None:
        return Text(printable(describe_end(step.finalize)), end_style(step.finalize))
    text = Text()
    if step.count > 1 and not step.substates:
        text.append(f"{step.count} times until {clocks([step.begin, step.end])[1]}  ", "dim")
    text.append(glyphs.arrow.join(map(str, step.substates)), "dim")
    parts = [f"queue {f' {glyphs.arrow} '.join(step.queues)}"] if step.queues else []
    parts += [describe(item, glyphs.arrow, glyphs.more) for item in step.alterations]
    for part in parts:
        text.append("  " if text else "").append(printable(part))
    gap = "  " if text else ""
    others = describe_others(step.others, room - len(text) - len(gap))
    if others:
        text.append(f"{gap}{printable(others)}", "dim")
    return text
