"""A filter as the index holds it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from pbscast.events import AnyEvent, Kind
from pbscast_fanout.matching.interests import Interest

if TYPE_CHECKING:
    from pbscast.subscriptions import Filter
    from pbscast_fanout.matching.conditions import Condition
    from pbscast_fanout.matching.postings import Postings
    from pbscast_fanout.matching.sights import Sight

_Value = TypeVar("_Value")

_FEW: Final = 4
_NO_IDS: Final[set[str]] = set()
_WILD: Final = re.compile(r"[*?]")


class Entry:
    """One registered filter, compact; an empty criterion is not given."""

    __slots__ = (
        "_condition", "_literals", "_only", "_owners", "_patterns", "_projects", "_queues",
        "_states", "by_ids", "events", "homes", "ids", "interest", "key", "kinds", "sites", "where",
    )  # fmt: skip

    def __init__(
        self, key: str, criteria: Filter, condition: Condition | None, only: str | None = None
    ) -> None:
        self.key = key
        self.kinds = _compact(criteria.kinds)
        self.events = _compact(criteria.events)
        self.ids = set(criteria.ids) if criteria.ids else _NO_IDS
        self.by_ids = bool(criteria.ids)
        """Outlives the ids: one that has lost all of them is about nothing, not about all."""
        self.interest = Interest.of(criteria.attributes)
        self.where = criteria.where
        self.homes: tuple[tuple[Postings, Collection[str]], ...] = ()
        """Where the index has it."""
        self._condition = condition
        self._only = only
        self.sites = _compact(criteria.sites)
        self._owners = _compact(criteria.owners)
        self._queues = _compact(criteria.queues)
        self._projects = _compact(criteria.projects)
        self._states = _compact(criteria.states)
        literals, patterns = split_names(criteria.names)
        self._literals = _compact(literals)
        self._patterns = compile_patterns(patterns) if patterns else None

    def tells_of_capture(self, event: AnyEvent) -> bool:
        """Whether it is about this event of kind ``site``."""
        return (
            Kind.SITE in self.kinds
            and (not self.sites or event.site in self.sites)
            and (not self.events or event.event in self.events)
        )

    @property
    def names(self) -> frozenset[str]:
        """What its expression speaks of."""
        return frozenset() if self._condition is None else frozenset(self._condition.names)

    def is_about(self, object_id: str, array: str) -> bool:
        """Whether its ids, if it has any, name the object."""
        return not self.by_ids or object_id in self.ids or array in self.ids

    def may_see(self, kind: Kind, owner: str | None) -> bool:
        """Whether anything may be told of an object, as it stands."""
        return self._only is None or kind is not Kind.JOB or owner == self._only

    def contains(self, sight: Sight | None) -> bool:
        """Whether the object belongs to it."""
        return (
            sight is not None
            and self.may_see(sight.kind, sight.owner)
            and sight.kind in self.kinds
            and (not self.sites or sight.site in self.sites)
            and self.is_about(sight.id, sight.array)
            and (not self._owners or sight.owner in self._owners)
            and (not self._queues or sight.queue in self._queues)
            and (not self._projects or sight.project in self._projects)
            and (not self._states or sight.state in self._states)
            and self._fits(sight.name)
            and (self._condition is None or sight.fulfils(self._condition))
        )

    def _fits(self, name: str | None) -> bool:
        if not self._literals and self._patterns is None:
            return True
        if name is None:
            return False
        return name in self._literals or (
            self._patterns is not None and self._patterns.match(name) is not None
        )


def split_names(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return names to be met exactly, and patterns."""
    literals: list[str] = []
    patterns: list[str] = []
    for name in names:
        (patterns if _WILD.search(name) else literals).append(name)
    return literals, patterns


def prefix(pattern: str) -> str:
    """Return what a name begins with if it fits."""
    return _WILD.split(pattern, maxsplit=1)[0]


def compile_patterns(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return one expression for all. It never goes back over what a ``*`` has taken.

    Backtracking would let one pattern of many stars stop the worker; fnmatch's translation has
    atomic groups.
    """
    return _compiled("|".join(translate(pattern.replace("[", "[[]")) for pattern in patterns))


@lru_cache(1024)
def _compiled(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _compact(values: Collection[_Value]) -> Collection[_Value]:
    """A tuple takes a quarter of a set's memory."""
    return tuple(values) if len(values) <= _FEW else frozenset(values)
