"""What every reader is that a client hands out: begun, iterated over, closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

ItemT = TypeVar("ItemT")


class Received(NamedTuple, Generic[ItemT]):
    """An item, and the JSON it came as; None for what is no message."""

    item: ItemT
    body: bytes | None


class Reading(ABC, Generic[ItemT]):
    """An asynchronous iterator over items; ``async with`` begins it, and closes it at the end."""

    @abstractmethod
    async def open(self) -> Self:
        """Begin, if that has not happened yet."""

    @abstractmethod
    async def close(self) -> None:
        """End the iteration and give back what is held elsewhere."""

    @abstractmethod
    async def receive(self) -> Received[ItemT]:
        """Return the next item with its message. Raises StopAsyncIteration at the end."""

    @property
    @abstractmethod
    def positions(self) -> dict[str, int]:
        """How far each site was told."""

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        return (await self.receive()).item

    async def with_bodies(self) -> AsyncIterator[Received[ItemT]]:
        """Iterate over items together with the bytes they came as."""
        while True:
            try:
                yield await self.receive()
            except StopAsyncIteration:
                return
