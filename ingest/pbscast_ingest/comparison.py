"""What a row of a PBS table says that the projection does not: pure, for a resync.

Only what users see is compared, by the same rules as translation: ``mtime`` and PBS's bookkeeping
columns are left out, states are compared as they are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast_ingest.finalize import conclude, is_final
from pbscast_ingest.jobs import describe
from pbscast_ingest.rows import NOTE, decode_attributes, decode_columns, shortened, text
from pbscast_ingest.translation import (
    SILENT_ATTRIBUTES,
    SILENT_COLUMNS,
    lesser_name,
    stand,
)
from pbscast_store.drafts import Draft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pbscast.events import Payload
    from pbscast_ingest.subjobs import Subjob
    from pbscast_store.records import ObjectState


class TableRow(NamedTuple):
    """A row of a PBS table as it stands."""

    kind: Kind
    id: str
    """Empty for the server, whose row has no key."""
    created: str
    attributes: dict[str, str]
    columns: dict[str, str]
    escaped: tuple[str, ...]
    key: bytes = b""
    """The id as the datastore has it."""
    is_part: bool = False
    """Whether it may hold more than this."""

    @property
    def standing(self) -> dict[str, Any]:
        """The fields of ObjectPayload."""
        values = {**self.attributes, **self.columns}
        return {**describe(values)} if self.kind is Kind.JOB else stand(self.kind, values)

    @property
    def is_final(self) -> bool:
        """Whether this is a job that has ended."""
        return self.kind is Kind.JOB and is_final(self.id, self.attributes)


def decode_table_row(kind: Kind, record: Sequence[Any]) -> TableRow:
    """Return the row of a record of ``<kind>.sql``."""
    key, created, attributes, columns = record
    names: list[str] = []
    plain = decode_columns(columns, names)
    values = decode_attributes(attributes, names)
    raw = key.encode() if isinstance(key, str) else bytes(key)
    name = shortened(text(raw))
    return TableRow(kind, name, text(created), values, plain, tuple(names), raw)


def decode_lone_row(
    kind: Kind, record: Sequence[Any], note: str = "", *, is_part: bool = False
) -> TableRow:
    """Return the row of a record, with a note among its attributes on what was not read of it."""
    row = decode_table_row(kind, record)
    attributes = {**row.attributes, NOTE: note} if note else row.attributes
    return row._replace(attributes=attributes, is_part=is_part)


def appeared(row: TableRow, now: datetime) -> list[Draft]:
    """Return the events of a row that the log did not know: it begins, it may have ended."""
    payload = ChangePayload(
        **row.standing, changed=row.attributes, columns=row.columns, escaped=row.escaped
    )
    event = EventName.SUBMIT if row.kind is Kind.JOB else EventName.CREATE
    drafts = [_draft(row, event, payload, now, begins=True)]
    return drafts + _ending(row, now)


def changed(row: TableRow, state: ObjectState | Subjob, now: datetime) -> list[Draft]:
    """Return the events of a row that differs from what the log knows of the same incarnation."""
    if row.is_part:
        attributes, columns = state.attributes | row.attributes, state.columns | row.columns
        row = row._replace(attributes=attributes, columns=columns)
    values = {k: v for k, v in row.attributes.items() if state.attributes.get(k) != v}
    columns = {k: v for k, v in row.columns.items() if state.columns.get(k) != v}
    removed = tuple(sorted(state.attributes.keys() - row.attributes.keys()))
    standing = row.standing
    moved = (standing["state"], standing["substate"]) != (state.state, state.substate)
    old = {"old_state": state.state, "old_substate": state.substate} if moved else {}
    drafts: list[Draft] = []
    if moved or removed or values.keys() - SILENT_ATTRIBUTES or columns.keys() - SILENT_COLUMNS:
        payload = ChangePayload(
            **{**standing, **old},
            changed=values,
            removed=removed,
            columns=columns,
            escaped=tuple(name for name in row.escaped if name in values or name in columns),
        )
        drafts.append(_draft(row, _name(row.kind, values, moved=moved), payload, now))
    return drafts + ([] if state.finalized else _ending(row, now))


def remade(row: TableRow, state: ObjectState | Subjob, now: datetime) -> list[Draft]:
    """Return the events of a row that was deleted and made anew and goes on.

    At least one: what comes next is told apart from other incarnations by when its row was made.
    """
    return changed(row, state, now) or [
        _draft(row, EventName.MODIFY, ChangePayload(**row.standing), now)
    ]


def _name(kind: Kind, values: Mapping[str, str], *, moved: bool) -> EventName:
    if kind is not Kind.JOB:
        return EventName.MODIFY
    return EventName.STATE if moved else lesser_name(values)


def _ending(row: TableRow, now: datetime) -> list[Draft]:
    if not row.is_final:
        return []
    payload = conclude(row.id, {**row.columns, **row.attributes})
    return [_draft(row, EventName.FINALIZE, payload, now)]


def _draft(
    row: TableRow, event: EventName, payload: Payload, now: datetime, *, begins: bool = False
) -> Draft:
    return Draft(
        kind=row.kind,
        id=row.id,
        event=event,
        time=now,
        provenance=Provenance.RESYNC,
        payload=payload,
        begins=begins,
        born=row.created or None,
    )


def vanished(state: ObjectState, now: datetime) -> Draft:
    """Return the event of an object whose row is gone, with what is known of it."""
    kind = Kind(state.kind)
    standing = {
        name: getattr(state, name)
        for name in ("owner", "queue", "project", "name", "state", "substate")
    }
    payload: Payload
    if kind is Kind.JOB and not state.finalized:
        event = EventName.FINALIZE
        known = conclude(state.id, {**state.columns, **state.attributes})
        payload = FinalizePayload(
            **standing, reason=Reason.VANISHED, exit_status=known.exit_status, usage=known.usage
        )
    else:
        event = EventName.PURGE if kind is Kind.JOB else EventName.DELETE
        payload = ChangePayload(**standing)
    return Draft(
        kind=kind,
        id=state.id,
        event=event,
        time=now,
        provenance=Provenance.RESYNC,
        payload=payload,
        born=state.born,
        ends=True,
    )
