"""Numbering and chaining: from drafts to the rows of an append. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from pbscast import wire
from pbscast.errors import UsageError
from pbscast.events import EventName
from pbscast_store import chain
from pbscast_store.drafts import Draft
from pbscast_store.folds import Folding, FoldRow
from pbscast_store.heads import Head, ObjectKey

_FINALIZE: Final = EventName.FINALIZE
_UNSEEN: Final = Head(incarnation=0, revision=0, finalized=False, gone=False, born=None)


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


def plan(
    drafts: Iterable[Draft], heads: Mapping[ObjectKey, Head], tail: Tail, logged: datetime
) -> Plan:
    """Gives drafts their places after `tail` and folds them, one fold an object.

    `heads` must hold every object of the drafts that the log knows. Positions have no gaps, nor
    have the revisions of an incarnation. A finalize of an incarnation that has one is dropped.
    Raises UsageError for text that PostgreSQL cannot hold.
    """
    planning = Planning(heads, tail, logged)
    planning.add(drafts)
    return planning.finish()


class Planning:
    """The same, as many drafts at a time as one likes."""

    def __init__(self, heads: Mapping[ObjectKey, Head], tail: Tail, logged: datetime) -> None:
        self._heads = heads
        self._site, self._position, self._digest = tail.site, tail.position, tail.digest
        self._logged = logged
        self._logged_microseconds = chain.microseconds(logged)
        self._events: list[EventRow] = []
        self._foldings: dict[tuple[str, str], Folding] = {}
        self._superseded: list[FoldRow] = []
        self._dropped = 0

    def add(self, drafts: Iterable[Draft]) -> None:
        """The next drafts. Raises UsageError for text that PostgreSQL cannot hold."""
        try:
            for draft in drafts:
                self._add(draft)
        except UnicodeEncodeError as error:
            raise lone_surrogate(error) from error

    def finish(self) -> Plan:
        """All that was planned. Raises UsageError for text that PostgreSQL cannot hold."""
        touched = [folding for folding in self._foldings.values() if folding.position is not None]
        return Plan(
            self._events,
            [folding.row() for folding in touched],
            self._superseded,
            self._logged,
            Tail(self._site, self._position, self._digest),
            {folding.key: folding.head() for folding in touched},
            self._dropped,
        )

    def _add(self, draft: Draft) -> None:
        folding = self._foldings.get((draft.kind, draft.id))
        if folding is None or draft.begins:
            folding = self._open(draft, folding)
        if draft.event is _FINALIZE and folding.finalized:
            self._dropped += 1
        else:
            self._log(draft, folding)

    def _open(self, draft: Draft, folding: Folding | None) -> Folding:
        """Of the incarnation that the draft belongs to, be it that it begins with it."""
        key = ObjectKey(draft.kind, draft.id)
        before = self._heads.get(key)
        if draft.begins or before is None:
            return self._begin(key, draft, folding, before)
        folding = self._foldings[key] = Folding(key, before)
        return folding

    def _begin(
        self, key: ObjectKey, draft: Draft, folding: Folding | None, before: Head | None
    ) -> Folding:
        """Another incarnation begins: the row of the one before is no longer there."""
        if folding is None and before is not None:
            folding = Folding(key, before)
        if folding is not None and (folding.position is not None or not folding.gone):
            folding.leave(draft.time)
            self._superseded.append(folding.row())
        incarnation = folding.incarnation if folding is not None else 0
        begun = Folding(key, _UNSEEN._replace(incarnation=incarnation + 1))
        begun.begin(self._position + 1)
        self._foldings[key] = begun
        return begun

    def _log(self, draft: Draft, folding: Folding) -> None:
        self._position = position = self._position + 1
        owner = folding.add(draft, position)
        kind, object_id = folding.key
        time, event, provenance = draft.time, draft.event, draft.provenance
        incarnation, revision = folding.incarnation, folding.revision
        payload = wire.encode_payload(draft.payload)
        leaf = chain.leaf(
            site=self._site,
            position=position,
            time=chain.microseconds(time),
            logged=self._logged_microseconds,
            kind=kind,
            object_id=object_id,
            incarnation=incarnation,
            revision=revision,
            event=event,
            provenance=provenance,
            owner=owner,
            payload_sha256=chain.hash_payload(payload),
        )
        self._digest = digest = chain.link(self._digest, leaf)
        self._events.append(
            EventRow(
                position,
                time,
                incarnation,
                revision,
                kind,
                object_id,
                event,
                provenance,
                owner,
                payload,
                digest,
            )
        )


def lone_surrogate(error: UnicodeEncodeError) -> UsageError:
    """What is raised for one."""
    return UsageError(f"PostgreSQL cannot hold lone surrogates: {error.object!r:.80}")
