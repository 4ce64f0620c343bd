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
    known = state is not None and not state.gone
    if state is not None and known and not _is_same_life(row, state):
        return [vanished(state, row.at), *introduce(row, object_id)]
    return [] if known else introduce(row, object_id)


def is_at_odds(row: JournalRow, head: Head | None) -> bool:
    """Whether the first row of an object cannot follow where the log says that it stands."""
    known = head is not None and not head.gone
    if head is not None and known and not _is_same_life(row, head):
        return True
    return row.op != "I" and not known


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


def introduce(row: JournalRow, object_id: str) -> list[Draft]:
    """Begin an object that is first heard of by a change, as it stood before, as far as known."""
    if row.op == "I":
        return []
    kind = KINDS[row.kind]
    was = {**row.context, **row.before}
    for name in (row.changed.keys() | row.columns.keys()) - row.before.keys():
        was.pop(name, None)
    columns = {name: was.pop(name) for name in tuple(was) if name in row.columns}
    standing = {**was, **columns}
    payload = ChangePayload(
        **(describe(standing) if kind is Kind.JOB else stand(kind, standing)),
        changed=was,
        columns=columns,
    )
    event = EventName.SUBMIT if kind is Kind.JOB else EventName.CREATE
    return [
        Draft(
            kind=kind,
            id=object_id,
            event=event,
            time=row.at,
            provenance=Provenance.RESYNC,
            payload=payload,
            begins=True,
            born=row.created or None,
        )
    ]
