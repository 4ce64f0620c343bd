"""A log in memory: what the follower of a journal needs of the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from pbscast.errors import UnavailableError
from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind
from pbscast_store.drafts import Draft
from pbscast_store.heads import Head, ObjectKey
from pbscast_store.records import ObjectState
from pbscast_store.writer import AppendResult


@dataclass
class MemoryLog:
    """The events of one site in order, the objects they add up to, and the cursor; survives all."""

    site: str
    told: list[Draft] = field(default_factory=list)
    cursor: dict[str, Any] | None = None
    states: dict[tuple[str, str], ObjectState] = field(default_factory=dict)

    async def object(self, site: str, kind: str, object_id: str) -> ObjectState | None:
        assert site == self.site
        return self.states.get((kind, object_id))

    async def objects_named(
        self, site: str, kind: str, ids: Sequence[str]
    ) -> dict[str, ObjectState]:
        assert site == self.site
        assert ids == sorted(set(ids), key=ids.index), "each once"
        return {name: self.states[kind, name] for name in ids if (kind, name) in self.states}

    async def present_ids(self, site: str, kind: str, first: str, most: int) -> list[str]:
        assert site == self.site
        present = [s.id for s in self.states.values() if s.kind == kind and not s.gone]
        return sorted(name for name in present if name >= first)[:most]

    def keep(self, drafts: Sequence[Draft], cursor: Mapping[str, Any]) -> None:
        """All of an append, at once."""
        self.cursor = dict(cursor)
        for draft in drafts:
            self.told.append(draft)
            if draft.kind is not Kind.SITE:
                self._fold(draft)

    def _fold(self, draft: Draft) -> None:
        key = (draft.kind.value, draft.id)
        before = self.states.get(key)
        if before is None or draft.begins:
            assert before is None or before.gone, "each incarnation ends before another begins"
            before = _unborn(self.site, draft, before.incarnation + 1 if before else 1)
        assert not before.gone, draft
        payload = draft.payload
        assert isinstance(payload, ChangePayload | FinalizePayload)
        attributes = before.attributes
        if isinstance(payload, ChangePayload):
            kept = {k: v for k, v in attributes.items() if k not in payload.removed}
            attributes = kept | payload.changed
        self.states[key] = replace(
            before,
            revision=before.revision + 1,
            position=len(self.told),
            born=draft.born or before.born,
            finalized=before.finalized or draft.event is EventName.FINALIZE,
            gone=draft.ends,
            state=payload.state,
            substate=payload.substate,
            attributes=attributes,
        )


def _unborn(site: str, draft: Draft, incarnation: int) -> ObjectState:
    return ObjectState(
        site=site,
        kind=draft.kind.value,
        id=draft.id,
        incarnation=incarnation,
        revision=0,
        position=0,
        born=draft.born,
        finalized=False,
        gone=False,
        owner=None,
        queue=None,
        project=None,
        name=None,
        state=None,
        substate=None,
        attributes={},
        columns={},
    )


@dataclass
class MemoryWriter:
    """Appends to it until the fuse has burnt down: from then on nobody knows what was written."""

    log: MemoryLog
    fuse: int | None = None
    """Appends that succeed; None: all."""
    is_kept: bool = False
    """Whether the one that fails was written all the same."""

    @property
    def site(self) -> str:
        return self.log.site

    @property
    def cursor(self) -> dict[str, Any] | None:
        return self.log.cursor

    @property
    def position(self) -> int:
        return len(self.log.told)

    async def heads(self, keys: AbstractSet[ObjectKey]) -> dict[ObjectKey, Head]:
        return {
            key: Head(state.incarnation, state.revision, state.finalized, state.gone, state.born)
            for key in keys
            if (state := self.log.states.get((key.kind, key.id)))
        }

    async def append(self, drafts: Sequence[Draft], cursor: Mapping[str, Any]) -> AppendResult:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse == -1 and self.is_kept:
                self.log.keep(drafts, cursor)
            if self.fuse < 0:
                raise UnavailableError("log: gone")
        self.log.keep(drafts, cursor)
        return AppendResult(self.position - len(drafts) + 1, self.position, 0)
