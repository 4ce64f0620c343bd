"""How far a journal has been read: pure algebra, kept in the log together with the events.

Why nothing can be skipped and nothing be read twice
====================================================

A journal row is *read* once it has been handed on. The cursor knows exactly which rows were read:
all that were ever visible up to ``top`` except those in ``holes``, and none beyond. A page is one
statement, hence one snapshot, and takes in seq order every visible row that lies in a hole or
beyond ``top``: rows visible now and not before. That is the snapshot difference, remembered by seq.
(Remembered by the text of the last snapshot it would be wrong after a crash: PostgreSQL then gives
out again the ids of transactions that had rolled back without a flush, and the old snapshot calls
those finished.)

* Order. A row's seq is drawn while the lock on its object's row is held, so for one object the
  order of seq is the order of commits. If b follows a on one object and b is visible, so is a, and
  a page that takes b has taken a before it or takes it first.
* Holes. A seq below ``top`` that was not visible belongs to a transaction that rolled back or has
  yet to commit. Its transaction drew its id before the seq, and the seq was drawn before a higher
  one became visible. So an id drawn after the page's snapshot was taken is above it: that is the
  hole's ``bound``. (The snapshot's own ``xmax`` is not: it is one more than the latest id that has
  *ended*, and a transaction that still runs may have a higher one.) A snapshot's ``xmin`` is at
  most its ``xmax`` and at most each running id below that. So once an ``xmin`` has come to the
  bound, no id below the bound runs: the page under that snapshot has taken the row, or there is
  none, and the hole is forgotten. The bound's own transaction ends at once, so this comes to pass.
* Crash of the datastore. ``top`` is the seq of a committed row, whose commit flushed the sequence
  as well: no seq up to ``top`` is given out again. A transaction of a hole died with the server;
  forgetting its hole at any time is right.
* Crash of ours. The cursor moves in the transaction that logs the events, so both happened or
  neither.
* Restored datastore. The row ``top`` is never trimmed: it is the witness. If it is gone or differs,
  the journal is not the one that was read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Hole(NamedTuple):
    """Sequence numbers ``low`` to ``high`` that were passed over while they were not visible."""

    low: int
    high: int
    bound: int
    """Transactions that may still fill it have ids below this."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a site's journal. Everything a worker needs to go on after another one died."""

    journal: str = ""
    """Identity of the journal: system identifier and installation, empty before first contact."""
    top: int = 0
    """The highest seq that was read, 0 before the first."""
    witness: str = ""
    """What tells the row ``top`` from any other of the same seq."""
    holes: tuple[Hole, ...] = ()
    """Ascending, disjoint, all below ``top``."""
    lost: int = 0
    """Value of the datastore's sequence that moves with each loss, as far as answered."""
    seen: str = ""
    """Datastore clock when capture was last known to work, ISO 8601."""
    blind: str = ""
    """Why changes are not being journaled; empty while they are."""
    until: str = ""
    """Datastore clock when losses that are not yet told seem to have ended, if that is known."""
    shape: str = ""
    """What capture's triggers and functions looked like when it was last known to work."""
    shaped: str = ""
    """Datastore clock when they were last seen to look so, ISO 8601."""
    due: Mapping[str, Any] | None = None
    """The resync to be made: its ``cause``; ``old``: rows up to this seq were told before."""
    up: bool | None = None
    """Whether the last word on the site was ``up``; None before the first."""
    waiting: Mapping[str, Any] = field(default_factory=dict)
    """Deletes of subjobs that wait for what follows; see pending."""

    def advance(self, seqs: Iterable[int], bound: int | None) -> Cursor:
        """Return the cursor after rows were read, given in ascending order.

        The bound is a transaction id drawn after their snapshot; None if they leave no new hole.
        """
        top, holes = self.top, list(self.holes)
        for seq in seqs:
            if seq > top:
                if seq > top + 1:
                    if bound is None:
                        raise ValueError(f"no bound for the hole below row {seq}")
                    holes.append(Hole(top + 1, seq - 1, bound))
                top = seq
            else:
                holes = _fill(holes, seq)
        return replace(self, top=top, holes=tuple(holes))

    def settle(self, xmin: int, last: int | None = None) -> Cursor:
        """Forget the holes that nobody can fill, after a page that took all there was in them.

        The last row of a page that had to end: it took all there was up to that. None: it did not.
        """
        end = self.top if last is None else last
        holes = tuple(hole for hole in self.holes if hole.bound > xmin or hole.high > end)
        return self if holes == self.holes else replace(self, holes=holes)

    def has_passed(self, seq: int) -> bool:
        """Whether nobody will read this row any more, was it read or not there."""
        return seq <= self.top and not any(hole.low <= seq <= hole.high for hole in self.holes)

    @property
    def passed_over(self) -> dict[str, list[int]]:
        """The holes as arguments of a statement: ``lows`` and ``highs``."""
        return {
            "lows": [hole.low for hole in self.holes],
            "highs": [hole.high for hole in self.holes],
        }

    @property
    def floor(self) -> int:
        """Rows below this are read and need no witness, all of them."""
        return min(self.top, self.holes[0].low) if self.holes else self.top

    def dump(self) -> dict[str, object]:
        """Return the cursor as JSON values; load gives it back."""
        return {
            "journal": self.journal,
            "top": self.top,
            "witness": self.witness,
            "holes": [list(hole) for hole in self.holes],
            "lost": self.lost,
            "seen": self.seen,
            "blind": self.blind,
            "until": self.until,
            "shape": self.shape,
            "shaped": self.shaped,
            "due": self.due and dict(self.due),
            "up": self.up,
            "waiting": dict(self.waiting),
        }

    @classmethod
    def load(cls, values: Mapping[str, Any] | None) -> Cursor:
        """Undo dump; None is the cursor of a site that was never read."""
        if values is None:
            return cls()
        known = {name: values[name] for name in cls.__slots__ if name in values}
        holes = tuple(Hole(*hole) for hole in known.pop("holes", ()))
        return cls(**known, holes=holes)


def witness(xid: int, at: datetime) -> str:
    """Return what tells a row from any other that may ever have had its seq."""
    return f"{xid}@{at.astimezone(UTC).isoformat()}"


def _fill(holes: list[Hole], seq: int) -> list[Hole]:
    place = next((i for i, hole in enumerate(holes) if hole.low <= seq <= hole.high), None)
    if place is None:
        return holes
    low, high, bound = holes[place]
    parts = [Hole(low, seq - 1, bound), Hole(seq + 1, high, bound)]
    return [*holes[:place], *(part for part in parts if part.low <= part.high), *holes[place + 1 :]]
