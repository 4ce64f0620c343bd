"""How often somebody may ask."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_Who = TypeVar("_Who", bound="Hashable")


@dataclass(slots=True)
class _Allowance:
    left: float
    since: float


class Rates(Generic[_Who]):
    """So many at once, then so many a second, for each who asks. Pure but for the clock."""

    def __init__(
        self, burst: int, per_second: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._allowances: OrderedDict[_Who, _Allowance] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered: those who asked lately."""
        return len(self._allowances)

    def take(self, who: _Who) -> bool:
        """Whether he may ask now; if so it is counted."""
        now = self._clock()
        self._forget(now)
        one = self._allowances.setdefault(who, _Allowance(self._burst, now))
        left = min(self._burst, one.left + (now - one.since) * self._per_second)
        is_allowed = left >= 1
        one.left, one.since = left - is_allowed, now
        self._allowances.move_to_end(who)
        return is_allowed

    def _forget(self, now: float) -> None:
        """Drop those who have all of their allowance again, whenever they asked."""
        full = self._burst / self._per_second
        while self._allowances and now - next(iter(self._allowances.values())).since > full:
            self._allowances.popitem(last=False)
