"""One incarnation as its events leave it: the fold that the projection has to agree with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_DATED: Final = "history_timestamp"

_USED: Final = "resources_used."
_PASSING: Final = ("mtime", "ji_savetm")
_STANDING: Final = ("owner", "queue", "project", "name")
_NOTHING: Final[frozenset[str]] = frozenset()


class Values:
    """Named values as the log leaves them, in little memory.

    At first all of them are held. `settle` compares them with the projection, which is ahead of the
    log while this is read: from then on only the names that differ are kept, for later events to
    explain, and what later events say.
    """

    __slots__ = ("_debts", "_whole", "latest")

    def __init__(self) -> None:
        self.latest: dict[str, str | None] = {}
        """To be updated with what changes."""
        self._whole = True
        self._debts = _NOTHING

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            if self._whole:
                self.latest.pop(name, None)
            else:
                self.latest[name] = None

    def settle(self, actual: Mapping[str, str]) -> frozenset[str]:
        """Names whose value in the projection is not the one of the log so far."""
        if self._whole:
            if self.latest == actual:
                self._debts = _NOTHING
            else:
                names = self.latest.keys() | actual.keys()
                self._debts = self._differing(names, actual)
        else:
            self._debts = (self._debts - self.latest.keys()) | self._differing(self.latest, actual)
        self.latest, self._whole = {}, False
        return self._debts

    def _differing(self, names: Iterable[str], actual: Mapping[str, str]) -> frozenset[str]:
        return frozenset(name for name in names if self.latest.get(name) != actual.get(name))


class ToldLife:
    """An incarnation. Times are in microseconds since 1970-01-01 UTC."""

    __slots__ = (
        *("key", "kind", "id", "number", "incarnation", "revision", "position", "first_position"),
        *(
            "began",
            "ended",
            "gone",
            "is_gone",
            "finalized",
            "reason",
            "exit_status",
            "dated",
            "is_thinned",
        ),
        *("standing", "state", "substate", "reached", "attributes", "columns"),
    )

    def __init__(self, key: tuple[bytes, bytes], number: bytes, began: int) -> None:
        self.key = key
        """Kind and id as lines say them."""
        self.kind, self.id = key[0].decode(), key[1].decode()
        self.number = number
        """Its incarnation, in decimal."""
        self.incarnation = int(number)
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
        self.is_thinned = False
        """Whether some of its usage events no longer say what they changed."""
        self.dated = False
        """Whether PBS noted when it put the job among its history."""
        self.standing: dict[str, Any] = {}
        """The last payload, for owner, queue, project and name."""
        self.state: str | None = None
        self.substate: int | None = None
        self.reached: list[str] = []
        self.attributes = Values()
        self.columns = Values()

    def reach(self, time: int) -> None:
        """It has an event of a time, which may be one before all others: clocks go back."""
        if self.ended is None and time < self.began:
            self.began = time

    def change(self, payload: dict[str, Any]) -> None:
        """Folds an event in."""
        state = payload.get("state")
        if state != self.state:
            self.state = state
            if state is not None and state not in self.reached:
                self.reached.append(state)
        self.standing, self.substate = payload, payload.get("substate")
        if "removed" in payload:
            self.attributes.remove(payload["removed"])
            self.dated = self.dated and _DATED not in payload["removed"]
        if "changed" in payload:
            changed = payload["changed"]
            self.attributes.latest.update(changed)
            if _DATED in changed:
                self.dated = bool(changed[_DATED])
        if "columns" in payload:
            self.columns.latest.update(payload["columns"])

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

    def may_differ(self, name: str) -> bool:
        """Whether a thinned event may have changed the attribute or column."""
        return self.is_thinned and (name in _PASSING or name.startswith(_USED))

    def shrink(self) -> None:
        """Lets go of what is not needed while nothing is told of it."""
        self.standing = {name: self.standing.get(name) for name in _STANDING}

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
