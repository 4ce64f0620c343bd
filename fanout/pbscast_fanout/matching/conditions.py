"""The expressions of all filters: each text compiled once, and which attributes they speak of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, KeysView, Mapping
from typing import Protocol

from pbscast.errors import UsageError

Lookup = Callable[[str], str | None]
"""An attribute's text by its name, None where it has none."""


class Condition(Protocol):
    """A compiled expression."""

    @property
    def names(self) -> Collection[str]:
        """What it asks a lookup for."""
        ...

    def matches(self, lookup: Lookup, /) -> bool:
        """Whether it holds. Raises nothing: what cannot be compared does not hold."""
        ...

    def required(self) -> Mapping[str, Collection[str]]:
        """Names of which it holds only where their text is one of these."""
        ...


class Conditions:
    """Compiles, shares and counts."""

    def __init__(self, compile_text: Callable[[str], Condition]) -> None:
        self._compile = compile_text
        self._shared: dict[str, Condition] = {}
        self._uses: Counter[str] = Counter()
        self._names: Counter[str] = Counter()

    @property
    def names(self) -> KeysView[str]:
        """Every name that an expression in use speaks of: a live view."""
        return self._names.keys()

    def take(self, text: str) -> Condition:
        """Raise UsageError for a text that cannot be compiled."""
        if text not in self._shared:
            self._shared[text] = self._compiled(text)
            self._names.update(self._shared[text].names)
        self._uses[text] += 1
        return self._shared[text]

    def _compiled(self, text: str) -> Condition:
        try:
            return self._compile(text)
        except UsageError as error:
            raise UsageError(f"where: {error}") from error

    def give_back(self, text: str) -> None:
        self._uses[text] -= 1
        if not self._uses[text]:
            del self._uses[text]
            self._names.subtract(self._shared.pop(text).names)
            for name in [name for name, count in self._names.items() if not count]:
                del self._names[name]
