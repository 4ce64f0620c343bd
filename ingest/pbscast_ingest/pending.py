"""Deletes of subjobs that may go on: a pure state machine.

PBS deletes the row of a requeued subjob and inserts it anew when it runs again, one statement after
the other; on a site without history the same DELETE is the subjob's end. So its finalize waits for
what PBS saves next. PBS saves over one connection and awaits each commit, so between the two rows
may lie as long as a commit takes: the first row of a PBS table that is later than WINDOW decides,
the INSERT itself included. Where nothing is saved, LAST_WINDOW on the datastore's clock does. What
waits is part of the cursor: a crash loses nothing, and the cut of rows into pages makes no
difference.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pbscast.events import EventName, FinalizePayload, Kind, Provenance
from pbscast.ids import split_subjob
from pbscast_store.drafts import Draft

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pbscast_ingest.rows import JournalRow

WINDOW: Final = timedelta(milliseconds=100)
"""Other rows within this of the DELETE, by the datastore's clock, decide nothing."""

LAST_WINDOW: Final = timedelta(seconds=2)
"""How much later than the DELETE the INSERT of a subjob that goes on may be."""


class Waiting(NamedTuple):
    """A finalize that waits."""

    finalize: Draft
    since: datetime
    """The reader's look at the datastore's clock with which the DELETE was read."""


class Pending:
    """The subjobs whose DELETE was read and whose fate is open."""

    def __init__(self, waiting: Mapping[str, Any] | None = None) -> None:
        self._waiting = {name: _load(name, values) for name, values in (waiting or {}).items()}

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, finalize: Draft, now: datetime) -> bool:
        """Keep the finalize that a DELETE gave if it is a subjob's; say whether it was."""
        if finalize.event is not EventName.FINALIZE or split_subjob(finalize.id)[1] is None:
            return False
        self._waiting[finalize.id] = Waiting(finalize, now)
        return True

    def pass_row(self, row: JournalRow) -> list[Draft]:
        """Return, oldest first, the finalizes that a row leaves no hope."""
        window = WINDOW if row.op in "IUD" else LAST_WINDOW
        is_change = row.op in "UD" and row.kind == Kind.JOB
        return self._release(
            name
            for name, item in self._waiting.items()
            if row.at - item.finalize.time
            > (LAST_WINDOW if self.continues(row) and row.key == name else window)
            # Its INSERT was missed: who knows when it was.
            or (is_change and row.key == name)
        )

    def pass_time(self, now: datetime) -> list[Draft]:
        """Return, oldest first, the finalizes that waited long enough by a later look at the clock.

        To be called when there was nothing more to read.
        """
        return self._release(
            name for name, item in self._waiting.items() if now - item.since > LAST_WINDOW
        )

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._waiting

    def give_up(self) -> list[Draft]:
        """Return all the finalizes that wait, oldest first: nothing more will follow."""
        return self._release(self._waiting)

    def end(self, job_id: str) -> list[Draft]:
        """Return the finalize of a subjob if it waits: its row was made anew, nobody knows when."""
        return self._release([job_id] if job_id in self._waiting else [])

    def continues(self, row: JournalRow) -> bool:
        """Whether this row is the INSERT that a DELETE waits for; call after pass_row."""
        return row.op == "I" and row.kind == Kind.JOB and row.key in self._waiting

    def resume(self, job_id: str) -> None:
        """The subjob goes on: its DELETE was no end."""
        del self._waiting[job_id]

    def _release(self, names: Iterable[str]) -> list[Draft]:
        return [self._waiting.pop(name).finalize for name in list(names)]

    def dump(self) -> dict[str, Any]:
        """Return what waits as JSON values."""
        return {name: _dump(item) for name, item in self._waiting.items()}


def _dump(item: Waiting) -> dict[str, Any]:
    draft = item.finalize
    return {
        "at": draft.time.isoformat(),
        "since": item.since.isoformat(),
        "born": draft.born,
        "payload": draft.payload.model_dump(mode="json", exclude_defaults=True),
    }


def _load(name: str, values: Mapping[str, Any]) -> Waiting:
    finalize = Draft(
        kind=Kind.JOB,
        id=name,
        event=EventName.FINALIZE,
        time=datetime.fromisoformat(values["at"]),
        provenance=Provenance.JOURNAL,
        payload=FinalizePayload.model_validate(values["payload"]),
        born=values["born"],
        ends=True,
    )
    return Waiting(finalize, datetime.fromisoformat(values["since"]))
