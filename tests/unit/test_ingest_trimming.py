"""What is left to trim, against a plain set of rows."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from pbscast_ingest.cursor import Cursor, Hole
from pbscast_ingest.trimming import Untrimmed


def _inside(rows: set[int], ranges: tuple[list[int], list[int]]) -> list[int]:
    pairs = list(zip(*ranges, strict=True))
    return sorted(row for row in rows if any(low <= row <= high for low, high in pairs))


@given(data=st.data())
def test_all_that_was_read_is_trimmed_and_nothing_else(data: st.DataObject) -> None:
    rows, read, cursor, untrimmed = set(range(1, 60)), set[int](), Cursor(), Untrimmed()
    for _ in range(data.draw(st.integers(1, 8))):
        # Some rows beyond the top, and some of those that were passed over.
        late = {row for hole in cursor.holes for row in range(hole.low, hole.high + 1)}
        new = set(range(cursor.top + 1, min(59, cursor.top + 12) + 1))
        page = data.draw(st.sets(st.sampled_from(sorted(late | new)))) if late | new else set()
        cursor = cursor.advance(sorted(page), bound=9)
        read |= page
        for _ in range(data.draw(st.integers(0, 4))):
            limit = data.draw(st.integers(1, 5))
            gone = _inside(rows, untrimmed.of(cursor))[:limit]
            rows -= set(gone)
            untrimmed.pass_over(cursor, gone[-1] if len(gone) >= limit else None)
        assert rows >= {*range(1, 60)} - read | ({cursor.top} & read)
    while gone := _inside(rows, untrimmed.of(cursor)):
        rows -= set(gone)
        untrimmed.pass_over(cursor, None)
    assert rows == {*range(1, 60)} - read | ({cursor.top} & read)


def test_what_was_trimmed_above_a_hole_is_not_looked_through_again() -> None:
    cursor, untrimmed = Cursor(top=5000, holes=(Hole(10, 11, 7),)), Untrimmed()
    assert untrimmed.of(cursor) == ([0, 12], [9, 4999])
    untrimmed.pass_over(cursor, 1009)
    assert untrimmed.of(cursor) == ([1010], [4999])
    untrimmed.pass_over(cursor, None)
    assert untrimmed.of(Cursor(top=5001)) == ([10, 5000], [11, 5000])
