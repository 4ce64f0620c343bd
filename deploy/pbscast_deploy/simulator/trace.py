"""Recorded traces: every committed row change of a live PBS datastore, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pbscast.errors import DecodeError
from pbscast_deploy.simulator.rows import LAYOUTS, Row

_OPERATIONS: Final = ("INSERT", "UPDATE", "DELETE")
_BUNDLED: Final = Path(__file__).parent.parent / "traces"


@dataclass(frozen=True)
class Change:
    """One committed row change."""

    site: str
    seq: int
    at: datetime
    """Datastore clock, UTC."""
    table: str
    op: str
    """`INSERT`, `UPDATE` or `DELETE`."""
    key: str
    row: Row | None
    """The whole new row; None for a DELETE."""


def bundled_traces() -> dict[str, Path]:
    """Site → trace of that site, recorded from two live OpenPBS 23.06.06 servers.

    `sitea` keeps job history, `siteb` does not; 19.sitea moves from the first to the second.
    """
    return {path.name.split("-")[0]: path for path in sorted(_BUNDLED.glob("*.jsonl"))}


def read_trace(path: Path) -> list[Change]:
    """Raises DecodeError, naming file and line, for anything that is not a trace in order."""
    try:
        return list(_read(path))
    except OSError as error:
        raise DecodeError(f"cannot read the trace {path}: {error.strerror}") from error


def _read(path: Path) -> Iterator[Change]:
    order = _Order()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                change = _parse(line)
                order.check(change)
            except (KeyError, TypeError, ValueError) as error:
                raise DecodeError(f"{path}:{number}: not a trace line: {_reason(error)}") from error
            yield change


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _parse(line: bytes) -> Change:
    r"""The recorded file is ASCII: `\udce9` stands for the single byte 0xE9."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise TypeError("not a JSON object")
    table, op = fields["table"], fields["op"]
    if table not in LAYOUTS or op not in _OPERATIONS:
        raise ValueError(f"unknown table or operation: {table} {op}")
    return Change(
        site=_text(fields, "site"),
        seq=int(fields["seq"]),
        at=datetime.fromisoformat(fields["at"]),
        table=table,
        op=op,
        key=_text(fields, "key"),
        row=None if op == "DELETE" else _row(table, fields["row"]),
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a string")
    return value


def _row(table: str, recorded: dict[str, Any]) -> Row:
    attributes = recorded["attributes"]
    columns = {name: _column(recorded[name]) for name in LAYOUTS[table].names}
    unknown = recorded.keys() - columns.keys() - {"attributes"}
    if unknown:
        raise ValueError(f"unknown columns of {table}: {', '.join(sorted(unknown))}")
    return Row(columns, {name: _text(attributes, name) for name in attributes})


def _column(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"not the value of a column: {value!r}")


class _Order:
    """A change must be one that the datastore could have committed after those before it."""

    def __init__(self) -> None:
        self._seq = -1
        self._there: dict[tuple[str, str], bool] = {}

    def check(self, change: Change) -> None:
        what = (change.table, change.key)
        there = self._there.get(what, change.op != "INSERT")
        if change.seq <= self._seq:
            raise ValueError(f"seq {change.seq} after {self._seq}")
        if there == (change.op == "INSERT"):
            state = "there already" if there else "gone"
            raise ValueError(f"{change.op} of {change.table} {change.key}, which is {state}")
        self._seq = change.seq
        self._there[what] = change.op != "DELETE"
