"""Where a site's deliverer was a while ago, and what no log tells of then (`PBS_PROGRESS`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.matching.matcher import Life


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a deliverer needs, beside the log, to go on after `position`."""

    position: int
    departures: tuple[tuple[Life, str], ...] = ()
    """`Matcher.departures()` of the site at that position."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """The last `n` of each subscription: needed where the stream has lost its last message."""


class Checkpoints:
    """Keeps one checkpoint for each site; any number of workers may write."""

    def __init__(self, connection: Connection) -> None:
        raise NotImplementedError

    async def ensure(self) -> None:
        """Make the bucket."""
        raise NotImplementedError

    async def load(self, site: str) -> Checkpoint | None:
        """Return the last that was stored completely; None if there is none, or it is damaged.

        Raises UnavailableError.
        """
        raise NotImplementedError

    async def store(self, site: str, checkpoint: Checkpoint) -> None:
        """Replace it: `load` returns the old one or the new one, never a mixture.

        One that is behind what another worker stored meanwhile is not kept. Raises
        UnavailableError.
        """
        raise NotImplementedError
