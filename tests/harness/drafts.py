"""Any drafts at all, as hypothesis strategies, and what a plain fold makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import strategies as st

from pbscast.events import (
    ChangePayload,
    EventName,
    FinalizePayload,
    GapPayload,
    Kind,
    ObjectPayload,
    Payload,
    Provenance,
    Reason,
)
from pbscast_store.drafts import Draft
from pbscast_store.folds import LARGE

NAMES = st.sampled_from(["Variable_List", "comment", "Resource_List.ncpus", "", "a.b.", "ключ"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = st.one_of(TEXTS, TEXTS.map(lambda text: text + "x" * LARGE))
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them naive
STANDINGS: dict[str, st.SearchStrategy[object]] = {
    "owner": st.none() | TEXTS,
    "queue": st.none() | TEXTS,
    "state": st.none() | st.sampled_from("QRF"),
    "substate": st.none() | st.integers(-(2**31), 2**31 - 1),
}
CHANGES = st.builds(
    ChangePayload,
    **STANDINGS,
    changed=st.dictionaries(NAMES, VALUES, max_size=4),
    removed=st.lists(NAMES, max_size=2).map(tuple),
    columns=st.dictionaries(NAMES, TEXTS, max_size=2),
)
FINALIZES = st.builds(
    FinalizePayload,
    **STANDINGS,
    reason=st.sampled_from(Reason),
    exit_status=st.none() | st.integers(-30, 300),
)


def _draft(payload: st.SearchStrategy[Payload], event: EventName) -> st.SearchStrategy[Draft]:
    return st.builds(
        Draft,
        kind=st.just(Kind.JOB),
        id=st.sampled_from(["1.sitea", "2[].sitea", "2[1].sitea"]),
        event=st.just(event),
        time=TIMES,
        provenance=st.sampled_from(Provenance),
        payload=payload,
        begins=st.integers(0, 4).map(lambda number: number == 0 and event is EventName.SUBMIT),
        born=st.sampled_from([None, "2026-11-22T09:36:57", "2026-11-23T00:00:00"]),
        ends=st.integers(0, 4).map(lambda number: number == 0),
    )


GAPS = st.builds(
    Draft,
    kind=st.just(Kind.SITE),
    id=st.just("sitea"),
    event=st.just(EventName.GAP),
    time=TIMES,
    provenance=st.just(Provenance.JOURNAL),
    payload=st.builds(GapPayload, cause=TEXTS),
)
DRAFTS = st.one_of(_draft(CHANGES, EventName.SUBMIT), _draft(FINALIZES, EventName.FINALIZE), GAPS)


@dataclass
class PlainObject:
    """One incarnation of an object as its events leave it, one event at a time."""

    incarnation: int
    first_position: int
    began: datetime
    ended: datetime | None = None
    gone_at: datetime | None = None
    reason: str | None = None
    exit_status: int | None = None
    reached: list[str] = field(default_factory=list)
    revision: int = 0
    position: int = 0
    born: str | None = None
    finalized: bool = False
    gone: bool = False
    standing: ObjectPayload = field(default_factory=ObjectPayload)
    attributes: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def leave(self, time: datetime) -> None:
        self.gone_at = self.gone_at or time
        self.ended = self.ended or max(time, self.began)


@dataclass
class PlainLog:
    """What the log has to hold, told in the simplest way."""

    events: list[tuple[Draft, int, int]] = field(default_factory=list)
    """Draft, incarnation, revision."""
    objects: dict[tuple[str, str], PlainObject] = field(default_factory=dict)
    lives: list[tuple[str, str, PlainObject]] = field(default_factory=list)
    """Kind, id, incarnation: ended or not, in the order in which they began."""
    dropped: int = 0

    def append(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            self._append(draft)

    def _append(self, draft: Draft) -> None:
        key = (draft.kind, draft.id)
        known = self.objects.get(key)
        final = draft.event is EventName.FINALIZE
        if final and known and known.finalized:
            self.dropped += 1
            return
        if known is None or draft.begins:
            known = self._begin(draft, known)
        known.revision += 1
        if known.ended is None:
            known.began = min(known.began, draft.time)
        self.events.append((draft, known.incarnation, known.revision))
        known.position = len(self.events)
        known.born = draft.born or known.born
        known.finalized |= final
        known.gone |= draft.ends
        if draft.ends:
            known.leave(draft.time)
        if isinstance(draft.payload, FinalizePayload):
            known.ended = max(draft.time, known.began)
            known.reason, known.exit_status = draft.payload.reason, draft.payload.exit_status
        _fold(known, draft.payload)

    def _begin(self, draft: Draft, before: PlainObject | None) -> PlainObject:
        if before is not None:
            before.leave(draft.time)
        incarnation = before.incarnation + 1 if before else 1
        begun = PlainObject(incarnation, len(self.events) + 1, draft.time)
        self.objects[draft.kind, draft.id] = begun
        self.lives.append((draft.kind, draft.id, begun))
        return begun


def _fold(known: PlainObject, payload: Payload) -> None:
    if isinstance(payload, ObjectPayload):
        known.standing = payload
        if payload.state is not None and payload.state not in known.reached:
            known.reached.append(payload.state)
    if isinstance(payload, ChangePayload):
        for name in payload.removed:
            known.attributes.pop(name, None)
        known.attributes |= payload.changed
        known.columns |= payload.columns
