"""Every event of a life with all that it says, nothing summed up or cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from pbscast.events import Change, Finalize, ObjectPayload, Provenance
from pbscast.render import printable
from pbscast.terminal.layout import put_wrapped
from pbscast.terminal.steps import clocks, describe_end, describe_fully

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pbscast.events import AnyEvent
    from pbscast.terminal.paper import Paper
    from pbscast.timeline import Entry

_DEEP: Final = 6


def put_entries(entries: Sequence[Entry], paper: Paper) -> None:
    """Print when, what, in which state, at which position, and each value from old to new.

    How an event is known is said where it is not from the journal.
    """
    times = clocks([entry.event.time for entry in entries])
    for time, entry in zip(times, entries, strict=True):
        put_wrapped(_head(time, entry.event, paper), paper)
        for line in _values(entry, paper.glyphs.arrow):
            put_wrapped(Text(printable(line)), paper, indent=_DEEP)


def _head(time: str, event: AnyEvent, paper: Paper) -> Text:
    text = Text().append(f"{time}  ", "dim").append(f"{event.event}", "bold")
    text.append(f"  {printable(_states(event, paper.glyphs.arrow))}")
    text.append(f"  position {event.position}", "dim")
    if event.provenance is not Provenance.JOURNAL:
        text.append(f"  known from {event.provenance}", "yellow")
    return text


def _states(event: AnyEvent, arrow: str) -> str:
    if not isinstance(event, ObjectPayload):
        return ""
    old = (event.old_state, event.old_substate) if isinstance(event, Change) else (None, None)
    new = (event.state, event.substate)
    pairs = zip(old, new, strict=True)
    words = (arrow.join(str(x) for x in dict.fromkeys(pair) if x is not None) for pair in pairs)
    return "  ".join(word for word in words if word)


def _values(entry: Entry, arrow: str) -> Iterator[str]:
    event = entry.event
    yield from (describe_fully(item, arrow) for item in entry.alterations)
    if isinstance(event, Change):
        yield from (f"column {name} {value}" for name, value in event.columns.items())
    if isinstance(event, Finalize):
        yield describe_end(event)
        yield from (f"used {name} {value}" for name, value in event.usage.items())
    if isinstance(event, ObjectPayload):
        yield from (f"{name} (too large for a message: the log has it)" for name in event.omitted)
