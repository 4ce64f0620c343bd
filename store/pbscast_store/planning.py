"""Numbering and folding: from drafts to the rows of an append. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from pydantic_core import to_json

from pbscast import wire
from pbscast.errors import UsageError
from pbscast.events import ChangePayload, EventName, FinalizePayload, ObjectPayload
from pbscast_store import chain
from pbscast_store.drafts import Draft
from pbscast_store.heads import Head, ObjectKey

LARGE: Final = 1024
"""Characters from which on a value is kept where other changes of the object do not rewrite it."""

_UNSEEN: Final = Head(incarnation=0, revision=0, finalized=False, gone=False, born=None)
_STANDING_NOWHERE: Final = ObjectPayload()


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the log of a site ends: what its next event follows."""

    site: str
    position: int = 0
    digest: bytes = chain.GENESIS


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
    digest: bytes


class FoldRow(NamedTuple):
    """`pbscast_log.fold`: what a batch says of one incarnation."""

    position: int | None
    """Of its last event in the batch; None if it has none there."""
    first_position: int | None
    """Of its first event, if that is in the batch, as is `began`."""
    began: datetime | None
    ended: datetime | None
    gone_at: datetime | None
    incarnation: int
    revision: int
    substate: int | None
    exit_status: int | None
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
    reason: str | None
    reached: list[str]
    """Visible states that the batch's events leave it in, each once, in order."""
    columns: str
    recent: str
    base: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one append writes."""

    events: list[EventRow]
    folds: list[FoldRow]
    """One for each object that is touched: its latest incarnation."""
    superseded: list[FoldRow]
    """Earlier incarnations, which end with the batch at the latest, because others begin."""
    logged: datetime
    """When the events are logged, all of them."""
    tail: Tail
    """Where the log ends after the append."""
    heads: dict[ObjectKey, Head]
    """Of every object that is touched, as they stand after the append."""
    dropped: int
    """Finalizes of incarnations that were finalized before."""


@dataclass(slots=True)
class _Fold:
    """Everything that a batch changes of one incarnation of an object."""

    position: int | None = None
    first_position: int | None = None
    began: datetime | None = None
    ended: datetime | None = None
    gone_at: datetime | None = None
    reason: str | None = None
    exit_status: int | None = None
    standing: ObjectPayload = _STANDING_NOWHERE
    reached: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    recent: dict[str, str | None] = field(default_factory=dict)
    base: dict[str, str] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether the incarnation began in this batch."""
        return self.began is not None

    def begin(self, time: datetime, position: int) -> None:
        self.began, self.first_position = time, position

    def add(self, draft: Draft, position: int) -> None:
        payload = draft.payload
        self.position = position
        if isinstance(payload, ObjectPayload):
            self.standing = payload
            if payload.state is not None and payload.state not in self.reached:
                self.reached.append(payload.state)
        if isinstance(payload, ChangePayload):
            self.change(payload)
        if draft.ends:
            self.leave(draft.time)
        if isinstance(payload, FinalizePayload):
            self.ended = self._not_before_it_began(draft.time)
            self.reason, self.exit_status = payload.reason, payload.exit_status

    def leave(self, time: datetime) -> None:
        """The row is gone: an end, unless there was one or a finalize tells another."""
        self.gone_at = self.gone_at or time
        self.ended = self.ended or self._not_before_it_began(time)

    def _not_before_it_began(self, time: datetime) -> datetime:
        """The datastore's clock may go back, but no life ends before it began."""
        return time if self.began is None else max(time, self.began)

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
            self.first_position,
            self.began,
            self.ended,
            self.gone_at,
            head.incarnation,
            head.revision,
            standing.substate,
            self.exit_status,
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
            self.reason,
            self.reached,
            _dump(self.columns),
            _dump(self.recent),
            _dump(self.base),
        )


