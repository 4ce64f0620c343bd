"""From one journal row to the events it means. Pure: no state, no clock, no server.

A row change is one event, named by the most significant thing it did (submit > state > move > usage
> modify; create, modify, delete for everything but jobs) and carrying all of it; a save that
changed nothing a user can see is none. A ``finalize`` follows the event that caused it, or stands
alone where the row was deleted. No row raises: states, columns and kinds of another PBS release are
logged as far as they are understood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbscast.events import ChangePayload, EventName, Kind, Provenance
from pbscast_ingest.codes import node_state, reservation_state, small_number
from pbscast_ingest.finalize import conclude, is_final
from pbscast_ingest.jobs import describe, letter_of, substate_of
from pbscast_store.drafts import Draft

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pbscast.events import Payload
    from pbscast_ingest.rows import JournalRow

KINDS: Final = {kind.value: kind for kind in Kind if kind is not Kind.SITE}

SILENT_ATTRIBUTES: Final = frozenset({"mtime"})
"""Attributes whose change alone is no event: every save writes ``mtime``, and one save late."""

SILENT_COLUMNS: Final = frozenset(
    {
        *("ji_state", "ji_substate", "ji_svrflags", "ji_stime", "ji_queue", "ji_destin", "ji_jid"),
        *("ji_un_type", "ji_exitstat", "ji_quetime", "ji_rteretry", "ji_fromsock", "ji_fromaddr"),
        *("ji_credtype", "ji_qrank", "ji_savetm", "ji_creattm", "ri_state", "ri_substate"),
        *("ri_svrflags", "ri_tactive", "ri_savetm", "ri_creattm", "nd_state", "nd_index"),
        *("nd_ntype", "mom_modtime", "nd_savetm", "nd_creattm", "qu_savetm", "qu_creattm"),
        *("sv_jobidnumber", "sv_savetm", "sv_creattm", "sched_savetm", "sched_creattm"),
    }
)
"""Columns whose change alone is no event: copies of attributes, and PBS's own bookkeeping.

What users do see of them is compared by its meaning: S and U of ``ji_svrflags``, the texts of
``ri_state`` and ``nd_state``. A column that this release does not know speaks.
"""

_STATEFUL: Final = frozenset({"job_state", "substate", "ji_svrflags", "history_timestamp"})
_JOB: Final = Kind.JOB
_JOURNAL: Final = Provenance.JOURNAL
_OTHER: Final = {"I": EventName.CREATE, "U": EventName.MODIFY, "D": EventName.DELETE}


def translate(row: JournalRow, site: str) -> list[Draft]:
    """Return the events of a row change in order: none, one, or a job's change and its finalize."""
    kind = KINDS.get(row.kind)
    if kind is None or row.op not in _OTHER:
        return []
    if kind is not Kind.JOB:
        return _translate_other(row, kind, object_id(row, site))
    if row.op == "U":
        return _update_job(row)
    return _insert_job(row) if row.op == "I" else [delete_job(row)]


def object_id(row: JournalRow, site: str) -> str:
    """Return the id of a row's object; the server, without a key, goes by its site's name."""
    return site if row.kind == Kind.SERVER else row.key


def _insert_job(row: JournalRow) -> list[Draft]:
    now = {**row.columns, **row.changed}
    payload = _change(row, describe(now), row.changed)
    drafts = [_draft(row, EventName.SUBMIT, payload, begins=True)]
    if is_final(row.key, now):
        drafts.append(_draft(row, EventName.FINALIZE, conclude(row.key, now)))
    return drafts


def _update_job(row: JournalRow) -> list[Draft]:
    now = row.context | row.changed
    before = _stood(row, now)
    standing = describe(now)
    letter, substate = letter_of(before), substate_of(before)
    moved = letter != standing["state"] or substate != standing["substate"]
    changed = _differing(row)
    drafts = []
    if moved or _speaks(row, changed):
        event = EventName.STATE if moved else lesser_name(changed)
        past = {"old_state": letter, "old_substate": substate} if moved else None
        drafts.append(_draft(row, event, _change(row, standing, changed, past)))
    if is_final(row.key, now) and not is_final(row.key, before):
        drafts.append(_draft(row, EventName.FINALIZE, conclude(row.key, {**row.columns, **now})))
    return drafts


