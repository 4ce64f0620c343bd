"""The cursor against a model of PostgreSQL: transactions draw numbers, end, and crash."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pbscast_ingest.cursor import Cursor, Hole


class Journal(RuleBasedStateMachine):
    """Every committed row is read exactly once; rows of one writer in order."""

    def __init__(self) -> None:
        super().__init__()
        self.next_xid, self.next_seq = 100, 1
        self.latest_ended = 99
        self.open: dict[int, list[int]] = {}
        self.committed: set[int] = set()
        self.read: list[int] = []
        self.cursor = Cursor(journal="j")

    @rule()
    def begin(self) -> None:
        self.open[self.next_xid] = []
        self.next_xid += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.integers(1, 4))
    def write(self, data: st.DataObject, count: int) -> None:
        xid = data.draw(st.sampled_from(sorted(self.open)))
        self.open[xid] += range(self.next_seq, self.next_seq + count)
        self.next_seq += count

    @precondition(lambda self: self.open)
    @rule(data=st.data(), keep=st.booleans())
    def end(self, data: st.DataObject, keep: bool) -> None:  # noqa: FBT001
        xid = data.draw(st.sampled_from(sorted(self.open)))
        seqs = self.open.pop(xid)
        self.latest_ended = max(self.latest_ended, xid)
        if keep:
            self.committed.update(seqs)

    @rule(ids=st.integers(0, 3), numbers=st.integers(0, 40))
    def crash(self, ids: int, numbers: int) -> None:
        """Ids of what was not flushed are given out again; seqs up to the last commit are not."""
        self.open.clear()
        self.next_xid = max(100, self.next_xid - ids)
        self.latest_ended = self.next_xid - 1
        self.next_seq = max([1, self.next_seq - numbers, *(seq + 1 for seq in self.committed)])

    @rule(limit=st.integers(1, 5))
    def take_page(self, limit: int) -> None:
        unread = [seq for seq in sorted(self.committed) if self._is_unread(seq)]
        page = unread[:limit]
        self.read += page
        xmax = self.latest_ended + 1
        xmin = min([xmax, *(xid for xid in self.open if xid < xmax)])
        self.cursor = self.cursor.advance(page, self._draw_bound())
        if len(page) < limit:
            self.cursor = self.cursor.settle(xmin)
        elif page:
            self.cursor = self.cursor.settle(xmin, page[-1])

    def _draw_bound(self) -> int:
        bound = self.latest_ended = self.next_xid
        self.next_xid += 1
        return bound

    @rule()
    def restart(self) -> None:
        self.cursor = Cursor.load(self.cursor.dump())

    @invariant()
    def nothing_is_read_twice(self) -> None:
        assert len(self.read) == len(set(self.read))

    @invariant()
    def nothing_is_skipped(self) -> None:
        unread = self.committed.difference(self.read)
        assert all(self._is_unread(seq) for seq in unread)

    @invariant()
    def what_may_be_trimmed_was_read(self) -> None:
        below = {seq for seq in self.committed if seq < self.cursor.floor}
        assert below <= set(self.read)
        still_open = {seq for seqs in self.open.values() for seq in seqs}
        assert not any(seq < self.cursor.floor for seq in still_open)

    def _is_unread(self, seq: int) -> bool:
        in_hole = any(hole.low <= seq <= hole.high for hole in self.cursor.holes)
        return seq > self.cursor.top or in_hole


Journal.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCursor = Journal.TestCase


def test_a_page_that_had_to_end_settles_what_it_reached() -> None:
    cursor = Cursor().advance([5, 9], 10).advance([2], None)
    assert cursor.holes == (Hole(1, 1, 10), Hole(3, 4, 10), Hole(6, 8, 10))
    assert cursor.settle(9, 5) is cursor
    assert cursor.settle(10, 2).holes == (Hole(3, 4, 10), Hole(6, 8, 10))
    assert cursor.settle(10, 5).holes == (Hole(6, 8, 10),)
    assert cursor.settle(10).holes == ()
