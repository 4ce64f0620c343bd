"""Numbering and folding: from drafts to the rows of an append. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from pydantic_core import to_json

from pbscast import wire
from pbscast.errors import UsageError
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
        if payload.removed:
            self._remove(payload.removed)
        if self.begun:
            self.base.update(payload.changed)
        else:
            self._set(payload.changed)

    def _set(self, changed: dict[str, str]) -> None:
        """What goes into `base` hides nothing: the append takes its names out of `recent`."""
        if self.base:
            self.base = {name: self.base[name] for name in self.base.keys() - changed.keys()}
        self.recent.update(changed)
        for name in [name for name, value in changed.items() if len(value) > LARGE]:
            del self.recent[name]
            self.base[name] = changed[name]

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.base.pop(name, None)
            if not self.begun:
                self.recent[name] = None

    def row(self, key: ObjectKey, head: Head) -> FoldRow:
        standing = self.standing
        return FoldRow(
            self.position,
            head.incarnation,
            head.revision,
            standing.substate,
            head.finalized,
            head.gone,
            key.kind,
            key.id,
            head.born,
            standing.owner,
            standing.queue,
            standing.project,
            standing.name,
            standing.state,
            _dump(self.columns),
            _dump(self.recent),
            _dump(self.base),
        )


def key_of(draft: Draft) -> ObjectKey:
    """What names the object that a draft is about."""
    return ObjectKey(draft.kind, draft.id)


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
        draft.event,
        draft.provenance,
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
    """JSON that jsonb can hold."""
    text = to_json(values).decode() if values else "{}"
    if "\\u0000" in text and any("\0" in part for pair in values.items() for part in pair if part):
        raise UsageError("PostgreSQL cannot hold the character NUL")
    return text
