"""A registered subscription, as its reader has it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pbscast.asking import ask
from pbscast.deliveries import (
    BeginMessage,
    BoundaryMessage,
    CompleteMessage,
    EventMessage,
    ObjectMessage,
    Passage,
    SubscriptionMessage,
    decode,
)
from pbscast.errors import (
    ConflictError,
    DecodeError,
    GoneError,
    NotFoundError,
    PbscastError,
    UnavailableError,
)
from pbscast.events import Kind, Reason
from pbscast.following import Following
from pbscast.lease import keep_alive, renew, resume, unless_gone
from pbscast.live import Live
from pbscast.notices import Boundary, Missed, Unreadable
from pbscast.reading import Reading, Received
from pbscast.sources import Kept, Sign, Source
from pbscast.subscribing import modify_request, split_modify, split_subscribe
from pbscast.subscriptions import (
    MODIFY,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Delivery,
    ModifyResponse,
    SubscribeResponse,
    UnsubscribeRequest,
    UnsubscribeResponse,
)
from pbscast.told import Begin, Complete, Item, Matched

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from pbscast.connection import Connection
    from pbscast.following import SiteMessage
    from pbscast.pulling import Delivered
    from pbscast.subscriptions import RenewResponse, SubscribeRequest


@dataclass(frozen=True, slots=True)
class Origin:
    """Which subscription it is: a new one, or one that is there."""

    id: str
    request: SubscribeRequest | None = None
    """To register it; None: it is there."""
    keep: bool = True
    """Whether it lives on when its reader goes."""
    place: Mapping[str, tuple[int, int]] | None = field(default=None)


class Subscription(Reading[Item]):
    """An asynchronous iterator; made by ``Client.subscribe`` and ``Client.attach``.

    ``async with`` or ``await`` begins it. A message is acknowledged when the next item is asked
    for: what the caller had not finished when it died is told again. Repeats that the server sends
    are dropped, unless it is shared. The lease is renewed meanwhile. Lost connections are waited
    out; a subscription that ended meanwhile raises GoneError, one that another process has resumed
    ConflictError. At most one batch of messages waits in memory. It is for one task at a time; its
    waiting may be cancelled, and begun again.

    Leaving ``async with`` ends a subscription that was made there, unless ``keep`` was given, and
    lets go of one that was attached to: it lives on until its lease runs out.
    """

    def __init__(self, connection: Connection, origin: Origin) -> None:
        self._connection = connection
        self._origin = origin
        self._following = Following(origin.place, is_new=origin.request is not None)
        self._shared = False
        self._source: Source | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._taken: Delivered | Sign | None = None
        """Received, and not told yet."""
        self._told: Delivered | None = None
        """Told, and not acknowledged yet."""
        self._is_last = False
        self._ready: deque[Received[Item]] = deque()
        self._has_begun = self._is_over = False
        self._is_ours = False
        """Whether it is registered, and to be ended when it is closed."""
        request = origin.request
        is_about_jobs = request is not None and Kind.JOB in request.kinds
        self._pending = dict.fromkeys(request.ids) if request and is_about_jobs else None

    @property
    def id(self) -> str:
        """What ``Client.attach`` takes. Whoever knows it can read the subscription and end it."""
        return self._origin.id

    @property
    def positions(self) -> dict[str, int]:
        """The last position of each site that was told."""
        return self._following.positions

    @property
    def place(self) -> dict[str, tuple[int, int]]:
        """What to give to ``Client.attach`` so that a hole of the time between is told as Missed.

        Of each site the number of its last message and the last position; JSON holds it.
        """
        return self._following.place

    @property
    def pending(self) -> list[str] | None:
        """Those of the ids given here whose end has not been told here.

        None if it was attached to: ``Client.subscriptions`` says how many are left; and if it is
        not about jobs, as nothing else has an end.
        """
        return None if self._pending is None else list(self._pending)

    async def open(self) -> Self:
        """Begin. What is not acknowledged yet comes first.

        Raises UsageError, UnavailableError, AccessDeniedError, or GoneError if it is no more.
        """
        if not self._has_begun:
            try:
                source, lease = await self._begin()
            except BaseException:
                await self.close()
                self._is_over = False
                raise
            self._has_begun = True
            self._is_ours = self._is_ours and not self._origin.keep
            self._keeping = asyncio.create_task(self._keep_alive(source, lease))
        return self

    async def modify(
        self,
        *,
        add_ids: str | Iterable[str] = (),
        remove_ids: str | Iterable[str] = (),
        attributes: str | Iterable[str] | None = None,
    ) -> None:
        """Change what it is about; it keeps its place.

        How the jobs of added ids stand is told as at the beginning, up to another Boundary of each
        site. ``attributes`` replace those before, an empty list asks for all. The last id cannot be
        removed. Raises UsageError, GoneError, ConflictError if it is complete, UnavailableError
        (the change may have been made), AccessDeniedError.
        """
        request = modify_request(self.id, add_ids, remove_ids, attributes)
        with unless_gone(self.id):
            for part in split_modify(request, self._connection.nats.max_payload):
                await ask(self._connection, MODIFY, part, ModifyResponse)
        if self._pending is not None:
            self._pending |= dict.fromkeys(request.add_ids)
            for job_id in request.remove_ids:
                self._pending.pop(job_id, None)

    async def unsubscribe(self) -> None:
        """End it for everybody, and the iteration. Raises UnavailableError, AccessDeniedError."""
        await self._let_go()
        await self._unregister()

    async def close(self) -> None:
        """End the iteration; of what was made here and is not to be kept, the subscription too.

        Where the service cannot be told, its lease runs out.
        """
        await self._let_go()
        if self._is_ours:
            with suppress(PbscastError):
                await self._unregister()

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def receive(self) -> Received[Item]:
        """Return the next item with its message; the one before counts as handled.

        Raises StopAsyncIteration at the end.
        """
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            await self.open()
            assert self._source is not None  # noqa: S101 - it has begun
            await self._advance(self._source)
        return self._ready.popleft()

    async def _begin(self) -> tuple[Source, int]:
        request = self._origin.request
        if request is None:
            answer, is_repeated = await resume(self._connection, self.id, acknowledged=True)
            self._following.go_on(answer.acknowledged)
            source = self._choose(
                answer.delivery, answer, shared=answer.shared, is_doubtful=is_repeated
            )
            await source.open()
            return source, answer.lease
        if request.delivery is Delivery.AT_MOST_ONCE:
            # Listening comes first: what comes while nobody is there is gone.
            source = self._choose(request.delivery)
            await source.open()
            return source, (await self._register(request)).lease
        registered = await self._register(request)
        source = self._choose(request.delivery, registered, shared=request.shared)
        await source.open()
        return source, registered.lease

    def _choose(
        self,
        delivery: Delivery,
        answer: SubscribeResponse | RenewResponse | None = None,
        *,
        shared: bool = False,
        is_doubtful: bool = False,
    ) -> Source:
        self._shared = shared
        if delivery is Delivery.AT_MOST_ONCE or answer is None:
            self._source = Live(self._connection, self.id)
        else:
            name = answer.consumer or self.id
            self._source = Kept(
                self._connection, self.id, name, shared=shared, is_doubtful=is_doubtful
            )
        return self._source

    async def _register(self, request: SubscribeRequest) -> SubscribeResponse:
        first, rest = split_subscribe(request, self._connection.nats.max_payload)
        try:
            answer = await ask(self._connection, SUBSCRIBE, first, SubscribeResponse)
        except asyncio.CancelledError:
            # It may have been registered, or be at this moment.
            self._is_ours = not self._origin.keep
            raise
        self._is_ours = True
        for part in rest:
            await ask(self._connection, MODIFY, part, ModifyResponse)
        return answer

    async def _keep_alive(self, source: Source, lease: int) -> None:
        try:
            await keep_alive(self._connection, self.id, lease)
        except PbscastError as error:
            source.fail(error)

    async def _let_go(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        self._is_over = True
        self._ready.clear()
        if self._source is not None:
            await self._source.close()

    async def _unregister(self) -> None:
        with suppress(NotFoundError):
            request = UnsubscribeRequest(id=self.id)
            await ask(self._connection, UNSUBSCRIBE, request, UnsubscribeResponse)
        self._is_ours = False

    async def _advance(self, source: Source) -> None:
        """Take note that the last message was handled, and take the next. May be cancelled."""
        if self._told is not None:
            await self._finish(source, self._told)
            return
        if self._taken is None:
            self._taken = await self._receive(source)
        if not isinstance(self._taken, Sign):
            await self._digest(source, self._taken)
        elif self._taken is Sign.CLOSED:
            self._is_over = True
        else:
            self._ready.extend(Received(missed, None) for missed in self._all_missed())
        self._taken = None

    async def _receive(self, source: Source) -> Delivered | Sign:
        try:
            return await source.receive()
        except PbscastError as error:
            self._is_over = True
            # What somebody else reads now is not ours to end.
            self._is_ours = self._is_ours and not isinstance(error, ConflictError)
            raise

    async def _digest(self, source: Source, got: Delivered) -> None:
        message = _understand(got.data)
        is_last = isinstance(message, CompleteMessage)
        if is_last and self._shared and not await self._is_all_handled():
            await source.postpone(got)
            return
        self._ready.extend(self._tell(message, got))
        self._told, self._is_last = got, is_last

    async def _finish(self, source: Source, told: Delivered) -> None:
        if not self._is_last:
            await source.acknowledge(told)
        elif self._shared:
            # Each process is to hear it: closing gives it back. The lease runs out when none is
            # left.
            self._is_ours = False
            await source.close()
        else:
            await source.acknowledge(told)
            with suppress(PbscastError):
                await self._unregister()
        self._told, self._is_over = None, self._is_last

    async def _is_all_handled(self) -> bool:
        """Whether no other process holds a message that would be left behind if it died."""
        try:
            answer = await renew(self._connection, self.id)
        except GoneError:
            return True
        except UnavailableError:
            return False
        # The message that says complete is one of them.
        return answer.unhandled is None or answer.unhandled <= 1

    def _tell(
        self, message: SubscriptionMessage | Unreadable, delivered: Delivered
    ) -> Iterable[Received[Item]]:
        if isinstance(message, Unreadable):
            yield Received(message, delivered.data)
        elif isinstance(message, CompleteMessage):
            self._pending = None if self._pending is None else {}
            yield Received(Complete(), delivered.data)
        elif self._shared or not self._following.is_repeat(message, delivered.time):
            missed = None if self._shared else self._following.hole_before(message)
            if missed is not None:
                yield Received(missed, None)
            self._following.record(message, delivered.time)
            self._note_end(message)
            yield Received(_item(message), delivered.data)

    def _note_end(self, message: SiteMessage) -> None:
        if self._pending and (over := _ended_here(message)) is not None:
            self._pending.pop(over, None)

    def _all_missed(self) -> Iterable[Missed]:
        positions = self.positions
        if not positions:
            yield Missed(None, None, None)
        for site, position in positions.items():
            yield Missed(site, position, None)


def _understand(body: bytes) -> SubscriptionMessage | Unreadable:
    try:
        return decode(body)
    except DecodeError as error:
        return Unreadable(body, error)


def _item(message: SiteMessage) -> Item:
    match message:
        case BeginMessage():
            return Begin(message.site, message.position)
        case ObjectMessage():
            return message.object
        case BoundaryMessage():
            return Boundary({message.site: message.position})
        case EventMessage():
            return Matched(message.event, message.passage, message.standing, message.to)


def _ended_here(message: SiteMessage) -> str | None:
    """The id of the job whose last word this was."""
    if isinstance(message, EventMessage):
        is_over = message.passage is Passage.ENDED and message.to is None
        return message.event.id if is_over else None
    if isinstance(message, ObjectMessage):
        standing = message.object
        is_over = standing.ended is not None and standing.reason is not Reason.MOVED
        return standing.id if is_over else None
    return None
