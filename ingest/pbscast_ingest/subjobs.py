"""How subjobs stand whose row PBS deletes and makes anew: pure.

What such a row changed can only be told from how the log says that the subjob stands. It is asked
once for all rows of a page, and followed from there: with a log that is far away, asking at each
row would take longer than everything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pbscast.events import ChangePayload, EventName, Kind, ObjectPayload, Provenance
from pbscast_ingest.comparison import TableRow, remade
from pbscast_ingest.translation import translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pbscast_ingest.pending import Pending
    from pbscast_ingest.rows import JournalRow
    from pbscast_store.drafts import Draft
    from pbscast_store.records import ObjectState


def returning(rows: Sequence[JournalRow], pending: Pending) -> set[str]:
    """Return the subjobs that may go on in these rows: all whose INSERT follows their DELETE."""
    found: set[str] = set()
    deleted: set[str] = set()
    for row in rows:
        if row.kind != Kind.JOB:
            continue
        if row.op == "D":
            deleted.add(row.key)
        elif row.op == "I" and (row.key in deleted or row.key in pending):
            found.add(row.key)
    return found


@dataclass(slots=True)
class Subjob:
    """What the log shows of one."""

    state: str | None = None
    substate: int | None = None
    finalized: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def follow(self, draft: Draft) -> None:
        """Take in its next event."""
        payload = draft.payload
        if isinstance(payload, ObjectPayload):
            self.state, self.substate = payload.state, payload.substate
        if isinstance(payload, ChangePayload):
            for name in payload.removed:
                self.attributes.pop(name, None)
            self.attributes.update(payload.changed)
            self.columns.update(payload.columns)
        self.finalized = self.finalized or draft.event is EventName.FINALIZE


class Subjobs:
    """Those of a page that may go on, as they stand after all that was told so far."""

    def __init__(self, names: Iterable[str], states: Mapping[str, ObjectState]) -> None:
        """Of each how the log has it before the page's first row, if it has it."""
        self._known = {name: _known(states.get(name)) for name in names}

    def follow(self, drafts: Iterable[Draft]) -> None:
        """Take in what is told next."""
        if not self._known:
            return
        for draft in drafts:
            if draft.kind is Kind.JOB and draft.id in self._known:
                subjob = None if draft.begins else self._known[draft.id]
                self._known[draft.id] = subjob = subjob or Subjob()
                subjob.follow(draft)

    def go_on(self, row: JournalRow, site: str) -> list[Draft]:
        """Return what the INSERT of one that goes on changed; if nobody knows it, it begins."""
        subjob = self._known[row.key]
        if subjob is None:
            return translate(row, site)
        table_row = TableRow(Kind.JOB, row.key, row.created, row.changed, row.columns, row.escaped)
        drafts = remade(table_row, subjob, row.at)
        return [replace(draft, provenance=Provenance.JOURNAL) for draft in drafts]


def _known(state: ObjectState | None) -> Subjob | None:
    if state is None:
        return None
    return Subjob(
        state.state,
        state.substate,
        state.finalized,
        dict(state.attributes),
        dict(state.columns),
    )
