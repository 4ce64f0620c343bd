"""Any order of signs: down and up take turns, each loss lies in a gap, and none is told twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
from harness.journal import START, journal_row
from hypothesis import given, settings

from pbscast.events import EventName, GapPayload
from pbscast_ingest.condition import QUIET_SECONDS, Condition, Word
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.reader import Health, Page
from pbscast_ingest.rows import JournalRow
from pbscast_ingest.watchdog import LIMIT, Watchdog
from pbscast_store.drafts import Draft

SIGNS = (
    *("loss", "mute", "full", "pause", "truncate", "silence", "beat", "calm", "look", "glance"),
    *("resync", "touch", "damage", "upgrade", "reconnect"),
)
signs = st.lists(st.tuples(st.sampled_from(SIGNS), st.integers(1, 2000)), max_size=20)


class Site:
    """A datastore whose troubles are known, and what is told of them."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.watchdog = Watchdog()
        self.condition = Condition("s", self.watchdog, lambda: self.clock)
        self.cursor = Cursor()
        self.told: list[Draft] = []
        self.lost = self.seq = self.touches = self.touched = 0
        self.left = self.replaced = ""
        self.paused = self.full = self.damaged = False
        self.losses: list[float] = []

    def live(self, sign: str, later: int) -> None:
        self.clock += later / 1000
        getattr(self, f"_{sign}")()

    def calm_down(self) -> None:
        """All troubles end, and that is seen."""
        self._beat()
        if self.paused:
            self._pause()
        if self.full:
            self._full()
        if self.damaged:
            self._damage()
        self.clock += QUIET_SECONDS + 1
        self._look()
        self._resync()
        self._look()

    def _say(self, word: Word) -> None:
        self.cursor = word.cursor
        self.told += word.drafts

    def _page(self) -> None:
        now = START + timedelta(seconds=self.clock)
        page = Page([], xmin=1, bound=None, now=now, lost=self.lost, more=False, is_cut=False)
        self._say(self.condition.count(self.cursor, page))

    def _mark(self, cause: str, phase: str, **details: str) -> None:
        self._page()
        self._say(self.condition.mark(self.cursor, self._row("G", cause, phase=phase, **details)))

    def _row(self, op: str, key: str = "", **context: str) -> JournalRow:
        self.seq += 1
        at = START + timedelta(seconds=self.clock)
        return journal_row(self.seq, op, "", key, at=at, context=context)

    def _loss(self) -> None:
        self.losses.append(self.clock)
        self.lost += 1
        since = START + timedelta(seconds=self.clock)
        self.clock += 1
        self._mark("lock", "end", since=since.isoformat())

    def _mute(self) -> None:
        self.losses.append(self.clock)
        since = START + timedelta(seconds=self.clock)
        self.clock += 1
        self._mark("lock", "end", since=since.isoformat(), mute="true")

    def _full(self) -> None:
        self.full = not self.full
        self.losses.append(self.clock)
        self.lost += 1
        self._mark("full", "begin" if self.full else "end")

    def _pause(self) -> None:
        self.paused = not self.paused
        self.losses.append(self.clock)
        self._mark("pause", "begin" if self.paused else "end")

    def _truncate(self) -> None:
        self._page()
        self._say(self.condition.truncate(self.cursor, self._row("T")))

    def _silence(self) -> None:
        for _ in range(LIMIT):
            self.watchdog.write(None)

    def _beat(self) -> None:
        self.seq += 1
        self.watchdog.hear([self.seq])

    def _calm(self) -> None:
        self.clock += QUIET_SECONDS

    def _touch(self) -> None:
        """A trigger is disabled and enabled again; maybe nobody looks meanwhile."""
        self._damage()
        self.clock += 0.1
        self._damage()

    def _damage(self) -> None:
        self.damaged = not self.damaged
        self.losses.append(self.clock)
        self.touches += 1
        self.touched = self.touches

    @property
    def shape(self) -> str:
        """What an installation makes of it is the same again, but for what it found."""
        return f"{self.touched}/{hash(self.replaced)}"

    def _upgrade(self) -> None:
        """It mends what it finds, and says so; where there is nothing to mend, nothing is lost."""
        found, was_damaged = self.shape, self.damaged
        if was_damaged:
            self._damage()
        if found != self.left:
            self.replaced = found
        self.touched = 0
        self.left = self.shape
        if was_damaged:
            self._mark("triggers", "end")
            self.clock += 0.1
            self._look()

    def _glance(self) -> None:
        """A look before all that the journal held then is read."""
        self._look(is_read=False)

    def _reconnect(self) -> None:
        """A loss that only the count tells of, while nobody reads: a look comes before the page."""
        self.losses.append(self.clock)
        self.lost += 1
        self.clock += 0.1
        self._glance()
        self._page()

    def _look(self, *, is_read: bool = True) -> None:
        health = Health(
            now=START + timedelta(seconds=self.clock),
            defects=["pbs.job: no triggers"] if self.damaged else [],
            paused=self.paused,
            doorbell=True,
            lost=self.lost,
            bytes=0,
            lag_rows=0,
            lag_seconds=0.0,
            is_full=self.full,
            shape=self.shape,
            replaced=self.replaced if self.left == self.shape else "",
        )
        self._say(self.condition.look(self.cursor, health, is_read=is_read))
        word = self.told[-1].event if self.told else None
        if word is EventName.UP:
            assert (self.paused, self.full, self.damaged) == (False, False, False)
            assert not self.watchdog.silence

    def _resync(self) -> None:
        if self.cursor.due:
            self.cursor = replace(self.cursor, due=None)


def _turns(told: list[Draft]) -> list[EventName]:
    return [draft.event for draft in told if draft.event in (EventName.UP, EventName.DOWN)]


@given(signs)
@settings(max_examples=200, deadline=None)
def test_down_and_up_take_turns_and_every_loss_lies_in_a_gap(
    history: list[tuple[str, int]],
) -> None:
    site = Site()
    site._look()
    for sign, later in history:
        site.live(sign, later)
    site.calm_down()
    turns = _turns(site.told)
    assert turns == [EventName.UP, EventName.DOWN] * (len(turns) // 2) + [EventName.UP]
    assert (site.cursor.up, site.cursor.blind) == (True, "")
    gaps = [draft.payload for draft in site.told if isinstance(draft.payload, GapPayload)]
    for loss in site.losses:
        at = START + timedelta(seconds=loss)
        assert any(gap.begin and gap.end and gap.begin <= at <= gap.end for gap in gaps)
    told = len(site.told)
    site.clock += QUIET_SECONDS
    site._look()
    site._look()
    assert len(site.told) == told


@given(st.lists(st.integers(1, int(QUIET_SECONDS * 400)), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_losses_in_quick_succession_are_one_gap(pauses: list[int]) -> None:
    site = Site()
    site._look()
    for later in pauses:
        site.live("loss", later)
        site._look()
    site.calm_down()
    assert [draft.event for draft in site.told] == [
        EventName.UP,
        EventName.DOWN,
        EventName.GAP,
        EventName.UP,
    ]


@given(st.lists(st.sampled_from(["upgrade", "look", "glance", "calm", "touch"]), max_size=20))
@settings(max_examples=100, deadline=None)
def test_an_installation_is_no_gap_whatever_it_finds_that_was_told(signs: list[str]) -> None:
    site = Site()
    site._look()
    touched = 0
    for sign in signs:
        site.live(sign, 10)
        if sign == "touch":
            site._look()
            touched += 1
    site.calm_down()
    told = [draft for draft in site.told if draft.event is EventName.GAP]
    assert len(told) == touched
