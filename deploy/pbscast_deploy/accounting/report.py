"""The sums of a comparison as a table. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.table import Table

from pbscast_deploy.accounting.findings import Summary
from pbscast_deploy.accounting.gaps import stamp
from pbscast_deploy.accounting.lines import RecordType

_MEANINGS: Final = {kind: kind.name.lower().replace("_", " ") for kind in RecordType}


def table(summary: Summary) -> Table:
    """Return one row for each type of record that either side has."""
    shown = Table("record", "", "read", "agree", "differ", "explained", "missing")
    for column in shown.columns[2:]:
        column.justify = "right"
    for kind in RecordType:
        read, missing = summary.records[kind], summary.unrecorded[kind]
        if read or missing:
            differ, explained = summary.differing[kind], summary.explained[kind]
            numbers = (read, read - differ - explained, differ, explained, missing)
            shown.add_row(kind.value, _MEANINGS[kind], *map(str, numbers))
    return shown


def notes(summary: Summary) -> Iterator[str]:
    """Give what the table does not say, a line each."""
    periods = ", ".join(f"{stamp(begin)} to {stamp(end)}" for begin, end in summary.periods)
    yield f"what the files cover: {periods or 'no time'}"
    if summary.left_out:
        why = "for their records may stand in other files"
        yield f"steps of the log left out at its edges, {why}: {summary.left_out}"
    until = f", the last of {stamp(summary.last_event)}" if summary.last_event else ""
    yield f"{summary.events} events were read from the log{until}"
    if summary.untold:
        fields = ", ".join(f"{name} {count}" for name, count in sorted(summary.untold.items()))
        yield f"not compared, for the datastore never showed them: {fields}"
    if summary.broken:
        yield f"broken lines: {summary.broken}"
    if summary.is_other_zone:
        yield "most records' times are not those of their own end=: is --timezone the PBS server's?"
    yield _result(summary)


def _result(summary: Summary) -> str:
    explained = summary.explained.total()
    apart = f"{explained} could not be compared, or differ for a known reason"
    if summary.differences:
        return f"differences: {summary.differences}"
    if summary.is_empty:
        return f"nothing could be compared: {explained} records fall where the log knows nothing"
    return f"{summary.agreeing} agree, {apart}" if explained else "all agrees"
