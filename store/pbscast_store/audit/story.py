"""What the events of a site tell, checked against what can be true of PBS and of a log: pure.

Of every object: revisions 1, 2, 3 … in each incarnation, incarnations 1, 2, 3 …; at most one
finalize, and exactly one where a job's row has left; state changes that PBS makes; and, of what the
journal tells, that the state before is the one the log told last. After a gap, and in a resync,
states may jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from pydantic_core import from_json

from pbscast.events import EventName, Kind, Provenance, Reason
from pbscast_store.audit.findings import UNREADABLE, Broken, Finding, Tale
from pbscast_store.audit.lines import (
    EVENT,
    ID,
    INCARNATION,
    KIND,
    PAYLOAD,
    PROVENANCE,
    REVISION,
    THINNED,
    TIME,
    WIDTH,
    cells,
    describe,
)
from pbscast_store.audit.lives import ToldLife
from pbscast_store.audit.transitions import Step, judge

HELD: Final = 20_000
"""Incarnations of which all attributes are held; of others only what the projection has not."""

_READ: Final = (TIME, KIND, ID, INCARNATION, REVISION, EVENT, PROVENANCE)
_SITE: Final = Kind.SITE.encode()
_JOB: Final = Kind.JOB.value
_STATE: Final = EventName.STATE.encode()
_USAGE: Final = EventName.USAGE.encode()
_FINALIZE: Final = EventName.FINALIZE.encode()
_BEGINNING: Final = frozenset(name.encode() for name in (EventName.SUBMIT, EventName.CREATE))
_LEAVING: Final = frozenset(name.encode() for name in (EventName.PURGE, EventName.DELETE))
_BREAKS: Final = frozenset(name.encode() for name in (EventName.GAP, EventName.RESYNC))
_JOURNAL: Final = Provenance.JOURNAL.encode()
_PAST: Final = frozenset("FMX")


class Story:
    """Takes the events of a site in order. Raises Broken at the first that cannot be."""

    def __init__(self, site: str) -> None:
        self.tale = Tale()
        self.position = 0
        """Of the last event that was told."""
        self.lives: dict[tuple[bytes, bytes], ToldLife] = {}
        """The latest incarnations of objects of which more may be told."""
        self.known = 0
        """Objects that the log told of."""
        self.ended = 0
        """Incarnations that have ended: finalized, or gone."""
        self._site = site
        self._due: list[ToldLife] = []
        self._held: dict[tuple[bytes, bytes], ToldLife] = {}
        self._break = 0
        """Position of the last gap or resync: after it states may have jumped."""

    def take(self, block: bytes) -> None:
        """The next events: whole lines of COPY."""
        told, first = cells(block), self.position + 1
        try:
            self._take(told)
        except Broken as broken:
            index = (broken.finding.position - first) * WIDTH
            about = describe(told[index : index + WIDTH])
            raise Broken(replace(broken.finding, about=about)) from broken

    def _take(self, told: list[bytes]) -> None:
        columns = [told[index::WIDTH] for index in _READ]
        try:
            for values in zip(*columns, self._payloads(told), strict=True):
                self._tell(values)
        except UNREADABLE as error:
            raise self._broken(f"pbscast cannot have written this row: {error}") from error

    def _payloads(self, told: list[bytes]) -> Sequence[dict[str, Any] | None]:
        """All at once: to parse an array costs a fifth less than to parse each of its items."""
        texts = told[PAYLOAD::WIDTH]
        try:
            payloads: list[dict[str, Any]] = from_json(b"[" + b",".join(texts) + b"]")
        except ValueError:
            payloads = []
        if len(payloads) == len(texts):
            return payloads
        items = enumerate(zip(texts, told[EVENT::WIDTH], strict=True), self.position + 1)
        return [self._payload(position, *item) for position, item in items]

    def _payload(self, position: int, text: bytes, event: bytes) -> dict[str, Any] | None:
        """None where it was thinned out."""
        if text.startswith(THINNED) and event == _USAGE:
            return None
        try:
            payload: dict[str, Any] = from_json(text)
        except ValueError:
            found = text[:80].decode(errors="replace")
            what = f"pbscast cannot have written this row: its payload is no JSON: {found}"
            raise Broken(Finding(self._site, position, what)) from None
        return payload

    def due(self) -> list[ToldLife]:
        """Incarnations to be compared with the projection now; they are handed out once."""
        due, self._due = self._due, []
        if len(self._held) > HELD:
            number = len(self._held) - HELD + HELD // 8
            due += [self._held.pop(key) for key in list(islice(self._held, number))]
        return due

    def rest(self) -> list[ToldLife]:
        """All that are left when everything was told."""
        self._held.clear()
        return [*self.due(), *self.lives.values()]

    def is_last(self, life: ToldLife) -> bool:
        """Whether no later incarnation of the same object was told of so far."""
        return self.lives.get(life.key) is life

    def forget(self, life: ToldLife) -> None:
        """Nothing more will be told of this object, by the projection."""
        if self.is_last(life):
            del self.lives[life.key]
            self._held.pop(life.key, None)

    def _tell(self, values: tuple[Any, ...]) -> None:
        # Called for each event of the log, as is what it calls: written for speed.
        time, kind, name, incarnation, number, event, provenance, payload = values
        self.position = position = self.position + 1
        key, revision = (kind, name), int(number)
        life = self.lives.get(key)
        if revision == 1:
            life = self._begin(life, key, incarnation, int(time))
        elif life is None or life.revision + 1 != revision or life.number != incarnation:
            raise self._out_of_order(life, int(incarnation), revision)
        elif event in _BEGINNING:
            raise self._broken(f"a second beginning of the same incarnation: revision {revision}")
        life.reach(int(time))
        if payload is None:
            life.is_thinned = True
            self.tale.thinned += 1
        elif kind != _SITE:
            if provenance == _JOURNAL and (revision == 1 or life.position > self._break):
                self._check_step(life, event, payload)
            life.change(payload)
            self._held[key] = life
        elif event in _BREAKS:
            self._break = position
        life.position, life.revision = position, revision
        if event == _FINALIZE and payload is not None:
            self._finalize(life, int(time), payload)
        elif event in _LEAVING:
            self._leave(life, int(time))

    def _begin(
        self, before: ToldLife | None, key: tuple[bytes, bytes], number: bytes, time: int
    ) -> ToldLife:
        incarnation, expected = int(number), before.incarnation + 1 if before else 1
        if incarnation != expected:
            raise self._broken(
                "rows of this object are missing, or this one was inserted: its incarnation is"
                f" {incarnation}, the next would be {expected}"
            )
        if before is not None:
            self._supersede(before, time)
        life = self.lives[key] = ToldLife(key, number, time)
        life.first_position = self.position
        self.tale.incarnations += 1
        self.known += before is None
        return life

    def _supersede(self, before: ToldLife, time: int) -> None:
        if before.kind == _JOB and not before.finalized:
            raise self._broken("a new incarnation begins, though the last was not finalized")
        if not before.is_gone:
            self.ended += before.ended is None
            before.leave(time)
            self._due.append(before)

    def _out_of_order(self, life: ToldLife | None, incarnation: int, revision: int) -> Broken:
        text = "rows of this object are missing, or this one was inserted: it is"
        text += f" revision {revision} of incarnation {incarnation}, and the one before it is"
        if life is None:
            return self._broken(f"{text} not there")
        return self._broken(f"{text} {life.revision} of {life.incarnation}")

    def _check_step(self, life: ToldLife, event: bytes, payload: dict[str, Any]) -> None:
        """The state before a change is the one that the log told last, and PBS makes such steps."""
        state = payload.get("state")
        if life.revision:
            if "old_state" in payload or "old_substate" in payload:
                told, substate = payload.get("old_state"), payload.get("old_substate")
            elif event == _STATE:
                told, substate = life.state, life.substate
            else:
                told, substate = state, payload.get("substate")
            if told != life.state or substate != life.substate:
                raise self._broken(
                    f"it says that the state before was {told}/{substate}, but the log told of"
                    f" {life.state}/{life.substate}: a row is missing, or one was changed"
                )
        if state != life.state and state is not None and life.kind == _JOB:
            self._judge(life, state)

    def _judge(self, life: ToldLife, after: str) -> None:
        step = judge(life.id, life.state, after)
        if step is Step.IMPOSSIBLE:
            what = f"from {life.state} to {after}" if life.state else f"to {after} at first"
            raise self._broken(f"a change of state that PBS cannot make: {what}")
        if step is Step.ODD:
            name = f"{life.state or 'begin'}→{after}"
            self.tale.oddities[name] = self.tale.oddities.get(name, 0) + 1
            self.tale.first_oddity = self.tale.first_oddity or f"{self._site}:{self.position}"

    def _finalize(self, life: ToldLife, time: int, payload: dict[str, Any]) -> None:
        if life.kind != _JOB:
            raise self._broken("a finalize of what is no job")
        if life.finalized:
            raise self._broken("a second finalize of the same life")
        self.ended += life.ended is None
        life.finalize(time, payload.get("reason"), payload.get("exit_status"))
        # The row stays where it says itself that the job has ended: a site that keeps history.
        is_past = life.dated and life.state in _PAST
        if not is_past or life.reason == Reason.VANISHED:
            life.leave(time)
            self._due.append(life)

    def _leave(self, life: ToldLife, time: int) -> None:
        if life.kind == _JOB and not life.finalized:
            raise self._broken("the job's row left PBS, though no finalize was logged before")
        self.ended += life.ended is None
        life.leave(time)
        self._due.append(life)

    def _broken(self, text: str) -> Broken:
        return Broken(Finding(self._site, self.position, text))
