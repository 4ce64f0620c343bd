"""One site's log in memory: events made one by one, and how everything stood at any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from pbscast import wire
from pbscast.events import (
    Change,
    ChangePayload,
    EventName,
    Finalize,
    FinalizePayload,
    Incarnation,
    Kind,
    ObjectPayload,
    Payload,
    Position,
    Reason,
    Revision,
    Site,
)
from pbscast.ids import split_subjob
from pbscast.lives import Standing
from pbscast.selection import Selection
from pbscast_store.records import Record
from pbscast_store.standings import Page, Spot

NOW = datetime(2026, 1, 2, tzinfo=UTC)
_ROWS = 3
"""Of a page: few, so that there are several."""


@dataclass
class _Head:
    incarnation: int
    revision: int
    ended: bool


@dataclass
class PlainSite:
    """As `Log`, of one site, as far as deliverers ask it."""

    site: str = "sitea"
    records: list[Record] = field(default_factory=list)
    _heads: dict[tuple[str, str], _Head] = field(default_factory=dict)
    _stands: list[dict[tuple[str, str], tuple[int, Standing]]] = field(default_factory=lambda: [{}])
    """After each event, and before the first."""

    def change(self, kind: Kind, name: str, values: Mapping[str, str]) -> None:
        """A change; of what is not there, or has ended, its beginning."""
        head = self._heads.get((kind, name))
        if head is None or head.ended:
            first = EventName.SUBMIT if kind is Kind.JOB else EventName.CREATE
            incarnation = 1 if head is None else head.incarnation + 1
            self._heads[kind, name] = _Head(incarnation, 0, ended=False)
            self._log(kind, name, first, self._payload(None, values))
        else:
            before = self._stood(len(self.records), kind, name)
            event = EventName.STATE if "state" in values else EventName.MODIFY
            self._log(kind, name, event, self._payload(before, values))

    def end(self, kind: Kind, name: str, reason: Reason = Reason.FINISHED) -> None:
        """Finalize a job, delete anything else; nothing if it does not live."""
        head = self._heads.get((kind, name))
        if head is None or head.ended:
            return
        before = self._stood(len(self.records), kind, name)
        assert before is not None
        where = {field: getattr(before, field) for field in ObjectPayload.model_fields}
        where.pop("omitted")
        if kind is Kind.JOB:
            end = FinalizePayload(reason=reason, **where)
            self._log(kind, name, EventName.FINALIZE, end)
        else:
            self._log(kind, name, EventName.DELETE, ChangePayload(**where))
        head.ended = True

    def _payload(self, before: Standing | None, values: Mapping[str, str]) -> ChangePayload:
        fields = set(ObjectPayload.model_fields) - {"omitted"}
        stood: dict[str, Any] = {
            name: None if before is None else getattr(before, name) for name in fields
        }
        stood |= {name: text for name, text in values.items() if name in fields}
        changed = {name: text for name, text in values.items() if name not in fields and text}
        removed = tuple(name for name, text in values.items() if name not in fields and not text)
        return ChangePayload(
            old_state=None if before is None else before.state,
            changed=changed,
            removed=removed,
            **stood,
        )

    def _log(self, kind: Kind, name: str, event: EventName, payload: Payload) -> None:
        head = self._heads[kind, name]
        head.revision += 1
        record = Record(
            site=self.site,
            position=len(self.records) + 1,
            time=NOW,
            kind=kind,
            id=name,
            incarnation=head.incarnation,
            revision=head.revision,
            event=event,
            provenance="journal",
            owner=None,
            payload=wire.encode_payload(payload),
            logged=NOW,
            digest=None,
        )
        self.records.append(record)

    def stood(self, position: int) -> Iterator[tuple[int, Standing]]:
        """The latest life of each object, with its first position, ended or not."""
        while len(self._stands) <= position:
            event = self.records[len(self._stands) - 1].decode()
            assert isinstance(event, Change | Finalize)
            lives = dict(self._stands[-1])
            first, before = lives.get((event.kind, event.id), (event.position, None))
            if event.revision == 1:
                first, before = event.position, None
            lives[event.kind, event.id] = first, _folded(before, event)
            self._stands.append(lives)
        yield from self._stands[position].values()

    def _stood(self, position: int, kind: Kind, name: str) -> Standing | None:
        found = [item for _, item in self.stood(position) if (item.kind, item.id) == (kind, name)]
        return found[0] if found else None

    # As Log.

    async def position(self, site: str) -> int:
        assert site == self.site
        return len(self.records)

    async def read(
        self, site: str, after: int, limit: int, *, max_bytes: int = 2**20
    ) -> list[Record]:
        assert (site, max_bytes > 0) == (self.site, True)
        await asyncio.sleep(0)
        return self.records[after : after + limit]

    async def at(
        self,
        selection: Selection,
        moment: Mapping[str, int],
        *,
        attributes: bool = False,
        after: Spot | None = None,
        known_only: bool = False,
    ) -> Page[Standing]:
        assert known_only
        await asyncio.sleep(0)
        rows = [
            (Spot(self.site, first), standing if attributes else _bare(standing))
            for first, standing in self.stood(moment[self.site])
            if _selects(selection, standing)
        ]
        rows.sort(key=lambda row: row[0])
        rest = [row for row in rows if after is None or row[0] > after]
        return Page(rest[:_ROWS], rest[_ROWS - 1][0] if len(rest) > _ROWS else None)

    async def snapshot(
        self,
        selection: Selection,
        *,
        attributes: bool = False,
        after: Spot | None = None,
        known_only: bool = False,
    ) -> Page[Standing]:
        return await self.at(
            selection,
            {self.site: len(self.records)},
            attributes=attributes,
            after=after,
            known_only=known_only,
        )


def _folded(before: Standing | None, event: Change | Finalize) -> Standing:
    attributes = dict(before.attributes or {}) if before else {}
    if isinstance(event, Change):
        attributes = {name: text for name, text in attributes.items() if name not in event.removed}
        attributes |= event.changed
    is_over = isinstance(event, Finalize) or event.event is EventName.DELETE
    return Standing(
        site=Site(event.site),
        kind=event.kind,
        id=event.id,
        incarnation=Incarnation(event.incarnation),
        revision=Revision(event.revision),
        position=Position(event.position),
        began=NOW,
        owner=event.owner,
        queue=event.queue,
        project=event.project,
        name=event.name,
        state=event.state,
        ended=NOW if is_over else None,
        reason=event.reason if isinstance(event, Finalize) else None,
        attributes=attributes,
        columns={},
    )


def _bare(standing: Standing) -> Standing:
    return standing.model_copy(update={"attributes": None, "columns": None})


def _selects(selection: Selection, standing: Standing) -> bool:
    def holds(wanted: Sequence[str], value: str | None) -> bool:
        return not wanted or value in wanted

    array = split_subjob(standing.id)[0]
    return (
        selection.kind is standing.kind
        and (bool(selection.ids) or standing.ended is None)
        and (not selection.ids or standing.id in selection.ids or array in selection.ids)
        and holds(selection.owners, standing.owner)
        and holds(selection.queues, standing.queue)
        and holds(selection.states, standing.state)
        and (
            not selection.names
            or any(fnmatchcase(standing.name or "", name) for name in selection.names)
        )
    )
