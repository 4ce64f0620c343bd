"""What pages of histories and of reports have in common: sections, tables, words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbscast.palette import BAD_REASONS, state_word
from pbscast.plots.figures import ends, lengths, states_over_time
from pbscast.plots.page import Section, Table
from pbscast.scale import brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pbscast.census import Census, Lengths, Tally
    from pbscast.timeline import Course

MOST_ROWS: Final = 300
"""Of a table of lives."""
_LIVES: Final = (
    "Every life counts as one: each subjob, and its array as well, which neither waits nor runs."
    f" Ended badly: {', '.join(sorted(BAD_REASONS))}. ~ is right to a twentieth, all else exact."
)
_MOST_SITES: Final = 12
_MOST_OWNERS: Final = 20


def moment(time: datetime) -> str:
    """Return a time in words, with its zone."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def clock(time: datetime) -> str:
    """Return a time as in a table: in the zone that the page's facts name."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def bar_label(course: Course) -> str:
    """Return what stands beside a life's bar."""
    return f"{course.called} {course.name or ''}".strip()


def period(begin: datetime, end: datetime) -> str:
    """Return a period in words."""
    return f"{moment(begin)} to {moment(end)} ({brief(end - begin)})"


def census_sections(
    census: Census, known_from: Mapping[str, datetime] | None = None
) -> Iterator[Section]:
    """Yield jobs in each state over time, waits and runs, and tables per site and owner.

    ``known_from`` tells of which sites not all of the period is known.
    """
    known = known_from or {}
    busiest = sorted(census.states, key=lambda site: -census.sites[site].lives)
    shown = sorted(busiest[:_MOST_SITES])
    if not shown:
        return
    step = brief(census.states[shown[0]].bucket)
    text = [f"Each step is the average over {step}."]
    if len(busiest) > len(shown):
        text.append(f"The {len(shown)} sites with the most jobs, of {len(busiest)}.")
    if any(site in known for site in shown):
        text.append("Of the shaded time nothing is known: the log begins later.")
    yield Section(
        "Jobs in each state over time",
        text,
        [states_over_time(site, census.states[site], known.get(site)) for site in shown],
    )
    yield _lengths_section(census, shown)
    yield from _tally_sections(census)


def _lengths_section(census: Census, shown: Sequence[str]) -> Section:
    waits = {site: census.sites[site].waits for site in shown if census.sites[site].waits.count}
    runs = {site: census.sites[site].runs for site in shown if census.sites[site].runs.count}
    drawings = [lengths("queued before the first run", waits)] if waits else []
    drawings += [lengths("time running", runs)] if runs else []
    return Section(
        "Queue wait and run times",
        [
            "Waited: queued before the first run, of jobs that first ran in the period.",
            "Held: what else they spent before it, on hold or until the time they were to start.",
            "Ran: of jobs that ended in the period.",
            _LIVES,
        ],
        drawings,
        [_tally_table("Jobs, waits and run times by site", "site", census.sites)],
    )


def _tally_sections(census: Census) -> Iterator[Section]:
    order = sorted(census.owners, key=lambda owner: (-census.owners[owner].lives, owner))
    owners = {owner: census.owners[owner] for owner in order[:_MOST_OWNERS]}
    text = [_LIVES]
    if len(order) > len(owners):
        text += [f"The {len(owners)} owners with the most jobs, of {len(order)}."]
    ended = {name: tally for name, tally in owners.items() if tally.ends}
    yield Section(
        "Per owner",
        text,
        [ends(ended)] if ended else [],
        [_tally_table("Jobs, waits and run times by owner", "owner", owners)],
    )


def _tally_table(caption: str, what: str, tallies: Mapping[str, Tally]) -> Table:
    heading = (
        *(what, "lives", "ended", "of these badly", "waited: median", "90 %", "longest"),
        *("held: in all", "ran: median", "90 %", "longest", "in all"),
    )
    rows = [
        (
            name,
            f"{tally.lives:,}",
            f"{tally.ends.total():,}",
            f"{sum(tally.ends[reason] for reason in BAD_REASONS):,}",
            *_quantiles(tally.waits),
            brief(tally.held) if tally.waits.count else "-",
            *_quantiles(tally.runs),
            brief(tally.runs.total) if tally.runs.count else "-",
        )
        for name, tally in tallies.items()
    ]
    return Table(caption, heading, rows, frozenset(range(1, len(heading))))


def _quantiles(found: Lengths) -> tuple[str, str, str]:
    if not found.count:
        return "-", "-", "-"
    about = "" if found.is_exact else "~"
    middle, most = (brief(found.quantile(share) or found.longest) for share in (0.5, 0.9))
    return f"{about}{middle}", f"{about}{most}", brief(found.longest)


def lives_section(courses: Sequence[Course], count: int, now: datetime) -> Section:
    """Return a table of lives, with what each spent in each state."""
    heading = ("job", "site", "name", "owner", "queue", "began", "ended", "end", "spent")
    rows = [_life_row(course, now) for course in courses[:MOST_ROWS]]
    text = [] if len(rows) == count else [f"{len(rows)} of {count:,} lives."]
    caption = "Each life, and how long it was in each state"
    return Section("Lives", text, (), [Table(caption, heading, rows)])


def _life_row(course: Course, now: datetime) -> tuple[str, ...]:
    end = course.end
    code = "" if end is None or end.exit_status is None else f", exit status {end.exit_status}"
    spent = course.durations(now).items()
    return (
        course.key.id,
        course.key.site,
        course.name or "-",
        course.owner or "-",
        ", ".join(course.queues) or "-",
        clock(course.began),
        "goes on" if course.ended is None else clock(course.ended),
        "-" if end is None else f"{end.reason}{code}",
        ", ".join(f"{state_word(state)} {brief(length)}" for state, length in spent),
    )
