"""Whether an object is meant, by where it stood. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pbscast.selection import Selection

_ANY: Final = {"*": ".*", "?": "."}
_WILD: Final = re.compile(r"[*?]|[^*?]+")


class Choice:
    """A selection's criteria about where an object stands, which differs from moment to moment.

    Owners, queues, projects, names and states; the others are about a whole life.
    """

    def __init__(self, selection: Selection) -> None:
        self._tests: dict[str, Callable[[Any], bool]] = {
            field: frozenset(values).__contains__
            for field, values in (
                ("owner", selection.owners),
                ("queue", selection.queues),
                ("project", selection.projects),
                ("state", selection.states),
            )
            if values
        }
        if selection.names:
            self._tests["name"] = _matcher(selection.names)

    def includes(self, values: Mapping[str, Any]) -> bool:
        """Whether one that stands so, by the fields of a payload, is meant."""
        return all(test(values.get(field)) for field, test in self._tests.items())


def at_any_time(selection: Selection) -> Selection:
    """The criteria by which lives are looked for that may have been meant at some moment.

    PBS never changes the owner of a job or a reservation, so that is one of them.
    """
    free: dict[str, tuple[str, ...]] = {"queues": (), "projects": (), "names": (), "states": ()}
    return selection.model_copy(update=free)


def _matcher(names: Iterable[str]) -> Callable[[Any], bool]:
    """As `LIKE` decides in the database, where lives are looked for."""
    pattern = re.compile("|".join(f"(?:{_pattern(name)})" for name in names), re.DOTALL)
    return lambda name: name is not None and pattern.fullmatch(name) is not None


def _pattern(name: str) -> str:
    return "".join(_ANY.get(part) or re.escape(part) for part in _WILD.findall(name))
