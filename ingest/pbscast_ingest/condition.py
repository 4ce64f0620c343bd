"""Whether capture works, and what the log is told of it: pure.

``down``, ``gap`` and ``up`` are decided here and nowhere else, but for a datastore that is gone.
The signs are markers in the journal, the count of saves that could not be journaled, heartbeats
that were deleted, and looks at the triggers. What is known of a period without capture stands in
the cursor: ``blind``, its cause; ``seen``, since when; ``until``, when it seems to have ended.

A pause and missing triggers end with their marker. Losses end when none was counted for a while:
the count moves with each of them, so their markers only tell when they began and ended. A marker
says by itself that something was lost only where the count did not move: ``mute`` and ``point``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pbscast.events import EventName, GapPayload, Kind, LivenessPayload, Provenance
from pbscast_store.drafts import Draft

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbscast.events import Payload
    from pbscast_ingest.cursor import Cursor
    from pbscast_ingest.reader import Health, Page
    from pbscast_ingest.rows import JournalRow
    from pbscast_ingest.watchdog import Watchdog

QUIET_SECONDS: Final = 3.0
"""Losses are over when there was no sign of one for so long."""

LOST: Final = "changes could not be journaled"
DELETED: Final = "rows were deleted from the journal before they were read"
CHANGED: Final = "triggers or functions of capture were changed"
TRUNCATED: Final = "tables of PBS were truncated"

_LOSSES: Final = frozenset({"lock", "error", "full", LOST, DELETED})
_PAUSES: Final = frozenset({"pause", "paused"})


class Word(NamedTuple):
    """What is to be logged, together with the cursor that knows it."""

    cursor: Cursor
    drafts: list[Draft]
    is_doubt: bool = False
    """Whether objects may have come and gone unseen before the next row."""


class Condition:
    """The condition of one site's capture."""

    def __init__(
        self, site: str, watchdog: Watchdog, clock: Callable[[], float] = monotonic
    ) -> None:
        self._site = site
        self._watchdog = watchdog
        self._clock = clock
        self._lost_at = clock() - QUIET_SECONDS
        self._counted: datetime | None = None
        self._remade_at: datetime | None = None
        self._emptied_by = 0

    def count(self, cursor: Cursor, page: Page) -> Word:
        """Compare the count of losses with the one known; before the rows of the page are taken.

        What was lost before one of its rows was committed is in the page's count.
        """
        self._counted = None
        if page.lost == cursor.lost:
            return Word(cursor, [])
        self._counted = page.now
        return self.lose(replace(cursor, lost=page.lost), LOST)

    def lose(self, cursor: Cursor, cause: str, since: datetime | None = None) -> Word:
        """Changes were lost; whether that is over time will tell, whatever else may end before."""
        self._lost_at = self._clock()
        word = self._darken(replace(cursor, until=""), cause, since)
        blind = cursor.blind if cursor.blind in _LOSSES else cause
        return word._replace(cursor=replace(word.cursor, blind=blind))

    def _darken(self, cursor: Cursor, cause: str, since: datetime | None) -> Word:
        drafts = falling(cursor, self._site, cause)
        if since and cursor.blind:
            since = min(since, moment(cursor.seen) or since)
        changes: dict[str, Any] = {"seen": since.isoformat()} if since else {}
        if drafts:
            changes["up"] = False
        blind = cursor.blind or cause
        return Word(replace(cursor, blind=blind, **changes), drafts, is_doubt=True)

    def mark(self, cursor: Cursor, row: JournalRow) -> Word:
        """Read a gap marker."""
        phase, since = row.context.get("phase"), _since(row)
        if row.key in _LOSSES:
            return self._mark_loss(cursor, row, phase, since)
        if phase == "begin":
            return self._darken(replace(cursor, until=""), row.key, since)
        if cursor.blind in _LOSSES or _is_another(cursor, row):
            # Something else is the matter: told as one gap, when that is over as well.
            until = row.at.isoformat() if cursor.blind in _LOSSES else ""
            cursor = replace(cursor, seen=_earliest(cursor, since), until=until)
            return Word(cursor, [], is_doubt=True)
        begin = moment(_earliest(cursor, since))
        if row.key == "triggers":
            # It tells of a change of shape; a look from before does not know it.
            begin = min(at for at in (begin, moment(cursor.shaped)) if at)
            self._remade_at, cursor = row.at, replace(cursor, shape="")
        return self.gap(cursor, row.key, begin, row.at, is_over=True)

    def _mark_loss(
        self, cursor: Cursor, row: JournalRow, phase: str | None, since: datetime
    ) -> Word:
        if phase == "begin":
            return self.lose(cursor, row.key, since)
        word = Word(cursor, [])
        if phase == "point" or row.context.get("mute"):
            word = self.lose(cursor, row.key, since)
        elif cursor.blind in _LOSSES:
            word = Word(replace(cursor, seen=_earliest(cursor, since)), [], is_doubt=True)
        if word.cursor.blind not in _LOSSES:
            return word
        until = max(row.at, self._counted or row.at)
        return word._replace(cursor=replace(word.cursor, until=until.isoformat()))

    def truncate(self, cursor: Cursor, row: JournalRow) -> Word:
        """Read that a table was emptied: one statement empties all, and leaves a row for each."""
        if row.xid == self._emptied_by and cursor.due is not None:
            return Word(cursor, [], is_doubt=True)
        self._emptied_by = row.xid
        return self.gap(cursor, TRUNCATED, row.at, row.at)

    def look(self, cursor: Cursor, health: Health, *, is_read: bool) -> Word:
        """Conclude from a look at the datastore; is_read: what its journal held then is read."""
        trouble = "; ".join(health.defects) or ("paused" if health.paused else "")
        is_changed = cursor.shape not in ("", health.shape, health.replaced)
        if is_changed:
            # Whatever else was the matter since: that may have been before.
            known = [at for at in (moment(cursor.seen), moment(cursor.shaped)) if at]
            cursor = replace(cursor, seen=min(known).isoformat() if known else "")
        word = Word(cursor, [])
        if trouble and not cursor.blind:
            word = self._darken(cursor, trouble, None)
        elif trouble:
            word = Word(replace(cursor, until=""), [])
        elif cursor.blind and is_read and self._is_quiet(health):
            begin, end = moment(cursor.seen), moment(cursor.until)
            end = health.now if is_changed or end is None else end
            word = self.gap(cursor, cursor.blind, begin, end, is_over=True)
        elif is_read and is_changed and not cursor.blind:
            word = self.gap(cursor, CHANGED, moment(cursor.seen), health.now)
        return self._conclude(self._shape(word, health), health)

    def _shape(self, word: Word, health: Health) -> Word:
        """Take note of what capture looks like, once what is known of that has been told."""
        now = health.now.isoformat()
        if word.cursor.shape and word.cursor.shape in (health.shape, health.replaced):
            return word._replace(cursor=replace(word.cursor, shape=health.shape, shaped=now))
        if word.cursor.blind or (word.cursor.shape and not word.is_doubt):
            return word
        if self._remade_at and health.now <= self._remade_at:
            return word
        return word._replace(cursor=replace(word.cursor, shape=health.shape, shaped=now))

    def _is_quiet(self, health: Health) -> bool:
        return not health.is_full and self._clock() - self._lost_at >= QUIET_SECONDS

    def _conclude(self, word: Word, health: Health) -> Word:
        cursor, drafts, _ = word
        if self._watchdog.silence:
            fallen = falling(cursor, self._site, self._watchdog.silence)
            return word._replace(
                drafts=drafts + fallen, cursor=replace(cursor, up=False) if fallen else cursor
            )
        # The first look of a connection may know of losses that only the next page tells of.
        if cursor.blind or cursor.lost != health.lost:
            return word
        cursor = replace(cursor, seen=health.now.isoformat())
        # After a fault in a resync the site is up once that is done.
        if cursor.up is None or cursor.due is None:
            risen = self.rise(cursor, health.now)
            return word._replace(drafts=drafts + risen.drafts, cursor=risen.cursor)
        return word._replace(cursor=cursor)

    def rise(self, cursor: Cursor, now: datetime) -> Word:
        """Say that the site is up, unless it is not, or that was the last word."""
        if cursor.up is True or cursor.blind or self._watchdog.silence:
            return Word(cursor, [])
        draft = tell(self._site, EventName.UP, LivenessPayload(), now)
        return Word(replace(cursor, up=True), [draft])

    def gap(
        self,
        cursor: Cursor,
        cause: str,
        begin: datetime | None,
        end: datetime,
        *,
        is_over: bool = False,
        old: int | None = None,
    ) -> Word:
        """Tell of a gap that has ended; a resync is due now.

        Is_over: capture works again, as far as the journal tells. Old: rows up to this seq were
        told before; None: as it was.
        """
        if old is None:
            old = (cursor.due or {}).get("old", 0)
        changes: dict[str, Any] = {"due": {"cause": cause, "old": old}}
        if is_over:
            changes |= {"blind": "", "until": ""}
        draft = tell(self._site, EventName.GAP, GapPayload(begin=begin, end=end, cause=cause), end)
        risen = self.rise(replace(cursor, **changes), end)
        return Word(risen.cursor, [draft, *risen.drafts], is_doubt=True)


