"""The page of ``pbscast history --html``: a job, an array, or the jobs that were asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pbscast.census import MOST_BARS, Census
from pbscast.plots.figures import gantt
from pbscast.plots.page import Page, Section, Table, render_page
from pbscast.plots.parts import bar_label, census_sections, clock, lives_section, moment, period
from pbscast.terminal.steps import describe, describe_end, describe_usage, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pbscast.story import Story
    from pbscast.timeline import Course

_MOST_STEPS: Final = 500
_MOST_TOLD: Final = 20


def history_page(
    story: Story, now: datetime, begin: datetime | None = None, end: datetime | None = None
) -> Iterator[str]:
    """Yield the page; of bounded size, however many lives and events the story has.

    The period is that in which the lives lasted, within ``begin`` and ``end`` where given.
    """
    courses = story.courses
    first = min(course.began for course in courses)
    last = max(course.ended or max(now, course.began) for course in courses)
    begin = max(first, begin or first)
    end = max(begin, min(last, end or last)) + timedelta(milliseconds=1)
    census = Census(begin, end)
    for course in courses:
        census.add(course, now)
    many = len(courses) > MOST_BARS
    bars = _in_order(story, census.longest if many else courses)
    sections = [_gantt_section(bars, len(courses), now, begin, end), *_hand_overs(story, courses)]
    if len({course.key.id for course in courses}) > 1:
        counts = [*census_sections(census)]
        sections = [*counts, *sections] if many else [*sections, *counts]
    sections += [_life_section(course) for course in story.told[:_MOST_TOLD]]
    sections.append(lives_section(bars, len(courses), now))
    return render_page(Page(_title(story, courses), _facts(story, begin, end, now), sections))


def _title(story: Story, courses: Sequence[Course]) -> str:
    if len(story.ids) == 1:
        name = next((course.name for course in story.told if course.name), None)
        return f"{story.ids[0]} {name or ''}".strip()
    return ", ".join(story.ids[:5]) if story.ids else f"History of {len(courses):,} lives"


def _facts(story: Story, begin: datetime, end: datetime, now: datetime) -> list[tuple[str, str]]:
    positions = (f"{site} {a:,} to {b:,}" for site, (a, b) in sorted(story.positions.items()))
    owners = sorted({course.owner for course in story.courses if course.owner})
    more = f" and {len(owners) - 5} more" if len(owners) > 5 else ""
    return [
        ("Period", period(begin, end)),
        ("Sites", ", ".join(sorted(story.positions))),
        ("Owners", ", ".join(owners[:5]) + more),
        ("Lives", f"{len(story.courses):,}"),
        ("Positions in the log", "; ".join(positions)),
        ("Made", moment(now)),
    ]


def _in_order(story: Story, courses: Sequence[Course]) -> list[Course]:
    """Keep what was asked for by id before its subjobs."""
    place = {course.key: number for number, course in enumerate(story.told)}
    return sorted(
        courses, key=lambda course: (place.get(course.key, len(place)), course.began, course.key)
    )


def _gantt_section(
    bars: Sequence[Course], count: int, now: datetime, begin: datetime, end: datetime
) -> Section:
    labels = [bar_label(course) for course in bars]
    text = []
    if count > len(bars):
        text = [f"The {len(bars)} lives that lasted longest, of {count:,}; all are counted."]
    return Section("States over time", text, [gantt(bars, labels, now, begin, end)])


def _hand_overs(story: Story, courses: Sequence[Course]) -> Iterator[Section]:
    rows = [
        (found.id, found.source, found.target, found.destination or "-", moment(found.arrived))
        for course in courses
        if (found := story.arrival(course)) is not None
    ]
    if rows:
        heading = ("job", "from", "to", "destination", "arrived")
        yield Section("Hand-overs between sites", (), (), [Table("", heading, rows[:_MOST_STEPS])])


def _life_section(course: Course) -> Section:
    steps = steps_of(course.entries)
    rows = []
    for step in steps[:_MOST_STEPS]:
        what = [describe(item, "→", "…") for item in step.alterations]
        what[:0] = [" → ".join(step.queues)] if step.queues else []
        if step.finalize is not None:
            what.append(describe_end(step.finalize))
        if step.count > 1:
            what.insert(0, f"{step.count} events until {clock(step.end)}")
        states = " → ".join(step.states)
        rows.append((clock(step.begin), str(step.event), states, "; ".join(what)))
    text = [f"Used: {describe_usage(sorted(course.usage.items()))}"] if course.usage else []
    if len(steps) > len(rows):
        text.append(f"The first {len(rows)} of {len(steps):,} steps.")
    title = f"{course.key.id} at {course.key.site}, life {course.key.incarnation}"
    heading = ("when", "event", "state", "what changed")
    return Section(title, text, (), [Table("What happened", heading, rows)])
