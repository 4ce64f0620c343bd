"""Plots by owner."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Final

from plotly.graph_objects import Figure, Scatter

from pbscast.plots.figures import SITE_COLOURS
from pbscast.plots.page import Drawing, Section
from pbscast_deploy.report.owners import QUEUED, RUNNING

if TYPE_CHECKING:
    from pbscast_deploy.report.owners import Owners

_HEIGHT: Final = 300


def owner_sections(owners: Owners) -> Iterator[Section]:
    """Yield the plots, if there is anything to draw; of the busiest alone, a colour for each."""
    busiest = owners.busiest
    shown = busiest[: len(SITE_COLOURS)]
    text = ["How many jobs of each owner ran, and how many stood in a queue."]
    if len(busiest) > len(shown):
        text.append(f"The {len(shown)} owners with the most jobs, of {len(busiest)}.")
    drawings = [_draw(owners, shown, *what) for what in ((RUNNING, "running"), (QUEUED, "queued"))]
    drawn = [drawing for drawing in drawings if drawing is not None]
    if drawn:
        yield Section("Owners over time", text, drawn)


def _draw(owners: Owners, shown: list[str], state: str, word: str) -> Drawing | None:
    lines = []
    for owner, colour in zip(shown, SITE_COLOURS, strict=False):
        counts = owners.counts[owner]
        numbers = dict(counts.states()).get(state)
        if numbers is not None:
            lines.append(_line(owner, colour, counts.times, numbers))
    if not lines:
        return None
    figure = Figure(lines)
    figure.update_layout(
        template="none",
        height=_HEIGHT,
        margin={"l": 60, "r": 48, "t": 44, "b": 44},
        hovermode="x unified",
        showlegend=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "left", "x": 0},
    )
    figure.update_yaxes(title=f"jobs {word}", rangemode="tozero")
    figure.update_xaxes(type="date")
    return Drawing(figure, f"Number of {word} jobs over time, by owner", _HEIGHT)


def _line(owner: str, colour: str, times: list[datetime], numbers: list[float]) -> Scatter:
    return Scatter(
        x=[f"{time.astimezone():%Y-%m-%d %H:%M:%S.%f}" for time in times],
        y=[round(number, 4) for number in [*numbers, numbers[-1]]],
        name=escape(owner, quote=False),
        stackgroup="all",
        mode="lines",
        line={"shape": "hv", "width": 0},
        fillcolor=colour,
        hovertemplate="%{y:.4~g}",
    )
