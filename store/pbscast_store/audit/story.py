"""What the events of a site tell, checked against what can be true of PBS and of a log: pure.

Of every object: revisions 1, 2, 3 … in each incarnation, incarnations 1, 2, 3 …; at most one
finalize, and exactly one where a job's row has left; state changes that PBS makes; and, of what the
journal tells, that the state before is the one the log told last. After a gap, and in a resync,
states may jump.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from pydantic_core import from_json

from pbscast.events import EventName, Kind, Provenance, Reason
from pbscast_store.audit.findings import Broken, Finding, Tale
from pbscast_store.audit.lines import (
    EVENT,
    ID,
    INCARNATION,
    KIND,
    PAYLOAD,
    POSITION,
    PROVENANCE,
    REVISION,
    TIME,
    fields,
)
from pbscast_store.audit.lives import STATE, Life
from pbscast_store.audit.transitions import Step, judge

HELD: Final = 20_000
"""Incarnations of which all attributes are held; of others only what the projection has not."""

_SITE: Final = Kind.SITE.encode()
_STATE: Final = EventName.STATE.encode()
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
        self.lives: dict[tuple[bytes, bytes], Life] = {}
        """The latest incarnations of objects of which more may be told."""
        self.known = 0
        """Objects that the log told of."""
        self.ended = 0
        """Incarnations that have ended: finalized, or gone."""
        self._site = site
        self._due: list[Life] = []
        self._held: dict[tuple[bytes, bytes], Life] = {}
        self._break = 0
        """Position of the last gap or resync: after it states may have jumped."""

    def take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self._tell(fields(line))

    def due(self) -> list[Life]:
        """Incarnations to be compared with the projection now; they are handed out once."""
        due, self._due = self._due, []
        if len(self._held) > HELD:
            due += [self._held.pop(key) for key in list(islice(self._held, HELD // 8))]
        return due

    def rest(self) -> list[Life]:
        """All that are left when everything was told."""
        self._held.clear()
        return [*self.due(), *self.lives.values()]

    def is_last(self, life: Life) -> bool:
        """Whether no later incarnation of the same object was told of so far."""
        return self.lives.get((life.kind.encode(), life.id.encode())) is life

    def forget(self, life: Life) -> None:
        """Nothing more will be told of this object, by the projection."""
        if self.is_last(life):
            key = (life.kind.encode(), life.id.encode())
            del self.lives[key]
            self._held.pop(key, None)

    def _tell(self, values: list[bytes]) -> None:
        # Called for each event of the log: written for speed.
        position, time, revision = int(values[POSITION]), int(values[TIME]), int(values[REVISION])
        key, event = (values[KIND], values[ID]), values[EVENT]
        life = self.lives.get(key)
        if revision == 1:
            life = self._begin(life, key, int(values[INCARNATION]), position, time)
        elif life is None or (int(values[INCARNATION]), revision) != life.next_place:
            raise self._out_of_order(life, values)
        elif event in _BEGINNING:
            raise self._broken(position, f"{life}: {event.decode()}", "revision 1", str(revision))
        payload = from_json(values[PAYLOAD], cache_strings="keys")
        if key[0] != _SITE:
            self._change(life, values, payload)
            self._held[key] = life
        elif event in _BREAKS:
            self._break = position
        life.position, life.revision = position, revision
        if event == _FINALIZE:
            self._finalize(life, time, payload)
        elif event in _LEAVING:
            self._leave(life, time)
        self.tale.events += 1

    def _begin(
        self,
        before: Life | None,
        key: tuple[bytes, bytes],
        incarnation: int,
        position: int,
        time: int,
    ) -> Life:
        expected = before.incarnation + 1 if before else 1
        if incarnation != expected:
            name = b" ".join(key).decode()
            raise self._broken(position, f"incarnation of {name}", str(expected), str(incarnation))
        if before is not None:
            self._supersede(before, position, time)
        life = self.lives[key] = Life(*key, incarnation, time)
        life.first_position = position
        self.tale.incarnations += 1
        self.known += before is None
        return life

    def _supersede(self, before: Life, position: int, time: int) -> None:
        if before.kind == Kind.JOB and not before.finalized:
            found = "another incarnation begins"
            raise self._broken(position, f"{before}", "a finalize before", found)
        if not before.is_gone:
            self.ended += before.ended is None
            before.leave(time)
            self._due.append(before)

    def _out_of_order(self, life: Life | None, values: list[bytes]) -> Broken:
        position, kind, name = int(values[POSITION]), values[KIND].decode(), values[ID].decode()
        found = f"{values[INCARNATION].decode()}, {values[REVISION].decode()}"
        expected = "any, 1" if life is None else "{}, {}".format(*life.next_place)
        return self._broken(position, f"incarnation, revision of {kind} {name}", expected, found)

    def _change(self, life: Life, values: list[bytes], payload: dict[str, Any]) -> None:
        get = payload.get
        state, was = get("state"), life.standing[STATE]
        begins = life.revision == 0
        if values[PROVENANCE] == _JOURNAL and (begins or life.position > self._break):
            if not begins:
                self._continue(life, values, payload)
            if state != was and state is not None and life.kind == Kind.JOB:
                self._step(life, int(values[POSITION]), was, state)
        life.standing = (
            *(get("owner"), get("queue"), get("project"), get("name")),
            *(state, get("substate")),
        )
        if state is not None and state not in life.reached:
            life.reached.append(state)
        if "removed" in payload:
            life.remove(payload["removed"])
        if "changed" in payload:
            life.change(payload["changed"])
        if "columns" in payload:
            life.columns.change(payload["columns"])

    def _continue(self, life: Life, values: list[bytes], payload: dict[str, Any]) -> None:
        """The state before a change is the one that the log told last."""
        if "old_state" in payload or "old_substate" in payload:
            told = (payload.get("old_state"), payload.get("old_substate"))
        elif values[EVENT] != _STATE:
            told = (payload.get("state"), payload.get("substate"))
        else:
            return
        if told != life.standing[STATE:]:
            expected, found = "{}/{}".format(*life.standing[STATE:]), "{}/{}".format(*told)
            raise self._broken(
                int(values[POSITION]), f"{life}: state before this event", expected, found
            )

    def _step(self, life: Life, position: int, before: str | None, after: str) -> None:
        step = judge(life.id, before, after)
        if step is Step.IMPOSSIBLE:
            raise self._broken(position, f"{life}: state", f"a step that {before} has", after)
        if step is Step.ODD:
            name = f"{before or 'begin'}→{after}"
            self.tale.oddities[name] = self.tale.oddities.get(name, 0) + 1
            self.tale.first_oddity = self.tale.first_oddity or f"{self._site}:{position}"

    def _finalize(self, life: Life, time: int, payload: dict[str, Any]) -> None:
        if life.kind != Kind.JOB:
            raise self._broken(life.position, f"{life}: finalize", "one of jobs alone", "one")
        if life.finalized:
            raise self._broken(life.position, f"{life}: finalize", "one at most", "a second")
        self.ended += life.ended is None
        life.finalize(time, payload.get("reason"), payload.get("exit_status"))
        # The row stays where it says itself that the job has ended: a site that keeps history.
        is_past = life.dated and life.standing[STATE] in _PAST
        if not is_past or life.reason == Reason.VANISHED:
            life.leave(time)
            self._due.append(life)

    def _leave(self, life: Life, time: int) -> None:
        if life.kind == Kind.JOB and not life.finalized:
            raise self._broken(life.position, f"{life}: purge", "a finalize before", "none")
        self.ended += life.ended is None
        life.leave(time)
        self._due.append(life)

    def _broken(self, position: int, what: str, expected: str, found: str) -> Broken:
        return Broken(Finding(self._site, position, what, expected, found))
