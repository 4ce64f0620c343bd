"""What becomes of an event that the log refuses, without a log."""

from __future__ import annotations

from datetime import UTC, datetime

import hypothesis.strategies as st
from hypothesis import given

from pbscast.errors import AccessDeniedError, FencedError, PbscastError, UnavailableError
from pbscast.events import ChangePayload, EventName, Kind, Provenance, unescape
from pbscast_ingest.refusals import CAREFUL, MOST_CHARACTERS, NOTE, TRIES, Refusals, tame_text
from pbscast_store.drafts import Draft

ERROR = PbscastError("log of s: too much")


def _draft(job: str = "1.s", **changed: str) -> Draft:
    payload = ChangePayload(owner="alice", state="Q", substate=10, changed=changed)
    return Draft(Kind.JOB, job, EventName.MODIFY, datetime.now(UTC), Provenance.JOURNAL, payload)


def _changed(draft: Draft) -> dict[str, str]:
    assert isinstance(draft.payload, ChangePayload)
    return draft.payload.changed


def _is_careful(refusals: Refusals) -> bool:
    return refusals.is_careful


def _refuse(refusals: Refusals, draft: Draft, times: int, error: BaseException = ERROR) -> None:
    for _ in range(times):
        refusals.refuse(error, refusals.temper([draft]), 7)


def test_an_event_is_tried_as_it_is_then_cut_then_stripped_and_then_as_it_is_again() -> None:
    refusals, draft = Refusals("s"), _draft(large="x" * 5000, small="y")
    _refuse(refusals, draft, TRIES - 1)
    assert not _is_careful(refusals)
    _refuse(refusals, draft, 1)
    assert _is_careful(refusals)
    assert refusals.temper([draft]) == [draft]
    _refuse(refusals, draft, 1)
    (cut,) = refusals.temper([draft])
    assert (len(_changed(cut)["large"]), _changed(cut)["small"]) == (MOST_CHARACTERS, "y")
    _refuse(refusals, draft, 1)
    (stripped, other) = refusals.temper([draft, _draft("2.s")])
    assert [*_changed(stripped)] == [NOTE]
    assert other == _draft("2.s") or _changed(other) == {}
    assert (stripped.payload.model_dump()["state"], stripped.id) == ("Q", "1.s")
    _refuse(refusals, draft, 1)
    assert not _is_careful(refusals)
    assert refusals.temper([draft]) == [draft]


def test_care_ends_when_nothing_was_refused_for_a_while() -> None:
    refusals, draft = Refusals("s"), _draft(x="y")
    _refuse(refusals, draft, TRIES + 1)
    for _ in range(CAREFUL):
        assert _is_careful(refusals)
        refusals.accept([draft])
    assert not _is_careful(refusals)
    assert refusals.temper([draft]) == [draft]


def test_a_log_that_is_away_refuses_nothing() -> None:
    refusals, draft = Refusals("s"), _draft(x="y")
    for error in (UnavailableError("x"), FencedError("x"), AccessDeniedError("x")):
        _refuse(refusals, draft, 2 * TRIES, error)
    assert not _is_careful(refusals)
    heavy = _draft(x="y" * (65 << 20))
    _refuse(refusals, heavy, TRIES, UnavailableError("out of memory"))
    assert _is_careful(refusals)


def test_refusals_at_other_positions_are_others() -> None:
    refusals = Refusals("s")
    for position in range(10):
        refusals.refuse(ERROR, [_draft()], position)
    assert not _is_careful(refusals)


@given(st.text(st.characters(), max_size=50) | st.text("\\x\0\udc80a", max_size=20))
def test_a_tame_text_can_be_sent_and_turned_back(text: str) -> None:
    tame = tame_text(text)
    assert "\0" not in tame
    raw = text.encode(errors="surrogatepass")
    assert raw == (tame.encode() if tame == text else unescape(tame))
