"""One self-contained HTML page: text, tables, and figures drawn by plotly, which it carries along.

Nothing that PBS or its users wrote can act on it: text is escaped, figures lie in it as data, and
its own policy lets no script run but the two whose digests it names, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

from plotly.offline import get_plotlyjs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plotly.graph_objects import Figure

_DRAW: Final = """
for (const place of document.querySelectorAll("[data-figure]")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  Plotly.newPlot(place, figure.data, figure.layout, {
    responsive: true, displaylogo: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  });
}
"""


class Drawing(NamedTuple):
    """A figure and what it shows, for who cannot see it."""

    figure: Figure
    described: str
    height: int


@dataclass(frozen=True)
class Table:
    """Cells are text; those of columns that are told so stand to the right."""

    caption: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """All that is on it."""

    title: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section] = field(default_factory=tuple)


def render_page(page: Page) -> Iterator[str]:
    """Yield the page's HTML piece by piece."""
    library = get_plotlyjs()
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_digest(library)} {_digest(_DRAW)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'; base-uri 'none'"
    )
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(page.title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(page.title)}</h1>{_facts(page.facts)}</header><main>"
    )
    number = 0
    for section in page.sections:
        yield f"<section><h2>{escape(section.title)}</h2>"
        yield from (f"<p>{escape(line)}</p>" for line in section.text)
        for drawing in section.drawings:
            number += 1
            yield from _drawing(drawing, f"figure-{number}")
        yield from map(_table, section.tables)
        yield "</section>"
    made = escape(f"Made by pbscast {version('pbscast')}")
    yield f"</main><footer>{made}</footer>"
    if number:
        yield f"<script>{library}</script><script>{_DRAW}</script>"
    yield "</body></html>\n"


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(v)}</dd></div>" for name, v in facts)
    return f"<dl>{rows}</dl>"


def _drawing(drawing: Drawing, name: str) -> Iterator[str]:
    label = escape(drawing.described, quote=True)
    yield (
        f'<figure role="img" aria-label="{label}"><div data-figure="{name}" '
        f'style="height:{drawing.height}px"></div></figure>'
    )
    # In a script element only "<" could end the data; JSON may write it as an escape.
    data = drawing.figure.to_json().replace("<", "\\u003c")
    yield f'<script type="application/json" id="{name}">{data}</script>'


def _table(table: Table) -> str:
    heading = "".join(
        f'<th scope="col"{_kind(number=place in table.numbers)}>{escape(name)}</th>'
        for place, name in enumerate(table.heading)
    )
    rows = "".join(_row(row, table.numbers) for row in table.rows)
    return (
        f'<div class="table"><table><caption>{escape(table.caption)}</caption>'
        f"<thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(row: Sequence[str], numbers: frozenset[int]) -> str:
    first, *rest = row
    cells = "".join(_cell(cell, number=place in numbers) for place, cell in enumerate(rest, 1))
    return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'


def _cell(text: str, *, number: bool) -> str:
    return f"<td{_kind(number=number)}>{escape(text)}</td>"


def _kind(*, number: bool) -> str:
    return ' class="number"' if number else ""
