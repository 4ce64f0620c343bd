"""The rows of a page in order, cut where the log has to be asked before going on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbscast_ingest.faults import UnreadableRowError
from pbscast_ingest.rows import UNREAD
from pbscast_ingest.translation import translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pbscast_ingest.pending import Pending
    from pbscast_ingest.rows import JournalRow
    from pbscast_ingest.subjobs import Subjobs
    from pbscast_store.drafts import Draft

GAP_OPS = ("G", "T")

KEYS: Final = {
    "job": "ji_jobid",
    "queue": "qu_name",
    "node": "nd_name",
    "resv": "ri_resvid",
    "scheduler": "sched_name",
}
"""The column that names an object of a table."""


class RenamedError(Exception):
    """An UPDATE, by hand, gave an object another name: only the tables tell what is left."""


@dataclass(slots=True)
class Segment:
    """Rows that were translated, and the one after them that needs more than itself."""

    drafts: list[Draft] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    last: JournalRow | None = None
    """The last row of the segment."""
    stop: JournalRow | None = None
    """A row not yet translated: a gap marker, a TRUNCATE, a row that we cannot understand."""
    error: Exception | None = None
    """Why the row could not be translated."""


def cut(
    rows: Sequence[JournalRow],
    pending: Pending,
    site: str,
    now: datetime,
    corrections: Mapping[int, list[Draft]],
    subjobs: Subjobs,
) -> Iterator[Segment]:
    """Translate rows into segments.

    The caller deals with each stop before it goes on. Corrections belong before the row of that
    seq; subjobs has those that may go on.
    """
    segment = Segment()
    for row in rows:
        if pending:
            _tell(segment, pending.pass_row(row), subjobs)
        _tell(segment, corrections.get(row.seq, ()), subjobs)
        if row.op in GAP_OPS or not _take(segment, row, pending, site, now, subjobs):
            segment.stop = row
            yield segment
            segment = Segment()
            continue
        segment.seqs.append(row.seq)
        segment.last = row
    yield segment


def _tell(segment: Segment, drafts: Sequence[Draft], subjobs: Subjobs) -> None:
    segment.drafts += drafts
    subjobs.follow(drafts)


def _take(
    segment: Segment,
    row: JournalRow,
    pending: Pending,
    site: str,
    now: datetime,
    subjobs: Subjobs,
) -> bool:
    try:
        drafts = _translate(row, pending, site, subjobs)
        _tell(segment, _keep(drafts, pending, now), subjobs)
    except Exception as error:  # noqa: BLE001 - no row stops a site: the resync tells what it did
        segment.error = error
        return False
    return True


def _translate(row: JournalRow, pending: Pending, site: str, subjobs: Subjobs) -> list[Draft]:
    if row.op == UNREAD:
        raise UnreadableRowError(row.context["why"])
    if row.op == "U" and KEYS.get(row.kind) in row.columns:
        raise RenamedError(f"{row.kind} {row.before.get(KEYS[row.kind])} was renamed {row.key}")
    if not pending or not pending.continues(row):
        return translate(row, site)
    pending.resume(row.key)
    return subjobs.go_on(row, site)


def _keep(drafts: list[Draft], pending: Pending, now: datetime) -> list[Draft]:
    if drafts and drafts[0].ends and pending.admit(drafts[0], now):
        return []
    return drafts
