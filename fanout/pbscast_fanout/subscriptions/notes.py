"""Notes of who has been told everything at a site, and which of them hold."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, NoReturn

from pbscast_fanout.subscriptions.joined import Joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pbscast.events import Site
    from pbscast_fanout.subscriptions.checkpoints import Checkpoint
    from pbscast_fanout.subscriptions.joined import JoinedSites

_ABREAST: Final = 50


def are_late(found: Mapping[str, Joined], checkpoint: Checkpoint | None) -> set[str]:
    """Return whose notes came from a worker that did not deliver the site any more.

    It had them under way when another began, who knew nothing of them, let these begin anew and
    told events to others in the meantime. Who began last says in its checkpoint, before it tells
    anything, what it knew.
    """
    if checkpoint is None:
        return set()
    return {
        key
        for key, note in found.items()
        if note.noted > checkpoint.noted and note.session != checkpoint.session
    }


class Notes:
    """Makes those of one site, for one go. Everything raises UnavailableError."""

    def __init__(self, joined: JoinedSites, site: Site, found: Mapping[str, Joined]) -> None:
        """`found` is what there was when the go began."""
        self.session = secrets.token_hex(8)
        """Of the go; all its notes have it."""
        self.known = max((note.noted for note in found.values()), default=0)
        """The last note that there was."""
        self._joined = joined
        self._site = site
        self._said: dict[str, Joined] = {}
        self._more = asyncio.Event()
        self._writing = asyncio.Lock()

    def say(self, key: str, joined: Joined) -> None:
        """Let it be noted."""
        self._said[key] = joined
        self._more.set()

    async def run(self, noted: Callable[[str], None]) -> NoReturn:
        """Note what is said, and tell it, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._said:
                for key in await self.write():
                    noted(key)

    async def write(self) -> list[str]:
        """Note some of what is said, and return of whom."""
        async with self._writing:
            some = [(key, self._said.pop(key)) for key in list(self._said)[:_ABREAST]]
            await asyncio.gather(*(self._put(key, joined) for key, joined in some))
        return [key for key, _ in some]

    async def disown(self, keys: Iterable[str]) -> None:
        """Note that these have to begin anew; what was said of them before is void."""
        waiting = list(keys)
        for key in waiting:
            self._said.pop(key, None)
        nobody = Joined(position=0, revision=0)
        async with self._writing:
            for start in range(0, len(waiting), _ABREAST):
                some = waiting[start : start + _ABREAST]
                await asyncio.gather(*(self._put(key, nobody) for key in some))

    async def _put(self, key: str, joined: Joined) -> None:
        note = joined.model_copy(update={"session": self.session})
        await self._joined.put(self._site, key, note)
