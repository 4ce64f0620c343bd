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
    try:
        return _Planning(heads, tail, logged).run(drafts)
    except UnicodeEncodeError as error:
        raise UsageError(f"PostgreSQL cannot hold lone surrogates: {error.object!r:.80}") from error


class _Planning:
    """One batch, as far as it is planned."""

    def __init__(self, heads: Mapping[ObjectKey, Head], tail: Tail, logged: datetime) -> None:
        self._heads = heads
        self._site, self._position, self._digest = tail.site, tail.position, tail.digest
        self._logged = logged
        self._logged_microseconds = chain.microseconds(logged)
        self._events: list[EventRow] = []
        self._foldings: dict[ObjectKey, Folding] = {}
        self._superseded: list[FoldRow] = []

    def run(self, drafts: Iterable[Draft]) -> Plan:
        dropped = 0
        for draft in drafts:
            key = ObjectKey(draft.kind, draft.id)
            folding = self._folding(key, draft)
            if draft.event is EventName.FINALIZE and folding.finalized:
                dropped += 1
            else:
                self._log(draft, key, folding)
        touched = {key: fold for key, fold in self._foldings.items() if fold.position is not None}
        return Plan(
            self._events,
            [folding.row(key) for key, folding in touched.items()],
            self._superseded,
            self._logged,
            Tail(self._site, self._position, self._digest),
            {key: folding.head() for key, folding in touched.items()},
            dropped,
        )

    def _folding(self, key: ObjectKey, draft: Draft) -> Folding:
        """Of the incarnation that the draft belongs to, be it that it begins with it."""
        folding = self._foldings.get(key)
        if folding is not None and not draft.begins:
            return folding
        before = self._heads.get(key)
        if draft.begins or before is None:
            return self._begin(key, draft, folding, before)
        folding = self._foldings[key] = Folding(before)
        return folding

    def _begin(
        self, key: ObjectKey, draft: Draft, folding: Folding | None, before: Head | None
    ) -> Folding:
        """Another incarnation begins: the row of the one before is no longer there."""
        if folding is None and before is not None:
            folding = Folding(before)
        if folding is not None and (folding.position is not None or not folding.gone):
            folding.leave(draft.time)
            self._superseded.append(folding.row(key))
        incarnation = folding.incarnation if folding is not None else 0
        begun = self._foldings[key] = Folding(_UNSEEN._replace(incarnation=incarnation + 1))
        begun.begin(draft, self._position + 1)
        return begun

    def _log(self, draft: Draft, key: ObjectKey, folding: Folding) -> None:
        self._position = position = self._position + 1
        owner = folding.add(draft, position)
        payload = wire.encode_payload(draft.payload)
        leaf = chain.leaf(
            site=self._site,
            position=position,
            time=chain.microseconds(draft.time),
            logged=self._logged_microseconds,
            kind=key.kind,
            object_id=key.id,
            incarnation=folding.incarnation,
            revision=folding.revision,
            event=draft.event,
            provenance=draft.provenance,
            owner=owner,
            payload_sha256=chain.hash_payload(payload),
        )
        self._digest = digest = chain.link(self._digest, leaf)
        self._events.append(
            EventRow(
                position,
                draft.time,
                folding.incarnation,
                folding.revision,
                key.kind,
                key.id,
                draft.event,
                draft.provenance,
                owner,
                payload,
                digest,
            )
        )
