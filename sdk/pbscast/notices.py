"""What a watch tells beside events: where history ends, and what could not be delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast.errors import DecodeError


@dataclass(frozen=True, slots=True)
class Boundary:
    """History ends here, live events begin: all that was stored at the beginning has been told."""

    positions: Mapping[str, int] = field(default_factory=dict)
    """The last position told of each site that was heard of; ``after(positions)`` resumes here."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Events that should have been told can no longer be had from the stream.

    The reader was away, or slow, for longer than the stream keeps them. The log still holds them:
    ``history(sites=site, after={site: after})`` up to ``before``; ``snapshot`` for how things
    stand now.
    """

    site: str | None
    """None: any site that is watched."""
    after: int | None
    """The last position known before the hole, None where nothing was known."""
    before: int | None
    """The first position known after the hole, None where that is not known yet."""
    kind: str | None = None
    id: str | None = None
    """The object whose events are missing; None: any object that is watched."""

    def __str__(self) -> str:
        what = "events" if self.id is None else f"events of {self.kind} {self.id}"
        where = "" if self.site is None else f" of site {self.site}"
        span = ", ".join(
            f"{word} position {position}"
            for word, position in (("after", self.after), ("before", self.before))
            if position is not None
        )
        return f"missed: {what}{where} {span}".rstrip() + ": the stream no longer holds them"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message on an event's subject that this release cannot read; a newer pbscast may."""

    body: bytes
    error: DecodeError

    def __str__(self) -> str:
        return f"cannot read a message: {self.error}"
