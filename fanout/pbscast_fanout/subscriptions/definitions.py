"""What is kept of a subscription, and in which form. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from pbscast.subscriptions import SubscribeRequest


@dataclass(frozen=True, slots=True)
class Definition:
    """A subscription as it is registered."""

    id: str
    """32 hexadecimal digits that nobody guesses."""
    request: SubscribeRequest
    """As it was modified since: ``ids`` in the order in which they were added."""
    revision: int
    """Higher after each change of it."""
    ended: bool
    """Whether every id has ended, and `complete` is stored."""
    created: datetime
    parts: tuple[str, ...] = ()
    """Names of the keys that hold its ids, where they are many; no concern of others."""
