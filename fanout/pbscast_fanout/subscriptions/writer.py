"""Writes one site's messages to subscriptions, each once and in order, whatever fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from pbscast_fanout.connection import Connection
    from pbscast_fanout.subscriptions.stream import Place


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to a subscription."""

    subject: str
    body: bytes
    place: Place | None = None
    """How far the site is told once this is stored; None: no further than before."""


class DeliveryWriter:
    """Writes for one site, as long as no other worker does.

    After any error what is stored is unknown: `find` tells it, and begins anew. One call at a time.
    """

    def __init__(self, connection: Connection, site: str, slots: asyncio.Semaphore) -> None:
        """Each atomic batch takes one of the `slots`, which all writers of a worker share."""
        raise NotImplementedError

    @property
    def place(self) -> Place | None:
        """How far the site is told, as far as this writer knows; None: nothing was ever told."""
        raise NotImplementedError

    async def find(self) -> Place | None:
        """Return how far the site is told, by its last message; None if it has none.

        Has to be called first and after any error, also by who only watches another worker.
        Raises UnavailableError, DecodeError.
        """
        raise NotImplementedError

    async def write(self, messages: Sequence[Outgoing], place: Place) -> None:
        """Store the messages in order, then `place` is reached.

        The places of messages may not go back, and not beyond `place`. If something goes wrong some
        of the messages may be stored, from the first on without a hole, and `find` then returns the
        place of the last of them. Without messages nothing is stored, but the place is remembered
        for the next mark. Raises FencedError if another worker wrote since, UnavailableError.
        """
        raise NotImplementedError

    async def mark(self, place: Place) -> None:
        """Store that `place` is reached. The first mark makes us the one who writes the site.

        Raises as `write`.
        """
        raise NotImplementedError

    @property
    def marked(self) -> Place | None:
        """The last place that is stored; `place` may be beyond it."""
        raise NotImplementedError

    @property
    def mark_due(self) -> float:
        """Seconds until `mark` should be called, were it to say the same as before."""
        raise NotImplementedError

    async def last_number(self, subscription: str) -> int:
        """Return the `n` of the last message of this site to a subscription; 0: none is kept.

        Raises UnavailableError.
        """
        raise NotImplementedError
