"""The page that shows a reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pbscast.plots.figures import gantt, shade
from pbscast.plots.page import Page, Section, Table, render_page
from pbscast.plots.parts import bar_label, census_sections, clock, lives_section, moment, period
from pbscast_deploy.report.owner_plots import owner_sections
from pbscast_deploy.report.reading import MOST_GAPS, Reading


def report_page(reading: Reading, sites: Sequence[str], now: datetime) -> Iterator[str]:
    """Yield the page; its size does not grow with the number of events."""
    census = reading.census
    shown = census.longest
    title = f"PBS jobs from {clock(census.begin)} to {clock(census.end)}"
    sections = [*census_sections(census, reading.known_from), *owner_sections(reading.owners)]
    if shown:
        sections += [_longest(reading), lives_section(shown, census.lives, census.end)]
    else:
        sections.append(Section("No jobs", ["No job lived in this period at these sites."]))
    return render_page(Page(title, _facts(reading, sites, now), [*_gaps(reading), *sections]))


def _facts(reading: Reading, sites: Sequence[str], now: datetime) -> list[tuple[str, str]]:
    spans = (f"{site} {a:,} to {b:,}" for site, (a, b) in sorted(reading.positions.items()))
    return [
        ("Period", period(reading.census.begin, reading.census.end)),
        ("Sites", ", ".join(sites)),
        ("Lives", f"{reading.census.lives:,}"),
        ("Events of jobs", f"{reading.events:,}"),
        ("Owners", f"{len(reading.census.owners):,}"),
        ("Positions in the log", "; ".join(spans) or "none"),
        *_late(reading),
        ("Gaps in capture", f"{len(reading.gaps)}"),
        ("Made", moment(now)),
    ]


def _late(reading: Reading) -> Iterator[tuple[str, str]]:
    late = ", ".join(f"{site} {moment(time)}" for site, time in sorted(reading.known_from.items()))
    if late:
        yield "The log begins within it", f"{late}; of the time before nothing is known"


def _longest(reading: Reading) -> Section:
    census = reading.census
    courses = census.longest
    text = ["What goes on did so when the period ended."]
    if census.lives > len(courses):
        text.append(f"The {len(courses)} lives that lasted longest, of {census.lives:,}.")
    labels = [bar_label(course) for course in courses]
    drawing = gantt(courses, labels, census.end, census.begin, census.end)
    if reading.known_from.keys() >= census.sites.keys():
        shade(drawing.figure, census.begin, min(reading.known_from.values()))
    return Section("Single jobs over time", text, [drawing])


def _gaps(reading: Reading) -> Iterator[Section]:
    if not reading.gaps:
        return
    rows = [
        (
            gap.site,
            "not known" if gap.begin is None else clock(gap.begin),
            clock(gap.end or gap.time),
            gap.cause,
        )
        for gap in reading.gaps
    ]
    yield Section(
        "Gaps in capture",
        [f"In these times events may be missing; at most {MOST_GAPS} are listed for a site."],
        (),
        [Table("Gaps", ("site", "from", "to", "cause"), rows)],
    )
