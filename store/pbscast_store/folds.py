"""Folding: what a batch's events leave of each object. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from pydantic_core import to_json

from pbscast.errors import UsageError
from pbscast.events import ChangePayload, FinalizePayload, ObjectPayload
from pbscast_store.drafts import Draft
from pbscast_store.heads import Head, ObjectKey

LARGE: Final = 1024
"""Characters from which on a value is kept where other changes of the object do not rewrite it."""

_STANDING_NOWHERE: Final = ObjectPayload()


class FoldRow(NamedTuple):
    """`pbscast_log.fold`: what a batch says of one incarnation."""

    position: int | None
    """Of its last event in the batch; None if it has none there."""
    first_position: int | None
    """Of its first event, if that is in the batch."""
    began: datetime | None
    """The least time of its events in the batch, up to its end."""
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


class Folding:
    """One incarnation of an object as a batch goes over it."""

    __slots__ = (
        "_base", "_columns", "_reached", "_recent", "began", "born", "ended", "exit_status",
        "finalized", "first_position", "gone", "gone_at", "incarnation", "key", "position",
        "reason", "revision", "standing",
    )  # fmt: skip

    def __init__(self, key: ObjectKey, head: Head) -> None:
        self.key = key
        self.incarnation, self.revision, self.finalized, self.gone, self.born = head
        self.position: int | None = None
        self.first_position: int | None = None
        self.began: datetime | None = None
        self.ended: datetime | None = None
        self.gone_at: datetime | None = None
        self.reason: str | None = None
        self.exit_status: int | None = None
        self.standing = _STANDING_NOWHERE
        self._reached: list[str] = []
        self._columns: dict[str, str] = {}
        self._recent: dict[str, str | None] = {}
        self._base: dict[str, str] = {}

    def begin(self, position: int) -> None:
        """The incarnation begins in this batch: what it was before is not asked for."""
        self.first_position = position

    def add(self, draft: Draft, position: int) -> str | None:
        """The next event; returns the owner whom it names."""
        self.position = position
        self.revision += 1
        if not (self.finalized or self.gone):
            # The datastore's clock may go back: what a life did lies within it nevertheless.
            self.began = draft.time if self.began is None else min(self.began, draft.time)
        if draft.born:
            self.born = draft.born
        if draft.ends:
            self.gone = True
            self.leave(draft.time)
        payload = draft.payload
        if isinstance(payload, ChangePayload):
            self._change(payload)
        elif isinstance(payload, FinalizePayload):
            self._finalize(payload, draft.time)
        elif not isinstance(payload, ObjectPayload):
            return None
        self.standing = payload
        state = payload.state
        if state is not None and state not in self._reached:
            self._reached.append(state)
        return payload.owner

    def leave(self, time: datetime) -> None:
        """The row is gone: an end, unless there was one or a finalize tells another."""
        self.gone_at = self.gone_at or time
        self.ended = self.ended or self._not_before_it_began(time)

    def head(self) -> Head:
        return Head(self.incarnation, self.revision, self.finalized, self.gone, self.born)

    def row(self) -> FoldRow:
        standing, key = self.standing, self.key
        return FoldRow(
            self.position,
            self.first_position,
            self.began,
            self.ended,
            self.gone_at,
            self.incarnation,
            self.revision,
            standing.substate,
            self.exit_status,
            self.finalized,
            self.gone,
            key.kind,
            key.id,
            self.born,
            standing.owner,
            standing.queue,
            standing.project,
            standing.name,
            standing.state,
            self.reason,
            self._reached,
            _dump(self._columns),
            _dump(self._recent),
            _dump(self._base),
        )

    def _finalize(self, payload: FinalizePayload, time: datetime) -> None:
        self.finalized = True
        self.ended = self._not_before_it_began(time)
        self.reason, self.exit_status = payload.reason, payload.exit_status

    def _not_before_it_began(self, time: datetime) -> datetime:
        """Nor does it where another takes its id at an earlier time, by a clock that went back."""
        return time if self.first_position is None else max(time, self.began or time)

    def _change(self, payload: ChangePayload) -> None:
        if payload.columns:
            self._columns.update(payload.columns)
        if payload.removed:
            self._remove(payload.removed)
        if self.first_position is not None:
            self._base.update(payload.changed)
        else:
            self._set(payload.changed)

    def _set(self, changed: dict[str, str]) -> None:
        """What goes into `base` hides nothing: the append takes its names out of `recent`."""
        if self._base:
            self._base = {name: self._base[name] for name in self._base.keys() - changed.keys()}
        self._recent.update(changed)
        for name in [name for name, value in changed.items() if len(value) > LARGE]:
            del self._recent[name]
            self._base[name] = changed[name]

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._base.pop(name, None)
            if self.first_position is None:
                self._recent[name] = None


def _dump(values: Mapping[str, str | None]) -> str:
    """JSON that jsonb can hold."""
    if not values:
        return "{}"
    text = to_json(values).decode()
    if "\\u0000" in text and any("\0" in part for pair in values.items() for part in pair if part):
        raise UsageError("PostgreSQL cannot hold the character NUL")
    return text
