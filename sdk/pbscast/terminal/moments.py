"""Lives, how jobs stood at a moment, and what two moments differ in, in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.padding import Padding
from rich.text import Text

from pbscast.events import Kind
from pbscast.palette import BAD_REASONS, STATE_STYLES, state_word
from pbscast.render import printable
from pbscast.scale import brief
from pbscast.terminal.steps import BOOKKEEPING, describe, describe_others, shorten
from pbscast.terminal.tables import Cell, Column, put_table
from pbscast.timeline import Alteration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pbscast.lives import Difference, Life, Standing
    from pbscast.terminal.paper import Paper

_LIFE: Final = (
    Column("site"),
    Column("job"),
    Column("name", 3),
    Column("owner", 1),
    Column("queue", 4),
    Column("project", 8),
    Column("states", 2),
    Column("began", 5),
    Column("ended", 6),
    Column("lasted", 7),
    Column("end"),
)
_STANDING: Final = (
    Column("site"),
    Column("job"),
    Column("name", 2),
    Column("owner", 1),
    Column("queue", 3),
    Column("project", 5),
    Column("state"),
    Column("began", 4),
)
_OBJECT: Final = (
    Column("site"),
    Column("kind", 2),
    Column("name"),
    Column("state"),
    Column("began", 1),
)
_MOST_CHANGES: Final = 4
_NO_PROJECT: Final = "_pbs_project_default"


def put_lives(lives: Sequence[Life], paper: Paper, now: datetime) -> None:
    """Print a table of lives."""
    put_table(_LIFE, [_life_row(life, paper, now) for life in lives], paper)


def _life_row(life: Life, paper: Paper, now: datetime) -> list[Cell]:
    again = f" #{life.incarnation}" if life.incarnation > 1 else ""
    return [
        Cell(life.site),
        Cell(f"{life.id}{again}", "bold"),
        Cell(life.name or "-"),
        Cell(life.owner or "-"),
        Cell(life.queue or "-"),
        Cell(_project(life.project)),
        Cell(paper.glyphs.arrow.join(life.reached), STATE_STYLES.get(life.state or "", "")),
        Cell(_moment(life.began)),
        Cell("-" if life.ended is None else _moment(life.ended)),
        Cell(brief((life.ended or now) - life.began)),
        _end(life.reason, life.exit_status),
    ]


def _end(reason: str | None, exit_status: int | None) -> Cell:
    if reason is None:
        return Cell("-")
    code = "" if exit_status is None else f" {exit_status}"
    return Cell(f"{reason}{code}", "red" if reason in BAD_REASONS else "green")


def put_standings(standings: Sequence[Standing], paper: Paper) -> None:
    """Print a table of how jobs stood, or objects of another kind."""
    if all(standing.kind is Kind.JOB for standing in standings):
        put_table(_STANDING, [_standing_row(standing) for standing in standings], paper)
    else:
        put_table(_OBJECT, [_object_row(standing) for standing in standings], paper)


def _standing_row(standing: Standing) -> list[Cell]:
    state = standing.state or "-"
    return [
        Cell(standing.site),
        Cell(standing.id, "bold"),
        Cell(standing.name or "-"),
        Cell(standing.owner or "-"),
        Cell(standing.queue or "-"),
        Cell(_project(standing.project)),
        _end(standing.reason, standing.exit_status)
        if standing.reason
        else Cell(f"{state} {state_word(state)}", STATE_STYLES.get(state, "")),
        Cell(_moment(standing.began)),
    ]


def _object_row(standing: Standing) -> list[Cell]:
    return [
        Cell(standing.site),
        Cell(standing.kind),
        Cell(standing.id, "bold"),
        Cell(standing.state or "-"),
        Cell(_moment(standing.began)),
    ]


def put_in_full(standing: Standing, paper: Paper) -> None:
    """Print how one job stood, with all of its attributes."""
    title = Text().append(printable(standing.id), "bold")
    title.append(f"  at {standing.site}, life {standing.incarnation}")
    title.append(f", revision {standing.revision}, position {standing.position}")
    state = standing.state or "-"
    words = " ".join(dict.fromkeys((state, state_word(state))))
    paper.put(title, Text(f"  {printable(words)}", _style(state)))
    if standing.ended is not None:
        end = _end(standing.reason, standing.exit_status)
        paper.put(Text(f"  ended {_moment(standing.ended)}  ").append(*end))
    values = sorted((standing.attributes or {}).items())
    width = max((len(name) for name, _ in values), default=0)
    for name, value in values:
        _put_value(name.ljust(width), value, paper)
    for name in standing.omitted:
        _put_value(name.ljust(width), "(too large for a message: the log has it)", paper)


def _put_value(name: str, value: str, paper: Paper) -> None:
    line = Text().append(f"{printable(name)}  ", "dim").append(printable(value))
    if paper.wraps:
        paper.console.print(Padding(line, (0, 0, 0, 2)), soft_wrap=False)
    else:
        paper.put(Text("  ").append_text(line))


def put_difference(difference: Difference, paper: Paper, *, in_full: bool) -> None:
    """Print what became of one job between two moments: a line, or all that differs."""
    sign, style = _sign(difference)
    after = difference.after
    line = Text().append(f"{sign} ", style)
    line.append(f"{after.site:8} ").append(printable(after.id).ljust(16), "bold")
    line.append(f" {printable(after.owner or '-'):10} {printable(after.name or '-'):15} ")
    line.append_text(_states(difference, paper))
    if after.reason is not None:
        end = _end(after.reason, after.exit_status)
        line.append(f"  {end.text}", end.style)
    changes = [] if difference.appeared else _changes(difference)
    shown = changes if in_full else [item for item in changes if item.name not in BOOKKEEPING]
    if not in_full:
        words = [_words(item, paper) for item in shown[:_MOST_CHANGES]]
        line.append("".join(f"  {word}" for word in words))
        others = [item.name for item in [*shown, *changes] if item not in shown[:_MOST_CHANGES]]
        more = describe_others(list(dict.fromkeys(others)), paper.width - len(line) - 2)
        line.append(f"  {printable(more)}" if more else "", "dim")
    line.rstrip()
    paper.put(line)
    for item in shown if in_full else ():
        paper.put(f"    {_words(item, paper)}")
    for name in difference.omitted if in_full else ():
        paper.put(f"    {printable(name)} (too large for a message: the log has both)")


def _changes(difference: Difference) -> list[Alteration]:
    return [Alteration(name, *values) for name, values in sorted(difference.changed.items())]


def _words(item: Alteration, paper: Paper) -> str:
    return printable(describe(item, paper.glyphs.arrow, paper.glyphs.more))


def _sign(difference: Difference) -> tuple[str, str]:
    if difference.appeared:
        return ("*", "yellow") if difference.ended else ("+", "green")
    return ("-", "red") if difference.ended else ("~", "cyan")


def _states(difference: Difference, paper: Paper) -> Text:
    old = None if difference.before is None else difference.before.state
    new = difference.after.state or "-"
    words = new if old in (None, new) else f"{old}{paper.glyphs.arrow}{new}"
    return Text(printable(words).ljust(4), _style(new))


def _style(state: str) -> str:
    return STATE_STYLES.get(state, "")


def _project(project: str | None) -> str:
    return "-" if project in (None, _NO_PROJECT) else shorten(project or "", "~")


def _moment(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"
