"""What the triggers leave in the journal for row changes: a model for tests without a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pbscast_deploy.simulator.rows import LAYOUTS, Row
from pbscast_deploy.simulator.trace import Change
from pbscast_ingest.rows import JournalRow, decode_row

START = datetime(2026, 11, 22, 9, 36, 57, tzinfo=UTC)
_STATE = frozenset(
    (
        *("job_state", "substate", "Exit_status", "Job_Owner", "queue", "project", "Job_Name"),
        *("history_timestamp", "destination", "array_id"),
    )
)
_SHOWN = {
    "job": ("ji_svrflags", "ji_destin"),
    "resv": ("ri_state", "ri_substate"),
    "node": ("nd_state",),
}


@dataclass
class Trigger:
    """Turns changes into journal rows as capture does."""

    seq: int = 0
    _rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def feed(self, changes: Iterable[Change]) -> Iterator[JournalRow]:
        """The rows of the changes; a save of nothing but ``mtime`` has none."""
        for change in changes:
            old = self._rows.pop((change.table, change.key), None)
            if change.row is not None:
                self._rows[change.table, change.key] = change.row
            # What a trace updates first was there before: only its later changes are known.
            if change.op != "UPDATE" or old is not None:
                yield from self._journal(change, old)

    def _journal(self, change: Change, old: Row | None) -> Iterator[JournalRow]:
        columns, attributes = _split(change.row)
        was, had = _split(old if change.op == "UPDATE" else None)
        new_columns = {k: v for k, v in columns.items() if was.get(k) != v}
        changed = {k: v for k, v in attributes.items() if had.get(k) != v}
        removed = [name for name in had if name not in attributes]
        if (
            change.op == "UPDATE"
            and not new_columns
            and not removed
            and changed.keys() <= {"mtime"}
        ):
            return
        self.seq += 1
        before = {k: had[k] for k in changed if k in had}
        before |= {k: was[k] for k in new_columns if k in was}
        yield journal_row(
            self.seq,
            change.op[0],
            change.table,
            "" if change.table == "server" else change.key,
            at=change.at,
            created=_created(change.table, change.row or old),
            columns=new_columns,
            changed=changed,
            before=before,
            removed=removed,
            context=_context(change.table, change.op, change.row or old),
        )


def journal_row(
    seq: int,
    op: str,
    kind: str,
    key: str,
    *,
    at: datetime = START,
    created: str = "2026-11-22 09:36:57",
    columns: Mapping[str, str | None] | None = None,
    changed: Mapping[str, str | None] | None = None,
    before: Mapping[str, str | None] | None = None,
    removed: Iterable[str] = (),
    context: Mapping[str, str | None] | None = None,
) -> JournalRow:
    """A row of the journal, through its decoding; text may hold surrogates for bytes."""
    pairs = [_flat(columns), _flat(changed), _flat(before), list(removed), _flat(context)]
    body = json.dumps([op, kind, key, created, *pairs], ensure_ascii=False)
    return decode_row((seq, seq, at, body.encode("utf-8", "surrogateescape")))


def _flat(values: Mapping[str, str | None] | None) -> list[str | None]:
    return [item for pair in (values or {}).items() for item in pair]


def _split(row: Row | None) -> tuple[dict[str, str], dict[str, str]]:
    if row is None:
        return {}, {}
    columns = {k: v for k, v in row.columns.items() if not k.endswith("_savetm")}
    return columns, dict(row.attributes)


def _created(table: str, row: Row | None) -> str:
    return row.columns[LAYOUTS[table].created] if row else ""


def _context(table: str, op: str, row: Row | None) -> dict[str, str | None]:
    if op == "INSERT" or row is None:
        return {}
    shown: dict[str, str | None] = {name: row.columns[name] for name in _SHOWN.get(table, ())}
    if table != "job":
        return shown
    usage = op == "DELETE"
    return {
        name: value
        for name, value in row.attributes.items()
        if name in _STATE or (usage and name.startswith("resources_used."))
    } | shown
