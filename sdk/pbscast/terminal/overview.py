"""Many lives at a glance: a bar each on one time axis, condensed where there are too many."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.text import Text

from pbscast.ids import JobId, split_subjob
from pbscast.palette import BAD_REASONS, STATE_STYLES, state_order
from pbscast.render import printable
from pbscast.scale import Scale, brief, cells
from pbscast.terminal.bar import axis, bar, key, letters, scale_of
from pbscast.terminal.layout import put_wrapped
from pbscast.terminal.paper import NARROW
from pbscast.terminal.steps import describe_end
from pbscast.terminal.story import end_style

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pbscast.terminal.paper import Paper
    from pbscast.timeline import Course

MOST_ROWS: Final = 100
"""Lives beyond which several share a row."""
_CONDENSED: Final = 50
"""Rows that remain then."""
_MOST_BAD: Final = 20
"""Bad ends that are listed beneath condensed rows."""


class _Row(NamedTuple):
    label: str
    bar: Text
    end: Text


def tell_subjobs(courses: Sequence[Course], paper: Paper, now: datetime) -> None:
    """Print a row for each subjob of an array, by site and index."""
    ordered = sorted(courses, key=_subjob_order)
    several = len({course.key.site for course in courses}) > 1
    _tell(ordered, paper, now, lambda course: _subjob_label(course, with_site=several))


def tell_courses(courses: Sequence[Course], paper: Paper, now: datetime) -> None:
    """Print a row for each life, in the order given."""
    ids = max((len(course.called) for course in courses), default=0)
    owners = max((len(course.owner or "-") for course in courses), default=0)
    _tell(courses, paper, now, lambda course: _life_label(course, ids, owners))


def _life_label(course: Course, id_width: int, owner_width: int) -> str:
    owner, name = course.owner or "-", course.name or "-"
    return f"{course.called:{id_width}} {owner:{owner_width}} {name}"


def _tell(
    courses: Sequence[Course], paper: Paper, now: datetime, label: Callable[[Course], str]
) -> None:
    if not courses:
        return
    condensed = len(courses) > MOST_ROWS
    size = -(-len(courses) // _CONDENSED) if condensed else 1
    groups = [courses[i : i + size] for i in range(0, len(courses), size)]
    labels = [_group_label(group, label) for group in groups]
    ends = [_group_end(group, now, paper) for group in groups]
    wide, end = max(map(len, labels)), min(max(map(len, ends)), paper.width // 4)
    if paper.wraps:
        wide = min(wide, paper.width // 3)
    room = paper.width - 4 if paper.width < NARROW else max(20, paper.width - wide - end - 6)
    scale = scale_of(courses, room, now)
    bars = [_group_bar(group, scale, paper) for group in groups]
    _put_rows([*map(_Row, labels, bars, ends)], scale, wide, paper)
    put_wrapped(key([span.state for course in courses for span in course.spans], paper), paper)
    if condensed:
        paper.put(Text(f"  {len(courses)} lives, {size} a row: each cell shows what most are in"))
        _put_bad_ends(courses, paper, label)


def _put_rows(rows: Sequence[_Row], scale: Scale, wide: int, paper: Paper) -> None:
    below = axis(scale, paper)
    if paper.width < NARROW:
        for row in rows:
            paper.put(Text(f"  {row.label}  ").append_text(row.end))
            paper.put(Text("  ").append_text(row.bar))
        paper.put(*(Text("  ").append_text(line) for line in below))
        return
    for row in rows:
        label = row.label if len(row.label) <= wide else row.label[: wide - 1] + "~"
        line = Text(f"  {label.ljust(wide)} ").append_text(row.bar).append("  ")
        line.append_text(row.end)
        if paper.wraps:
            line.truncate(paper.width)
        paper.put(line)
    paper.put(*(Text(" " * (wide + 3)).append_text(line) for line in below))


def _group_label(group: Sequence[Course], label: Callable[[Course], str]) -> str:
    first = printable(label(group[0]))
    if len(group) == 1:
        return first
    return f"{first.split()[0]} - {printable(label(group[-1])).split()[0]}"


def _group_bar(group: Sequence[Course], scale: Scale, paper: Paper) -> Text:
    if len(group) == 1:
        return bar(group[0].spans, scale, paper)
    drawn = [
        [None if i is None else course.spans[i].state for i in cells(course.spans, scale)]
        for course in group
    ]
    return letters([_most(column) for column in zip(*drawn, strict=True)], paper)


def _most(states: Sequence[str | None]) -> str | None:
    count = Counter(state for state in states if state is not None)
    return min(count, key=lambda state: (-count[state], state_order(state))) if count else None


def _group_end(group: Sequence[Course], now: datetime, paper: Paper) -> Text:
    if len(group) > 1:
        return _outcomes(group)
    course = group[0]
    spent = brief((course.ended or now) - course.began)
    if course.end is None:
        state = printable(course.state or "-")
        text = Text().append(state, STATE_STYLES.get(state, ""))
        return text.append(f" {spent} {paper.glyphs.arrow}")
    code = "" if course.end.exit_status is None else f" {course.end.exit_status}"
    to = f" {paper.glyphs.arrow} {course.end.destination}" if course.end.destination else ""
    text = Text().append(f"{course.end.reason}{code}{printable(to)}", end_style(course.end))
    return text.append(f" {spent}", "dim")


def _outcomes(group: Sequence[Course]) -> Text:
    count = Counter(
        "going on" if course.end is None else str(course.end.reason) for course in group
    )
    text = Text()
    for outcome, number in count.most_common():
        text.append(", " if text else "")
        text.append(f"{number} {outcome}", "red" if outcome in BAD_REASONS else "")
    return text


def _put_bad_ends(courses: Sequence[Course], paper: Paper, label: Callable[[Course], str]) -> None:
    bad = [
        course for course in courses if course.end is not None and course.end.reason in BAD_REASONS
    ]
    for course in bad[:_MOST_BAD]:
        assert course.end is not None  # noqa: S101 - as just chosen
        text = Text(f"  {printable(label(course))}  ")
        end = describe_end(course.end, course.ended_by)
        paper.put(text.append(printable(end), end_style(course.end)))
    if len(bad) > _MOST_BAD:
        paper.put(f"  and {len(bad) - _MOST_BAD} more that ended badly")


def _subjob_order(course: Course) -> tuple[str, int, int]:
    index = split_subjob(course.key.id)[1]
    return (course.key.site, int(index or -1), course.key.incarnation)


def _subjob_label(course: Course, *, with_site: bool) -> str:
    job = JobId.parse(course.key.id)
    again = f" life {course.key.incarnation}" if course.key.incarnation > 1 else ""
    return f"{f'{course.key.site} ' if with_site else ''}[{job.index}]{again}"
