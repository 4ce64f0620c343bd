"""One incarnation as its events leave it: the fold that the projection has to agree with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

STATE: Final = 4
"""Where in `Life.standing` the state stands, and the substate after it."""

_DATED: Final = "history_timestamp"
_NOTHING: Final[frozenset[str]] = frozenset()


class Values:
    """Named values as the log leaves them, in little memory.

    At first all of them are held. `settle` compares them with the projection, which is ahead of the
    log while this is read: from then on only the names that differ are kept, for later events to
    explain, and what later events say.
    """

    __slots__ = ("_debts", "_latest", "_whole")

    def __init__(self) -> None:
        self._latest: dict[str, str | None] = {}
        self._whole = True
        self._debts = _NOTHING

    def change(self, changed: Mapping[str, str]) -> None:
        self._latest.update(changed)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            if self._whole:
                self._latest.pop(name, None)
            else:
                self._latest[name] = None

    def settle(self, actual: Mapping[str, str]) -> frozenset[str]:
        """Names whose value in the projection is not the one of the log so far."""
        if self._whole:
            if self._latest == actual:
                self._debts = _NOTHING
            else:
                names = self._latest.keys() | actual.keys()
                self._debts = self._differing(names, actual)
        else:
            self._debts = (self._debts - self._latest.keys()) | self._differing(
                self._latest, actual
            )
        self._latest, self._whole = {}, False
        return self._debts

    def _differing(self, names: Iterable[str], actual: Mapping[str, str]) -> frozenset[str]:
        return frozenset(name for name in names if self._latest.get(name) != actual.get(name))


class Life:
    """An incarnation. Times are in microseconds since 1970-01-01 UTC."""

    __slots__ = (
        *("kind", "id", "incarnation", "revision", "position", "first_position"),
        *("began", "ended", "gone", "is_gone", "finalized", "reason", "exit_status", "dated"),
        *("standing", "reached", "attributes", "columns"),
    )

    def __init__(self, kind: bytes, name: bytes, incarnation: int, began: int) -> None:
        self.kind = kind.decode()
        self.id = name.decode()
        self.incarnation = incarnation
        self.revision = 0
        self.position = 0
        self.first_position = 0
        self.began = began
        self.ended: int | None = None
        self.gone: int | None = None
        self.is_gone = False
        """Whether its row left the datastore."""
        self.finalized = False
        self.reason: str | None = None
        self.exit_status: int | None = None
        self.dated = False
        """Whether PBS noted when it put the job among its history."""
        self.standing: tuple[Any, ...] = (None,) * 6
        """owner, queue, project, name, state, substate."""
        self.reached: list[str] = []
        self.attributes = Values()
        self.columns = Values()

    @property
    def next_place(self) -> tuple[int, int]:
        """Incarnation and revision of its next event."""
        return self.incarnation, self.revision + 1

    def change(self, changed: Mapping[str, str]) -> None:
        self.attributes.change(changed)
        if _DATED in changed:
            self.dated = bool(changed[_DATED])

    def remove(self, names: Collection[str]) -> None:
        self.attributes.remove(names)
        if _DATED in names:
            self.dated = False

    def finalize(self, time: int, reason: str | None, exit_status: int | None) -> None:
        self.finalized = True
        self.ended = max(time, self.began)
        self.reason, self.exit_status = reason, exit_status

    def leave(self, time: int) -> None:
        """Its row is no longer in the datastore."""
        self.is_gone = True
        if self.gone is None:
            self.gone = time
        if self.ended is None:
            self.ended = max(time, self.began)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
