"""What the log says of a site, beside what the journal holds: pure judgement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pbscast_ingest.capture.findings import ago
from pbscast_ingest.capture.report import Finding, Verdict, ok, warn
from pbscast_ingest.cursor import Cursor, witness

if TYPE_CHECKING:
    from datetime import datetime

    from pbscast_store.records import SiteRow

_LAGGING: Final = 60.0
"""Seconds that the log may be behind without a word of warning."""


class Lag(NamedTuple):
    """Answer of ``check/lag.sql``."""

    rows: int
    oldest_seconds: float | None
    witness_xid: int | None
    witness_at: datetime | None


def log(site: str, identity: str, row: SiteRow | None, now: datetime) -> Finding:
    """How far the log is, who writes it, and what it thinks of the site."""
    if row is None or not row.cursor:
        text, advice = f"knows nothing of {site} yet", "is it in the configuration of a pbscastd?"
        return warn("log", text, advice)
    text = f"{row.position} events, the last {ago((now - row.logged).total_seconds())}"
    cursor = Cursor.load(row.cursor)
    if cursor.journal != identity:
        text += f"; it has read another journal, {cursor.journal or 'none'}"
        return warn("log", text, "pbscastd tells a gap when it connects: is it running?")
    left = (row.lease_expires - now).total_seconds() if row.lease_expires else 0.0
    if row.holder is None or left <= 0:
        return warn("log", f"{text}; nobody holds the site", "is pbscastd running?")
    text += f"; {row.holder} holds the site for {left:.0f} s more"
    return _opinion(text, cursor)


def _opinion(text: str, cursor: Cursor) -> Finding:
    if cursor.blind:
        text += f"; changes are not journaled: {cursor.blind}"
        return Finding("log", Verdict.FAIL, text, "triggers, switch and journal, above, tell why")
    if cursor.due:
        text += f"; a resync is due: {cursor.due.get('cause')}"
        return warn("log", text, "pbscastd makes it as soon as it can")
    if cursor.up is False:
        return warn("log", f"{text}; its last word on the site is down", "see pbscastd's own log")
    return ok("log", text)


def lag(before: Cursor, after: Cursor, found: Lag) -> Finding:
    """How far the log is behind the journal that it reads.

    The journal was looked at with the one cursor, the other was the log's afterwards: the last row
    read is gone for good reason once another is.
    """
    is_same = before.top == after.top
    if before.top and is_same and not _is_witnessed(before, found):
        text = "the last row that the log has read is gone: rows were deleted, or a backup restored"
        return warn("lag", text, "pbscastd answers with a gap and a resync: is it running?")
    if not found.rows:
        return ok("lag", "none: the log has all that the journal holds")
    oldest = found.oldest_seconds or 0.0
    text = f"{found.rows} rows are not in the log yet, the oldest written {ago(oldest)}"
    if oldest > _LAGGING:
        return warn("lag", text, "does pbscastd run, and keep up? see its own log")
    return ok("lag", text)


def _is_witnessed(cursor: Cursor, found: Lag) -> bool:
    if found.witness_xid is None or found.witness_at is None:
        return False
    return witness(found.witness_xid, found.witness_at) == cursor.witness
