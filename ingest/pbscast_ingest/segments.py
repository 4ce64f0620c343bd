"""The rows of a page in order, cut where the log has to be asked before going on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbscast_ingest.translation import translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pbscast_ingest.pending import Pending
    from pbscast_ingest.rows import JournalRow
    from pbscast_store.drafts import Draft

GAP_OPS = ("G", "T")


@dataclass(slots=True)
class Segment:
    """Rows that were translated, and the one after them that needs more than itself."""

    drafts: list[Draft] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    last: JournalRow | None = None
    """The last row of the segment."""
    stop: JournalRow | None = None
    """A row not yet translated: a subjob that goes on, a gap marker, a TRUNCATE, a row that we
    cannot understand."""
    error: Exception | None = None
    """Why the row could not be translated."""


def cut(
    rows: Sequence[JournalRow],
    pending: Pending,
    site: str,
    now: datetime,
    corrections: Mapping[int, list[Draft]],
) -> Iterator[Segment]:
    """Translate rows into segments.

    The caller deals with each stop before it goes on. The next segment holds it only if it is the
    INSERT of a subjob that goes on. Corrections belong before the row of that seq.
    """
    segment = Segment()
    for row in rows:
        if pending:
            segment.drafts += pending.pass_row(row)
        segment.drafts += corrections.get(row.seq, ())
        if _must_stop(row, pending) or not _take(segment, row, pending, site, now):
            segment.stop = row
            yield segment
            is_settled = row.op != "I" or segment.error is not None
            segment = Segment()
            if is_settled:
                continue
        segment.seqs.append(row.seq)
        segment.last = row
    yield segment


def _must_stop(row: JournalRow, pending: Pending) -> bool:
    return row.op in GAP_OPS or (len(pending) > 0 and pending.continues(row))


def _take(segment: Segment, row: JournalRow, pending: Pending, site: str, now: datetime) -> bool:
    try:
        segment.drafts += _keep(translate(row, site), pending, now)
    except Exception as error:  # noqa: BLE001 - no row stops a site: the resync tells what it did
        segment.error = error
        return False
    return True


def _keep(drafts: list[Draft], pending: Pending, now: datetime) -> list[Draft]:
    if drafts and drafts[0].ends and pending.admit(drafts[0], now):
        return []
    return drafts
