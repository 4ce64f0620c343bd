"""Tells silence from death: heartbeats that are written must come out of the journal. Pure.

Silence may be peace, or a reader that is shown nothing: by a policy on the journal, by connections
of which one reads one server and one writes another, by a function that is gone. So a heartbeat is
written now and then, and awaited. One that never comes while later rows do, is worse: somebody
deletes rows from the journal before they are read, and nobody can say which.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast_ingest.cursor import Cursor

LIMIT: Final = 3
"""Heartbeats in a row that may fail to come through before the silence is a fault."""

_MOST_AWAITED: Final = 100


class Watchdog:
    """Follows the heartbeats of one site's worker through all its sessions."""

    def __init__(self) -> None:
        self.silence = ""
        """Why nobody can say that the site is well; empty once a heartbeat has come through."""
        self._awaited: list[int] = []
        self._came: deque[int] = deque(maxlen=16)
        """The last that were read: one may come before its writer has its answer."""
        self._missed = 0
        self._is_at_end = False

    @property
    def is_due(self) -> bool:
        """Whether the silence has lasted too long for this session."""
        return self._missed >= LIMIT

    @property
    def awaits(self) -> bool:
        """Whether a heartbeat was written that was not heard."""
        return bool(self._awaited)

    def begin(self) -> None:
        """Begin a session, which gets as long as the one before it."""
        self._missed = 0

    def forget(self) -> None:
        """Await nothing: what was written before has gone with its journal."""
        self._awaited.clear()
        self._came.clear()

    def write(self, seq: int | None) -> None:
        """Await the heartbeat of this seq, just written; None: the journal had no room for it."""
        if seq is None:
            self.fail("the journal has no room")
            return
        if self._awaited and self._is_at_end:
            self.fail("they are written and not found")
        self._is_at_end = False
        if seq not in self._came and len(self._awaited) < _MOST_AWAITED:
            self._awaited.append(seq)

    def fail(self, trouble: str) -> None:
        """Count a heartbeat that could not be written, or is not found."""
        self._missed += 1
        if self.is_due:
            self.silence = f"no heartbeat comes through the journal: {trouble}"

    def hear(self, seqs: Sequence[int]) -> None:
        """Take note of the heartbeats that were read."""
        if not seqs:
            return
        self._came.extend(seqs)
        self.silence, self._missed = "", 0
        came = set(seqs)
        self._awaited = [seq for seq in self._awaited if seq not in came]

    def miss(self, cursor: Cursor, *, is_end: bool) -> bool:
        """Whether one awaited was deleted: the cursor has passed it and it was not heard.

        At the end means that there was nothing more to read.
        """
        self._is_at_end = self._is_at_end or is_end
        still = [seq for seq in self._awaited if not cursor.has_passed(seq)]
        missed = len(still) < len(self._awaited)
        self._awaited = still
        return missed
