"""Figures of lives and of what they add up to, in the colours of the terminal."""

from __future__ import annotations

from datetime import timedelta
from html import escape as escape_html
from typing import TYPE_CHECKING, Any, Final

from plotly.graph_objects import Bar, Figure, Scatter

from pbscast.census import EDGE_WORDS
from pbscast.palette import (
    OTHER_COLOUR,
    REASON_COLOURS,
    STATE_COLOURS,
    state_order,
    state_word,
)
from pbscast.plots.page import Drawing
from pbscast.scale import brief
from pbscast.terminal.steps import describe_end

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pbscast.census import Lengths, StateCounts, Tally
    from pbscast.timeline import Course

SITE_COLOURS: Final = ("#3f6fd1", "#e07b39", "#2f9e5f", "#b0549e", "#8d6f3f", "#1f8795", "#6b7280")
_GRID: Final = "#e8ebef"
_FONT: Final = {"family": 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif', "color": "#1f2933"}
_ROW: Final = 22
_FRAME: Final = 110
_LABEL: Final = 34
_UNKNOWN: Final = "#9aa5b1"


def gantt(
    courses: Sequence[Course], labels: Sequence[str], now: datetime, begin: datetime, end: datetime
) -> Drawing:
    """Return a row for each life: its states over time."""
    names = [_label(number, label) for number, label in enumerate(labels)]
    bars: dict[str, dict[str, list[Any]]] = {}
    for name, course in zip(names, courses, strict=True):
        for state, since, until in course.spans:
            over = max(since, until or now)
            bar = bars.setdefault(state, {"y": [], "base": [], "x": [], "text": []})
            bar["y"].append(name)
            bar["base"].append(_local(since))
            bar["x"].append((over - since) / timedelta(milliseconds=1))
            bar["text"].append(_told(course, state, since, over, goes_on=until is None))
    figure = Figure(
        [
            Bar(
                orientation="h",
                name=state_word(state) if state.isprintable() else "?",
                y=bars[state]["y"],
                base=bars[state]["base"],
                x=bars[state]["x"],
                customdata=bars[state]["text"],
                hovertemplate="%{customdata}<extra></extra>",
                marker={"color": _colour(state), "line": {"width": 0}},
            )
            for state in sorted(bars, key=state_order)
        ]
    )
    height = _FRAME + _ROW * max(2, len(names))
    _lay_out(figure, height, barmode="overlay", bargap=0.28)
    margin = max((end - begin) * 0.005, timedelta(milliseconds=1))
    figure.update_xaxes(
        type="date", range=[_local(begin - margin), _local(end + margin)], showgrid=True
    )
    shown = [_shorten(label) for label in labels]
    figure.update_yaxes(
        autorange="reversed",
        type="category",
        categoryarray=names,
        categoryorder="array",
        tickvals=names,
        ticktext=shown,
        showgrid=False,
    )
    return Drawing(figure, f"Gantt chart of {len(names)} lives, states over time", height)


def states_over_time(site: str, counts: StateCounts, known_from: datetime | None = None) -> Drawing:
    """Return the number of lives in each state, stacked, averaged over each step.

    What lies before ``known_from`` is shaded: that there is nothing to see there tells nothing.
    """
    times = [_local(time) for time in counts.times]
    figure = Figure(
        [
            Scatter(
                x=times,
                y=[round(number, 4) for number in [*numbers, numbers[-1]]],
                name=state_word(state),
                stackgroup="all",
                mode="lines",
                line={"shape": "hv", "width": 0},
                fillcolor=_colour(state),
                hovertemplate="%{y:.4~g}",
            )
            for state, numbers in sorted(counts.states(), key=lambda item: state_order(item[0]))
        ]
    )
    _lay_out(figure, 330, hovermode="x unified")
    figure.update_yaxes(title=f"jobs at {_text(site)}", rangemode="tozero")
    figure.update_xaxes(type="date", range=[times[0], times[-1]])
    if known_from is not None:
        shade(figure, counts.times[0], known_from)
    return Drawing(figure, f"Number of jobs in each state over time at {site}", 330)


def shade(figure: Figure, begin: datetime, end: datetime) -> None:
    """Mark a time of which nothing is known, in a figure over time."""
    figure.add_vrect(
        x0=_local(begin),
        x1=_local(end),
        fillcolor=_UNKNOWN,
        opacity=0.3,
        line_width=0,
        annotation={"text": "not known", "font": {"color": "#52606d"}},
        annotation_position="top left",
    )


def lengths(what: str, found: Mapping[str, Lengths]) -> Drawing:
    """Return how many jobs took how long, a colour for each site."""
    figure = Figure(
        [
            Bar(
                name=_text(site),
                x=list(EDGE_WORDS),
                y=item.bins,
                marker={"color": SITE_COLOURS[number % len(SITE_COLOURS)]},
                hovertemplate="%{y} jobs, %{x}",
            )
            for number, (site, item) in enumerate(found.items())
        ]
    )
    _lay_out(figure, 290, barmode="stack", bargap=0.12)
    figure.update_yaxes(title="jobs", rangemode="tozero")
    figure.update_xaxes(
        title=what, type="category", categoryarray=list(EDGE_WORDS), range=[-0.5, 14.5]
    )
    return Drawing(figure, f"Histogram of {what} by site", 290)


def ends(tallies: Mapping[str, Tally]) -> Drawing:
    """Return how the jobs of each owner or site ended."""
    names = [_label(number, name) for number, name in enumerate(tallies)]
    figure = Figure(
        [
            Bar(
                orientation="h",
                name=reason,
                y=names,
                x=[tally.ends[reason] for tally in tallies.values()],
                marker={"color": colour},
                hovertemplate=f"%{{x}} {reason}<extra></extra>",
            )
            for reason, colour in REASON_COLOURS.items()
            if any(tally.ends[reason] for tally in tallies.values())
        ]
    )
    height = _FRAME + 26 * max(2, len(names))
    _lay_out(figure, height, barmode="stack", bargap=0.3)
    figure.update_xaxes(title="jobs that ended", rangemode="tozero")
    figure.update_yaxes(
        autorange="reversed",
        type="category",
        showgrid=False,
        tickvals=names,
        ticktext=[_shorten(name) for name in tallies],
    )
    return Drawing(figure, "How jobs ended, by owner", height)


def _lay_out(figure: Figure, height: int, **more: Any) -> None:
    figure.update_layout(
        template="none",
        height=height,
        font={**_FONT, "size": 13},
        margin={"l": 20, "r": 48, "t": 44, "b": 44},
        modebar={"orientation": "v"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "left", "x": 0},
        showlegend=True,
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        hoverlabel={"align": "left"},
        **more,
    )
    figure.update_xaxes(gridcolor=_GRID, linecolor=_GRID, automargin=True, zeroline=False)
    figure.update_yaxes(gridcolor=_GRID, linecolor=_GRID, automargin=True, zeroline=False)


def _told(course: Course, state: str, begin: datetime, end: datetime, *, goes_on: bool) -> str:
    word = _text(state_word(state))
    life = course.key
    parts = [
        f"<b>{_text(life.id)}</b> {_text(course.name or '')}",
        f"{_text(course.owner or '-')} at {_text(life.site)}, life {life.incarnation}",
        f"{word} for {brief(end - begin)}{' and goes on' if goes_on else ''}",
        f"{_local(begin)} to {_local(end)}",
    ]
    if course.end is not None:
        parts.append(_text(describe_end(course.end, course.ended_by)))
    return "<br>".join(parts)


def _text(text: str) -> str:
    """Return text as plotly shows it; it knows no entity of a quotation mark."""
    return escape_html(text, quote=False)


def _colour(state: str) -> str:
    return STATE_COLOURS.get(state, OTHER_COLOUR)


def _label(number: int, label: str) -> str:
    """Tell rows of one name apart; what is shown are the tick texts."""
    return f"{number} {_text(label)}"


def _shorten(label: str) -> str:
    return _text(label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…")


def _local(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3]
