from __future__ import annotations

from pbscast_ingest.cursor import Cursor, Hole
from pbscast_ingest.watchdog import LIMIT, Watchdog


def _hears(watchdog: Watchdog, *seqs: int, top: int | None = None, is_end: bool = True) -> bool:
    at = top if top is not None else max(seqs, default=0)
    watchdog.hear(seqs)
    return watchdog.miss(Cursor(top=at), is_end=is_end)


def test_heartbeats_that_come_through() -> None:
    watchdog = Watchdog()
    for seq in range(1, 20):
        watchdog.write(seq)
        assert not _hears(watchdog, seq)
    assert (watchdog.silence, watchdog.is_due) == ("", False)


def test_one_that_is_read_before_its_writer_has_the_answer() -> None:
    watchdog = Watchdog()
    assert not _hears(watchdog, 7)
    watchdog.write(7)
    assert not _hears(watchdog, top=9)
    watchdog.write(10)
    assert not watchdog.is_due


def test_those_that_never_come_are_a_silence_until_one_does() -> None:
    watchdog = Watchdog()
    for seq in range(1, LIMIT + 1):
        watchdog.write(seq)
        _hears(watchdog, top=0)
        assert not watchdog.is_due
    watchdog.write(LIMIT + 1)
    assert (watchdog.is_due, "not found" in watchdog.silence) == (True, True)
    watchdog.begin()
    assert (watchdog.is_due, "not found" in watchdog.silence) == (False, True)
    assert not _hears(watchdog, *range(1, LIMIT + 2))
    assert (watchdog.is_due, watchdog.silence) == (False, "")


def test_a_backlog_is_no_silence() -> None:
    watchdog = Watchdog()
    for seq in range(1000, 1000 + 2 * LIMIT):
        watchdog.write(seq)
        _hears(watchdog, top=seq - 900, is_end=False)
    assert not watchdog.is_due


def test_those_that_cannot_be_written_are_a_silence() -> None:
    watchdog = Watchdog()
    for trouble in (None, "no right", None):
        if trouble:
            watchdog.fail(trouble)
        else:
            watchdog.write(None)
    assert watchdog.silence.endswith("the journal has no room")


def test_one_that_was_passed_over_was_deleted_unless_it_may_still_come() -> None:
    watchdog = Watchdog()
    watchdog.write(5)
    assert not watchdog.miss(Cursor(top=9, holes=(Hole(4, 6, 100),)), is_end=True)
    assert watchdog.miss(Cursor(top=9), is_end=True)
    assert not watchdog.miss(Cursor(top=9), is_end=True)


def test_what_was_written_into_another_journal_is_forgotten() -> None:
    watchdog = Watchdog()
    watchdog.write(5)
    watchdog.forget()
    assert not watchdog.miss(Cursor(top=9), is_end=True)


def test_a_long_silence_takes_no_memory_to_speak_of() -> None:
    watchdog = Watchdog()
    for seq in range(1, 10_000):
        watchdog.write(seq)
    assert len(watchdog._awaited) <= 100
    assert watchdog.miss(Cursor(top=10_000), is_end=True)
    assert not watchdog.miss(Cursor(top=10_000), is_end=True)


def test_many_that_come_in_one_page_are_all_known() -> None:
    watchdog = Watchdog()
    for seq in range(1, 50):
        watchdog.write(seq)
    assert not _hears(watchdog, *range(1, 50))