def key_of(draft: Draft) -> ObjectKey:
    """What names the object that a draft is about."""
    return ObjectKey(draft.kind, draft.id)


def plan(
    drafts: Iterable[Draft], heads: Mapping[ObjectKey, Head], tail: Tail, logged: datetime
) -> Plan:
    """Gives drafts their places after `tail` and folds them, one fold an object.

    `heads` must hold every object of the drafts that the log knows. Positions have no gaps, nor
    have the revisions of an incarnation. A finalize of an incarnation that has one is dropped.
    Raises UsageError for text that PostgreSQL cannot hold.
    """
    try:
        return _Planning(heads, tail, logged).run(drafts)
    except UnicodeEncodeError as error:
        raise UsageError(f"PostgreSQL cannot hold lone surrogates: {error.object!r:.80}") from error


class _Planning:
    """One batch, as far as it is planned."""

    def __init__(self, heads: Mapping[ObjectKey, Head], tail: Tail, logged: datetime) -> None:
        self._heads = heads
        self._tail = tail
        self._logged = logged
        self._logged_microseconds = chain.microseconds(logged)
        self._events: list[EventRow] = []
        self._after: dict[ObjectKey, Head] = {}
        self._folds: dict[ObjectKey, _Fold] = {}
        self._superseded: list[FoldRow] = []

    def run(self, drafts: Iterable[Draft]) -> Plan:
        dropped = 0
        for draft in drafts:
            key = key_of(draft)
            before = self._after.get(key) or self._heads.get(key)
            if _is_repeated_finalize(draft, before):
                dropped += 1
            else:
                self._add(draft, key, before)
        return Plan(
            self._events,
            [fold.row(key, self._after[key]) for key, fold in self._folds.items()],
            self._superseded,
            self._logged,
            self._tail,
            self._after,
            dropped,
        )

    def _add(self, draft: Draft, key: ObjectKey, before: Head | None) -> None:
        head = self._after[key] = _advance(before, draft)
        position = self._tail.position + 1
        if head.revision == 1:
            if before is not None:
                self._supersede(key, before, draft.time)
            fold = self._folds[key] = _Fold()
            fold.begin(draft.time, position)
        else:
            fold = self._folds.get(key) or self._folds.setdefault(key, _Fold())
        fold.add(draft, position)
        self._log(draft, key, head, position)

    def _supersede(self, key: ObjectKey, before: Head, time: datetime) -> None:
        """Another incarnation begins: the row of the one before is no longer there."""
        fold = self._folds.pop(key, None)
        if fold is None and before.gone:
            return
        fold = fold or _Fold()
        fold.leave(time)
        self._superseded.append(fold.row(key, before))

    def _log(self, draft: Draft, key: ObjectKey, head: Head, position: int) -> None:
        payload = draft.payload
        owner = payload.owner if isinstance(payload, ObjectPayload) else None
        text = wire.encode_payload(payload)
        leaf = chain.leaf(
            site=self._tail.site,
            position=position,
            time=chain.microseconds(draft.time),
            logged=self._logged_microseconds,
            kind=key.kind,
            object_id=key.id,
            incarnation=head.incarnation,
            revision=head.revision,
            event=draft.event,
            provenance=draft.provenance,
            owner=owner,
            payload=text,
        )
        digest = chain.link(self._tail.digest, leaf)
        self._tail = Tail(self._tail.site, position, digest)
        self._events.append(
            EventRow(
                position,
                draft.time,
                head.incarnation,
                head.revision,
                key.kind,
                key.id,
                draft.event,
                draft.provenance,
                owner,
                text,
                digest,
            )
        )


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


def _dump(values: Mapping[str, str | None]) -> str:
    """JSON that jsonb can hold."""
    text = to_json(values).decode() if values else "{}"
    if "\\u0000" in text and any("\0" in part for pair in values.items() for part in pair if part):
        raise UsageError("PostgreSQL cannot hold the character NUL")
    return text