def _stood(row: JournalRow, now: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a job's state was read from before the change."""
    if _STATEFUL.isdisjoint(row.changed) and "ji_svrflags" not in row.columns:
        return now
    return _before(row, now, _STATEFUL)


def _before(row: JournalRow, now: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the values that stood there before the change."""
    changed, columns, before = row.changed, row.columns, row.before
    found = {}
    for name in names:
        source = before if name in changed or name in columns else now
        if name in source:
            found[name] = source[name]
    return found


def _differing(row: JournalRow) -> dict[str, str]:
    """Leave out the attributes of which only the flags changed."""
    before = row.before
    return {name: value for name, value in row.changed.items() if before.get(name) != value}


def _speaks(row: JournalRow, changed: Mapping[str, str]) -> bool:
    return bool(
        row.removed or changed.keys() - SILENT_ATTRIBUTES or row.columns.keys() - SILENT_COLUMNS
    )


def lesser_name(changed: Collection[str]) -> EventName:
    """Return the name of a job's change that left its state as it was."""
    if "queue" in changed:
        return EventName.MOVE
    if any(name.startswith("resources_used.") for name in changed):
        return EventName.USAGE
    return EventName.MODIFY


def delete_job(row: JournalRow) -> Draft:
    """Return the event of a DELETE: the finalize of a job that had none, else ``purge``."""
    if not is_final(row.key, row.context):
        return _draft(row, EventName.FINALIZE, conclude(row.key, row.context), ends=True)
    return _draft(row, EventName.PURGE, _change(row, describe(row.context), {}), ends=True)


def _translate_other(row: JournalRow, kind: Kind, name: str) -> list[Draft]:
    now = {**row.context, **row.changed, **row.columns}
    standing = stand(kind, now)
    changed: dict[str, str] = row.changed
    old: dict[str, Any] = {}
    if row.op == "U":
        changed = _differing(row)
        past = stand(kind, _before(row, now, now))
        if past != standing:
            old = {"old_state": past["state"], "old_substate": past["substate"]}
        elif not _speaks(row, changed):
            return []
    payload = _change(row, standing, changed, old)
    begins, ends = row.op == "I", row.op == "D"
    return [_draft(row, _OTHER[row.op], payload, kind, name, begins=begins, ends=ends)]


def stand(kind: Kind, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the state fields of an object that is no job, as PBS prints them."""
    if kind is Kind.RESV:
        state = reservation_state(values.get("ri_state", values.get("reserve_state")))
        substate = small_number(values.get("ri_substate", values.get("reserve_substate")))
        return {"state": state, "substate": substate}
    if kind is Kind.NODE:
        return {"state": node_state(values.get("nd_state")), "substate": None}
    return {"state": None, "substate": None}


def _change(
    row: JournalRow,
    standing: Mapping[str, Any],
    changed: dict[str, str],
    old: Mapping[str, Any] | None = None,
) -> ChangePayload:
    escaped = row.escaped
    if escaped:
        escaped = tuple(name for name in escaped if name in changed or name in row.columns)
    return ChangePayload.model_validate(
        {
            **standing,
            **(old or {}),
            "changed": changed,
            "removed": row.removed,
            "columns": row.columns,
            "escaped": escaped,
        }
    )


def _draft(
    row: JournalRow,
    event: EventName,
    payload: Payload,
    kind: Kind = _JOB,
    name: str | None = None,
    *,
    begins: bool = False,
    ends: bool = False,
) -> Draft:
    object_id, born = row.key if name is None else name, row.created or None
    return Draft(kind, object_id, event, row.at, _JOURNAL, payload, begins, born, ends)