def falling(cursor: Cursor, site: str, cause: str) -> list[Draft]:
    """Return the event that the site is down, unless that was the last word."""
    if cursor.up is not True:
        return []
    return [tell(site, EventName.DOWN, LivenessPayload(cause=cause))]


def tell(site: str, event: EventName, payload: Payload, time: datetime | None = None) -> Draft:
    """Return an event about the site itself."""
    return Draft(
        kind=Kind.SITE,
        id=site,
        event=event,
        time=time or datetime.now(UTC),
        provenance=Provenance.RESYNC if event is EventName.RESYNC else Provenance.JOURNAL,
        payload=payload,
    )


def moment(text: str | None) -> datetime | None:
    """Return a moment that stands in a cursor or a marker; None if there is none."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _is_another(cursor: Cursor, row: JournalRow) -> bool:
    """Whether the marker of an end is not that of what the site is blind by."""
    return bool(cursor.blind) and (row.key == "pause") != (cursor.blind in _PAUSES)


def _since(row: JournalRow) -> datetime:
    return moment(row.context.get("since")) or row.at


def _earliest(cursor: Cursor, since: datetime) -> str:
    """The marker of an end knows no more than itself; the gap is as old as what began it."""
    seen = moment(cursor.seen) if cursor.blind else None
    return (min(since, seen) if seen else since).isoformat()
