"""Which subscriptions there are, for all that a worker does with them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from pbscast.errors import PbscastError
from pbscast_fanout.subscriptions.following import Anew, UpToDate
from pbscast_fanout.subscriptions.registry import Removed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbscast_fanout.subscriptions.definitions import Definition
    from pbscast_fanout.subscriptions.registry import Registry

_RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class RegistryView:
    """Follows the registry; what was told stays true, if not the latest, while it cannot be had."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._definitions: dict[str, Definition] = {}
        self._untold: set[str] | None = set()
        """Those that have not been told again since everything is; None: all have."""
        self._ready = asyncio.Event()
        self._listeners: set[Callable[[str], None]] = set()

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """All that are registered, by id: a live view."""
        return self._definitions

    async def ready(self) -> None:
        """Wait until everything that is registered is known."""
        await self._ready.wait()

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call it with the id of each that comes, changes or goes, until unlisten."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[str], None]) -> None:
        """Call it no more."""
        self._listeners.discard(listener)

    async def run(self) -> NoReturn:
        """Follow until cancelled; outages are waited out."""
        while True:
            try:
                await self._registry.ensure()
                await self._follow()
            except PbscastError as error:
                _log.warning("registry_unusable", error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        self._untold = set(self._definitions)
        async with aclosing(self._registry.changes()) as changes:
            async for change in changes:
                self._take(change)

    def _take(self, change: Definition | Removed | Anew | UpToDate) -> None:
        match change:
            case Anew():
                self._untold = set(self._definitions)
            case UpToDate():
                for key in self._untold or ():
                    self._drop(key)
                self._untold = None
                self._ready.set()
            case Removed():
                self._drop(change.id)
            case _:
                if self._untold is not None:
                    self._untold.discard(change.id)
                if self._definitions.get(change.id) != change:
                    self._definitions[change.id] = change
                    self._tell(change.id)

    def _drop(self, key: str) -> None:
        if self._definitions.pop(key, None) is not None:
            self._tell(key)

    def _tell(self, key: str) -> None:
        for listener in list(self._listeners):
            listener(key)
