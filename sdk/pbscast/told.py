"""What a registered subscription hands out."""

from __future__ import annotations

from dataclasses import dataclass

from pbscast.deliveries import Passage
from pbscast.events import AnyEvent
from pbscast.lives import Standing
from pbscast.notices import Boundary, Missed, Unreadable


@dataclass(frozen=True, slots=True)
class Begin:
    """A site is told from the beginning: what was told of it before no longer holds.

    How everything stands comes next, a Standing for each object, up to a Boundary.
    """

    site: str
    position: int


@dataclass(frozen=True, slots=True)
class Matched:
    """An event that the subscription is about."""

    event: AnyEvent
    """With the attributes of interest alone, but a finalize is whole."""
    passage: Passage
    """What it means for its object: it joined what the subscription is about, stayed, left or
    ended."""
    standing: Standing | None = None
    """With ``joined``, unless the object is new: how the event left it."""
    to: str | None = None
    """Of a finalize with reason ``moved``: the site where the subscription goes on with the job.
    Otherwise it is the last that is told of it."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Every job that the subscription names has ended; nothing follows."""


Item = Begin | Standing | Boundary | Matched | Missed | Complete | Unreadable
"""A Standing is how an object stood when the subscription, or an added id, began: no change."""
