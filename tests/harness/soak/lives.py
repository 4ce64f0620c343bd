"""One job: the lives that were committed beside those that the log tells. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import combinations, product
from typing import NamedTuple

from pbscast_deploy.oracle import End, Life, Saved, expect

_AT_ONCE = timedelta(milliseconds=20)
_TOO_LATE = timedelta(seconds=5)
"""Between the two, the stamps of a subjob's DELETE and INSERT do not tell on which side of 100 ms
the datastore's clock saw them: the product may say that the life went on, or that another began."""

State = tuple[str, int | None]
Commit = tuple[Saved, bool]
"""A committed save, and whether it must have been captured."""


@dataclass(slots=True)
class Heard:
    """An incarnation of a job as its events tell it."""

    states: list[State] = field(default_factory=list)
    ends: list[tuple[str, int | None]] = field(default_factory=list)

    def enter(self, state: str, substate: int | None) -> None:
        """Its next state; the same again is none."""
        if not self.states or self.states[-1] != (state, substate):
            self.states.append((state, substate))


class Disagreement(NamedTuple):
    """States and ends, as committed and as logged."""

    committed: list[object]
    logged: list[object]


def disagreements(commits: Sequence[Commit], heard: Sequence[Heard]) -> Disagreement | None:
    """None if the log tells the job's lives as they were committed, where it had the chance to."""
    tellings = list(_tellings(commits))
    if any(_agree(lives, heard) for lives in tellings):
        return None
    lives = tellings[0]
    return Disagreement(
        [item for told in lives for item in _items(told.life.visible, told.life.end)],
        [item for life in heard for item in (*life.states, *life.ends)],
    )


def _items(states: Sequence[State], end: End | None) -> list[object]:
    return [*states, *([] if end is None else [tuple(end)])]


@dataclass(frozen=True, slots=True)
class _Told:
    """A committed life and what capture had the chance to see of it."""

    life: Life
    must: list[State]
    """The states that a captured save entered."""
    seen: bool
    """Whether any save of it was captured."""
    whole: bool
    """Whether all were."""
    deleted_unseen: bool

    def allows(self, heard: Heard) -> bool:
        if self.whole:
            return heard.states == self.life.visible and heard.ends == self._ends
        return (
            _is_within(self.must, heard.states)
            and _is_within(heard.states, self.life.visible)
            and self._allows_end(heard)
        )

    @property
    def _ends(self) -> list[tuple[str, int | None]]:
        return [(end.reason, end.exit_status)] if (end := self.life.end) else []

    def _allows_end(self, heard: Heard) -> bool:
        last = heard.states[-1:] == self.life.visible[-1:]
        if heard.ends == self._ends and (last or not self.life.present):
            return True
        return self.deleted_unseen and [reason for reason, _ in heard.ends] == ["vanished"]


def _agree(lives: Sequence[_Told], heard: Sequence[Heard]) -> bool:
    """A life may be missing whose row came and went unseen."""
    needed = {n for n, told in enumerate(lives) if told.seen or told.life.present}
    return any(
        needed.issubset(kept)
        and all(lives[n].allows(life) for n, life in zip(kept, heard, strict=True))
        for kept in combinations(range(len(lives)), len(heard))
    )


def _tellings(commits: Sequence[Commit]) -> Iterator[list[_Told]]:
    """The ways in which the commits may rightly be read as lives, the plain one first."""
    saves = [saved for saved, _ in commits]
    yield _read(saves, commits)
    doubtful = [n for n in range(1, len(saves)) if _is_doubtful(commits[n - 1], commits[n])]
    for choices in product((True, False), repeat=len(doubtful)):
        changed = list(saves)
        for n, goes_on in zip(doubtful, choices, strict=True):
            gap = timedelta() if goes_on else _TOO_LATE
            changed[n] = replace(changed[n], at=changed[n - 1].at + gap)
        if doubtful:
            yield _read(changed, commits)


def _is_doubtful(before: Commit, after: Commit) -> bool:
    if before[0].op != "DELETE" or after[0].op != "INSERT":
        return False
    captured = before[1] and after[1]
    return not captured or _AT_ONCE < after[0].at - before[0].at < _TOO_LATE


def _read(saves: Sequence[Saved], commits: Sequence[Commit]) -> list[_Told]:
    oracle = expect(saves)
    pieces = list(_split(saves, commits))
    return [_told(life, piece) for life, piece in zip(oracle.lives.values(), pieces, strict=True)]


def _split(saves: Sequence[Saved], commits: Sequence[Commit]) -> Iterator[list[Commit]]:
    """The commits of each life, cut where the oracle cuts them."""
    piece: list[Commit] = []
    lives = 0
    for n, saved in enumerate(saves):
        begun = len(expect(saves[: n + 1]).lives) if saved.op == "INSERT" else lives
        if begun > lives and piece:
            yield piece
            piece = []
        lives = begun
        piece.append(commits[n])
    if piece:
        yield piece


def _told(life: Life, commits: Sequence[Commit]) -> _Told:
    must, before = list[State](), None
    for saved, captured in commits:
        if saved.op != "DELETE" and saved.visible != before:
            before = saved.visible
            if captured and must[-1:] != [before]:
                must.append(before)
    return _Told(
        life,
        must,
        seen=any(captured for _, captured in commits),
        whole=all(captured for _, captured in commits),
        deleted_unseen=any(saved.op == "DELETE" and not captured for saved, captured in commits),
    )


def _is_within(part: Sequence[State], whole: Sequence[State]) -> bool:
    """Whether `part` is `whole` with some states left out."""
    rest = iter(whole)
    return all(state in rest for state in part)
