"""What a gap did to single objects: pure.

Capture may have been off, told already or not before the next look at it. Then the log may not know
an object that the journal speaks of, or know an earlier incarnation whose end was missed. What is
missing is put before the object's first row, so that every incarnation begins and ends, in order,
before the resync compares everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast.events import ChangePayload, EventName, Kind, Provenance
from pbscast_ingest.comparison import vanished
from pbscast_ingest.finalize import conclude, is_final
from pbscast_ingest.jobs import describe
from pbscast_ingest.translation import KINDS, stand
from pbscast_store.drafts import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pbscast_ingest.rows import JournalRow
    from pbscast_store.heads import Head
    from pbscast_store.records import ObjectState


def correct(row: JournalRow, state: ObjectState | None, object_id: str) -> list[Draft]:
    """Return what belongs before the first row of an object, given what the log knows of it."""
    if state is None or state.gone:
        return introduce(row, object_id)
    if not _is_same_life(row, state):
        return [vanished(state, row.at), *introduce(row, object_id)]
    return [_end(row, object_id)] if _has_ended_unseen(row, state) else []


def is_at_odds(row: JournalRow, head: Head | None) -> bool:
    """Whether the first row of an object cannot follow where the log says that it stands."""
    if head is None or head.gone:
        return row.op != "I"
    return not _is_same_life(row, head) or _has_ended_unseen(row, head)


def split(rows: Sequence[JournalRow]) -> Iterator[Sequence[JournalRow]]:
    """Cut where a row does not follow from the one before it: what was missed was between.

    Only what came before it in the log tells then what belongs before it.
    """
    begin = 0
    for place in _breaks(rows):
        yield rows[begin:place]
        begin = place
    yield rows[begin:]


def _breaks(rows: Sequence[JournalRow]) -> list[int]:
    """Return the places of rows that cannot follow the row before them on the same object."""
    found: list[int] = []
    lives: dict[tuple[str, str], str | None] = {}
    for place, row in enumerate(rows):
        if row.op not in "IUD":
            continue
        key = (row.kind, row.key)
        if key in lives and lives[key] != (None if row.op == "I" else row.created):
            found.append(place)
        lives[key] = None if row.op == "D" else row.created
    return found


def _is_same_life(row: JournalRow, state: ObjectState | Head) -> bool:
    return not (state.born and row.created) or state.born == row.created


def _has_ended_unseen(row: JournalRow, state: ObjectState | Head) -> bool:
    """Whether a job had ended before the row, by a save that was missed."""
    if row.kind != Kind.JOB or row.op == "I" or state.finalized:
        return False
    # Cheap, and most rows are of jobs that live.
    may_be = "history_timestamp" in row.context or "history_timestamp" in row.before
    return may_be and is_final(row.key, _stood(row))


def _end(row: JournalRow, object_id: str) -> Draft:
    """The last word on a job, as it stood before the row."""
    return Draft(
        kind=Kind.JOB,
        id=object_id,
        event=EventName.FINALIZE,
        time=row.at,
        provenance=Provenance.RESYNC,
        payload=conclude(row.key, _stood(row)),
        born=row.created or None,
    )


def _stood(row: JournalRow) -> dict[str, str]:
    """Return what is known of how an object stood before a change of it."""
    was = {**row.context, **row.before}
    for name in (row.changed.keys() | row.columns.keys()) - row.before.keys():
        was.pop(name, None)
    return was


def introduce(row: JournalRow, object_id: str) -> list[Draft]:
    """Begin an object that is first heard of by a change, as it stood before, as far as known."""
    if row.op == "I":
        return []
    kind = KINDS[row.kind]
    was = _stood(row)
    columns = {name: was.pop(name) for name in tuple(was) if name in row.columns}
    standing = {**was, **columns}
    payload = ChangePayload(
        **(describe(standing) if kind is Kind.JOB else stand(kind, standing)),
        changed=was,
        columns=columns,
    )
    event = EventName.SUBMIT if kind is Kind.JOB else EventName.CREATE
    begin = Draft(
        kind=kind,
        id=object_id,
        event=event,
        time=row.at,
        provenance=Provenance.RESYNC,
        payload=payload,
        begins=True,
        born=row.created or None,
    )
    # A job whose row stays as history may have ended before it is first heard of.
    has_ended = kind is Kind.JOB and is_final(row.key, standing)
    return [begin, _end(row, object_id)] if has_ended else [begin]
