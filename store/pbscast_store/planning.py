"""Numbering and folding: from drafts to the rows of an append. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from pbscast import wire
from pbscast.events import ChangePayload, EventName, ObjectPayload
from pbscast_store.drafts import Draft
from pbscast_store.heads import Head, ObjectKey

LARGE: Final = 1024
"""Characters from which on a value is kept where other changes of the object do not rewrite it."""

_UNSEEN: Final = Head(incarnation=0, revision=0, finalized=False, gone=False, born=None)
_STANDING_NOWHERE: Final = ObjectPayload()


class EventRow(NamedTuple):
    """`pbscast_log.new_event`."""

    position: int
    time: datetime
    incarnation: int
    revision: int
    kind: str
    id: str
    event: str
    provenance: str
    owner: str | None
    payload: str


class FoldRow(NamedTuple):
    """`pbscast_log.fold`."""

    position: int
    incarnation: int
    revision: int
    substate: int | None
    finalized: bool
    gone: bool
    kind: str
    id: str
    born: str | None
    owner: str | None
    queue: str | None
    project: str | None
    name: str | None
    state: str | None
    columns: str
    recent: str
    base: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one append writes."""

    events: list[EventRow]
    folds: list[FoldRow]
    heads: dict[ObjectKey, Head]
    """Of every object that is touched, as they stand after the append."""
    dropped: int
    """Finalizes of incarnations that were finalized before."""


@dataclass(slots=True)
class _Fold:
    """Everything that a batch changes of one object."""

    begun: bool = False
    position: int = 0
    standing: ObjectPayload = _STANDING_NOWHERE
    columns: dict[str, str] = field(default_factory=dict)
    recent: dict[str, str | None] = field(default_factory=dict)
    base: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        self.begun = True
        self.columns, self.recent, self.base = {}, {}, {}

    def change(self, payload: ChangePayload) -> None:
        self.columns.update(payload.columns)
        for name in payload.removed:
            self._remove(name)
        for name, value in payload.changed.items():
            self._set(name, value)

    def _set(self, name: str, value: str) -> None:
        if self.begun or len(value) > LARGE:
            self.base[name] = value
            self.recent.pop(name, None)
        else:
            self.recent[name] = value
            self.base.pop(name, None)

    def _remove(self, name: str) -> None:
        self.base.pop(name, None)
        if not self.begun:
            self.recent[name] = None

    def row(self, key: ObjectKey, head: Head) -> FoldRow:
        standing = self.standing
        return FoldRow(
            position=self.position,
            incarnation=head.incarnation,
            revision=head.revision,
            substate=standing.substate,
            finalized=head.finalized,
            gone=head.gone,
            kind=key.kind,
            id=key.id,
            born=head.born,
            owner=standing.owner,
            queue=standing.queue,
            project=standing.project,
            name=standing.name,
            state=standing.state,
            columns=_dump(self.columns),
            recent=_dump(self.recent),
            base=_dump(self.base),
        )


def key_of(draft: Draft) -> ObjectKey:
    """What names the object that a draft is about."""
    return ObjectKey(draft.kind.value, draft.id)


def plan(drafts: Iterable[Draft], heads: Mapping[ObjectKey, Head], position: int) -> Plan:
    """Gives drafts their places after `position` and folds them, one fold an object.

    `heads` must hold every object of the drafts that the log knows. Positions have no gaps, nor
    have the revisions of an incarnation. A finalize of an incarnation that has one is dropped.
    """
    events: list[EventRow] = []
    folds: dict[ObjectKey, _Fold] = {}
    after: dict[ObjectKey, Head] = {}
    dropped = 0
    for draft in drafts:
        key = key_of(draft)
        before = after.get(key) or heads.get(key)
        if _is_repeated_finalize(draft, before):
            dropped += 1
            continue
        position += 1
        head = after[key] = _advance(before, draft)
        events.append(_event_row(draft, key, head, position))
        _fold(folds.setdefault(key, _Fold()), draft, head, position)
    rows = [fold.row(key, after[key]) for key, fold in folds.items()]
    return Plan(events, rows, after, dropped)


def _is_repeated_finalize(draft: Draft, before: Head | None) -> bool:
    return (
        draft.event is EventName.FINALIZE
        and not draft.begins
        and before is not None
        and before.finalized
    )


def _advance(before: Head | None, draft: Draft) -> Head:
    finalizes = draft.event is EventName.FINALIZE
    if draft.begins or before is None:
        previous = before or _UNSEEN
        return Head(previous.incarnation + 1, 1, finalizes, draft.ends, draft.born)
    return Head(
        before.incarnation,
        before.revision + 1,
        before.finalized or finalizes,
        before.gone or draft.ends,
        draft.born or before.born,
    )


def _event_row(draft: Draft, key: ObjectKey, head: Head, position: int) -> EventRow:
    payload = draft.payload
    return EventRow(
        position,
        draft.time,
        head.incarnation,
        head.revision,
        key.kind,
        key.id,
        draft.event.value,
        draft.provenance.value,
        payload.owner if isinstance(payload, ObjectPayload) else None,
        wire.encode_payload(payload),
    )


def _fold(fold: _Fold, draft: Draft, head: Head, position: int) -> None:
    payload = draft.payload
    fold.position = position
    if head.revision == 1:
        fold.begin()
    if isinstance(payload, ObjectPayload):
        fold.standing = payload
    if isinstance(payload, ChangePayload):
        fold.change(payload)


def _dump(values: Mapping[str, str | None]) -> str:
    return json.dumps(values, ensure_ascii=False) if values else "{}"
