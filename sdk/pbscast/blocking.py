"""The client for programs without an event loop: it runs on one thread behind the scenes.

with pbscast.blocking.connect() as client:
    for event in client.watch("19.sitea", until_finished=True):
        print(event)
"""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, Unpack

from pbscast import client as asynchronous
from pbscast.errors import UsageError
from pbscast.subscription import Subscription as AsyncSubscription
from pbscast.told import Item as SubscriptionItem
from pbscast.watch import Item
from pbscast.watch import Watch as AsyncWatch

if TYPE_CHECKING:
    import os
    from collections.abc import (
        AsyncIterator,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from datetime import datetime
    from types import TracebackType

    from pbscast.connection import ConnectionState
    from pbscast.events import AnyEvent
    from pbscast.lives import Difference, Life, Standing
    from pbscast.options import WatchOptions
    from pbscast.reading import Reading
    from pbscast.selection import SelectionOptions
    from pbscast.snapshot import Snapshot as AsyncSnapshot
    from pbscast.subscribing import SubscribeOptions
    from pbscast.subscriptions import Registered

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")
_Source = TypeVar("_Source", bound="Reading[Any]")

# On Windows a wait without a limit cannot be interrupted by Ctrl-C.
_WAIT: Final = 0.5
_GRACE: Final = 5.0


class _Reading(Generic[_Item, _Source]):
    """A reader of the asynchronous client, for threads."""

    def __init__(self, loop: _LoopThread, source: _Source) -> None:
        self._loop = loop
        self._source = source

    @property
    def positions(self) -> dict[str, int]:
        """The last position of each site that was told."""
        return self._source.positions

    def __enter__(self) -> Self:
        self._loop.run(self._source.open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, also one that waits in another thread, and give everything back."""
        self._loop.run(self._source.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        item: _Item | None = self._loop.run(_next_of(self._source))
        if item is None:
            raise StopIteration
        return item

    def run(self, callback: Callable[[_Item], object]) -> None:
        """Call back for each item, on this thread, until the iteration ends."""
        for item in self:
            callback(item)


class Watch(_Reading[Item, AsyncWatch]):
    """An iterator over events and notices, as ``pbscast.Watch``; ``next`` waits for one."""


class Subscription(_Reading[SubscriptionItem, AsyncSubscription]):
    """An iterator over items, as ``pbscast.Subscription``; ``next`` waits for one.

    It begins with ``with`` or with the first item. An item whose callback raised or was killed is
    told again.
    """

    @property
    def id(self) -> str:
        """See ``pbscast.Subscription.id``."""
        return self._source.id

    @property
    def place(self) -> dict[str, tuple[int, int]]:
        """See ``pbscast.Subscription.place``."""
        return self._source.place

    @property
    def pending(self) -> list[str] | None:
        """See ``pbscast.Subscription.pending``."""
        return self._source.pending

    def modify(
        self,
        *,
        add_ids: str | Iterable[str] = (),
        remove_ids: str | Iterable[str] = (),
        attributes: str | Iterable[str] | None = None,
    ) -> None:
        """See ``pbscast.Subscription.modify``."""
        self._loop.run(
            self._source.modify(add_ids=add_ids, remove_ids=remove_ids, attributes=attributes)
        )

    def unsubscribe(self) -> None:
        """See ``pbscast.Subscription.unsubscribe``."""
        self._loop.run(self._source.unsubscribe())


class Client:
    """As ``pbscast.Client``, for threads; any number of them may share it."""

    def __init__(self, loop: _LoopThread, client: asynchronous.Client) -> None:
        self._loop = loop
        self._client = client

    def watch(
        self, job_ids: str | Iterable[str] | None = None, **options: Unpack[WatchOptions]
    ) -> Watch:
        """See ``pbscast.Client.watch``."""
        return Watch(self._loop, self._client.watch(job_ids, **options))

    def subscribe(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        keep: bool = False,
        **options: Unpack[SubscribeOptions],
    ) -> Subscription:
        """See ``pbscast.Client.subscribe``."""
        return Subscription(self._loop, self._client.subscribe(ids, keep=keep, **options))

    def attach(
        self, subscription_id: str, *, place: Mapping[str, Sequence[int]] | None = None
    ) -> Subscription:
        """See ``pbscast.Client.attach``."""
        return Subscription(self._loop, self._client.attach(subscription_id, place=place))

    def subscriptions(self) -> Iterator[Registered]:
        """See ``pbscast.Client.subscriptions``."""
        return self._iterate(self._client.subscriptions())

    def unsubscribe(self, subscription_id: str) -> bool:
        """See ``pbscast.Client.unsubscribe``."""
        return self._loop.run(self._client.unsubscribe(subscription_id))

    def history(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = False,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> Iterator[AnyEvent]:
        """See ``pbscast.Client.history``."""
        return self._iterate(
            self._client.history(
                ids,
                begin=begin,
                end=end,
                newest_first=newest_first,
                after=after,
                limit=limit,
                **selection,
            )
        )

    def jobs(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = True,
        after: Mapping[str, int] | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> Iterator[Life]:
        """See ``pbscast.Client.jobs``."""
        return self._iterate(
            self._client.jobs(
                ids, begin=begin, end=end, newest_first=newest_first, after=after, **selection
            )
        )

    def snapshot(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        attributes: bool = False,
        **selection: Unpack[SelectionOptions],
    ) -> Snapshot:
        """See ``pbscast.Client.snapshot``."""
        snapshot = self._client.snapshot(ids, attributes=attributes, **selection)
        return Snapshot(self._loop, snapshot)

    def at(
        self,
        moment: datetime | Mapping[str, int],
        ids: str | Iterable[str] | None = None,
        *,
        attributes: bool = False,
        **selection: Unpack[SelectionOptions],
    ) -> Iterator[Standing]:
        """See ``pbscast.Client.at``."""
        return self._iterate(self._client.at(moment, ids, attributes=attributes, **selection))

    def difference(
        self,
        begin: datetime | Mapping[str, int],
        end: datetime | Mapping[str, int],
        ids: str | Iterable[str] | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> Iterator[Difference]:
        """See ``pbscast.Client.difference``."""
        return self._iterate(self._client.difference(begin, end, ids, **selection))

    def _iterate(self, items: AsyncIterator[_Item]) -> Iterator[_Item]:
        item: _Item | None
        while (item := self._loop.run(_next_of(items))) is not None:
            yield item


class Snapshot:
    """An iterator over standings, as ``pbscast.Snapshot``."""

    def __init__(self, loop: _LoopThread, snapshot: AsyncSnapshot) -> None:
        self._loop = loop
        self._snapshot = snapshot

    @property
    def positions(self) -> dict[str, int]:
        """See ``pbscast.Snapshot.positions``."""
        return self._snapshot.positions

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Standing:
        standing: Standing | None = self._loop.run(_next_of(self._snapshot))
        if standing is None:
            raise StopIteration
        return standing


@contextmanager
def connect(
    servers: str | Sequence[str] | None = None,
    creds: str | os.PathLike[str] | None = None,
    *,
    broker: str | os.PathLike[str] | None = None,
    ca: str | os.PathLike[str] | None = None,
    connect_timeout: float = 5.0,
    on_state: Callable[[ConnectionState], None] | None = None,
) -> Iterator[Client]:
    """See ``pbscast.connect``. ``on_state`` is called on the client's own thread: be brief."""
    with _LoopThread() as loop:
        connecting = asynchronous.connect(
            servers,
            creds,
            broker=broker,
            ca=ca,
            connect_timeout=connect_timeout,
            on_state=on_state,
        )
        client = loop.run(connecting.__aenter__())
        try:
            yield Client(loop, client)
        finally:
            loop.run(connecting.__aexit__(None, None, None))


class _LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="pbscast", daemon=True)
        self._pending: set[futures.Future[Any]] = set()
        self._closed = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Calls of other threads end by themselves now that every watch is closed: let them.
        futures.wait(tuple(self._pending), _GRACE)
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run on the loop and wait for the outcome; Ctrl-C here cancels it there."""
        if self._closed:
            coroutine.close()
            raise UsageError("this client has been closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._pending.add(future)
        try:
            while True:
                try:
                    return future.result(_WAIT)
                except TimeoutError:
                    if future.done():
                        return future.result()
        finally:
            future.cancel()
            self._pending.discard(future)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


async def _next_of(items: Any) -> Any:
    """Return the next item, or None at the end: StopAsyncIteration cannot pass through a future."""
    return await anext(items, None)
