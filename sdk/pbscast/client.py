"""The client: one kept connection, any number of watches on it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Unpack
from weakref import WeakSet

from pbscast.asking import ask, pages
from pbscast.connection import Connection, ConnectionState
from pbscast.history import page_size, read_history, to_go_on
from pbscast.options import WatchOptions, plan_watch
from pbscast.requests import (
    AT,
    DIFFERENCE,
    JOBS,
    AtRequest,
    AtResponse,
    DifferenceRequest,
    DifferenceResponse,
    HistoryRequest,
    JobsRequest,
    JobsResponse,
    SnapshotRequest,
)
from pbscast.selection import SelectionOptions, request
from pbscast.settings import Settings
from pbscast.snapshot import Snapshot
from pbscast.subscribing import (
    SubscribeOptions,
    check_key,
    check_place,
    subscribe_request,
)
from pbscast.subscription import Origin, Subscription
from pbscast.subscriptions import (
    LIST,
    UNSUBSCRIBE,
    ListRequest,
    ListResponse,
    UnsubscribeRequest,
    UnsubscribeResponse,
)
from pbscast.watch import Watch

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from pbscast.events import AnyEvent
    from pbscast.history import Recorded
    from pbscast.lives import Difference, Life, Standing
    from pbscast.subscriptions import Registered


class Client:
    """What ``connect`` gives. It may be shared by any number of tasks of its event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._readers: WeakSet[Watch | Subscription] = WeakSet()

    @property
    def state(self) -> ConnectionState:
        """Whether the connection stands just now; a watch goes on by itself when it is back."""
        return self._connection.state

    def watch(
        self, job_ids: str | Iterable[str] | None = None, **options: Unpack[WatchOptions]
    ) -> Watch:
        """Return a Watch over the events for which every given criterion holds.

        ``job_ids`` are as ``qstat`` takes them: ``19.sitea``, ``19`` (of any server),
        ``6[1].sitea``, ``6[].sitea`` (the array and all its subjobs). The other criteria are
        ``sites``, ``owners``, ``queues``, ``states`` (after the event), ``kinds`` and ``events``.
        ``job_ids``, ``owners``, ``queues`` and ``states`` select jobs; capture's own events
        (gap, resync, up, down) come beside them with ``kinds=("job", "site")``.

        ``start`` is one of ``now()`` (the default), ``last()``, ``beginning()``, ``since(time)``
        and ``after(positions)``; after what lies in the past a Boundary is told.

        ``until_finished`` needs ``job_ids`` and ends the iteration when each has had its finalize;
        it starts with ``last()`` unless told otherwise, so that jobs which have already ended
        count. Of a job nothing is told after its finalize. A job that was moved to another site is
        followed there: a finalize with reason ``moved`` ends nothing, unless ``sites`` names one
        site alone. If that other site is not aggregated, nobody will tell its end.

        Raises InvalidJobId and UsageError; network errors come from the Watch.
        """
        plan = plan_watch(job_ids, **options)
        watch = Watch(self._connection, plan.criteria, plan.start, plan.endings)
        self._readers.add(watch)
        return watch

    def subscribe(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        keep: bool = False,
        **options: Unpack[SubscribeOptions],
    ) -> Subscription:
        """Return a Subscription with a filter that the fan-out tier keeps and applies.

        An object belongs to it while every given criterion holds: ``kinds`` (jobs unless given),
        ``sites``, ``ids`` (complete, up to 100,000; that of an array covers its subjobs),
        ``owners``, ``queues``, ``projects``, ``names`` (with ``*`` and ``?``), ``states``, and
        ``where``, an expression over attributes: ``'Resource_List.ncpus >= 64 and state == "R"'``.
        Of what belongs ``events`` and ``attributes`` choose the events; ``attributes`` also cut
        what is told. Of each site first how everything stands that belongs, a Standing each, up to
        a Boundary, then what happens, a Matched each, without a hole and without a repeat between
        the two. Jobs that match later join. Of a job that has belonged the finalize is always told,
        last, and nothing after it; a job that is moved to another site is followed. When every job
        that ``ids`` name has ended, Complete is told, the subscription goes, and the iteration
        ends.

        It lives for ``lease`` seconds (10 to 30 days, 600 unless given) after it was renewed last,
        which a Subscription does by itself. ``keep=True`` lets it live on for that time when
        ``async with`` is left, so that ``attach`` can resume it. ``shared=True``: several processes
        attach, each message goes to one of them, and to another if that one dies; no order is
        promised, and holes cannot be seen. ``delivery="at-most-once"``: nothing is kept for a
        reader that is away or slow.

        Raises UsageError; network errors, and what the service refuses, come from the Subscription.
        """
        asked = subscribe_request(ids, options)
        assert asked.id is not None  # noqa: S101 - subscribe_request gives one
        return self._subscription(Origin(asked.id, asked, keep=keep))

    def attach(
        self, subscription_id: str, *, place: Mapping[str, Sequence[int]] | None = None
    ) -> Subscription:
        """Return a Subscription that is there already, to go on with it or to share it.

        It goes on behind what was acknowledged last, after a restart or days later, as long as its
        lease runs. ``place`` is what ``Subscription.place`` said then: with it a hole, if the
        reader was away for longer than messages are kept, is told as Missed. Of a subscription that
        is not shared, whoever attaches takes over: another reader gets ConflictError.

        Raises UsageError; network errors, and GoneError, come from the Subscription.
        """
        key = check_key(subscription_id)
        return self._subscription(Origin(key, place=None if place is None else check_place(place)))

    async def subscriptions(self) -> AsyncIterator[Registered]:
        """Yield the registered subscriptions, by id. Raises UnavailableError, AccessDeniedError."""
        async for page in pages(self._connection, LIST, ListRequest(), ListResponse):
            for registered in page.subscriptions:
                yield registered

    async def unsubscribe(self, subscription_id: str) -> bool:
        """End a subscription, whoever reads it; return whether there was one.

        Raises UsageError, UnavailableError, AccessDeniedError.
        """
        asked = UnsubscribeRequest(id=check_key(subscription_id))
        return (await ask(self._connection, UNSUBSCRIBE, asked, UnsubscribeResponse)).was_there

    def _subscription(self, origin: Origin) -> Subscription:
        subscription = Subscription(self._connection, origin)
        self._readers.add(subscription)
        return subscription

    async def history(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = False,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> AsyncIterator[AnyEvent]:
        """Yield all that the log holds of a job, oldest first; of an array with its subjobs.

        Instead of ids, or beside them, select jobs by ``sites``, ``names`` (with ``*`` and ``?``),
        ``owners``, ``projects``, ``queues``, ``states`` (the last one), ``reached`` (any that they
        were in), ``reasons`` and ``exit_statuses`` of their lives; objects of another ``kind`` too.
        ``begin`` (included) and ``end`` (not included) bound the events' times.

        A site's events keep the order of their positions; between sites the time decides, but what
        a job did after a move comes after its finalize at the site it left. It is asked page by
        page; ``limit`` events at most. To go on later, ask the same with ``after``: of each site
        the position of the last event told, ``{event.site: event.position}``; a site that it does
        not name is told from its first event in the order asked for.

        Raises InvalidJobId, UsageError, NotFoundError (an id or a site of which the log knows
        nothing), UnavailableError and AccessDeniedError.
        """
        async for recorded in self.history_with_bodies(
            ids,
            begin=begin,
            end=end,
            newest_first=newest_first,
            after=after,
            limit=limit,
            **selection,
        ):
            yield recorded.event

    async def history_with_bodies(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = False,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> AsyncIterator[Recorded]:
        """As ``history``: each event, its CloudEvents JSON as it was on NATS, and hand-overs.

        ``Recorded.hand_over`` tells where a job's story goes on at another site.
        """
        asked = request(
            HistoryRequest,
            ids,
            selection,
            begin=begin,
            end=end,
            newest_first=newest_first,
            after=to_go_on(after),
            limit=page_size(limit),
        )
        async for recorded in read_history(self._connection, asked, limit):
            yield recorded

    async def jobs(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        newest_first: bool = True,
        after: Mapping[str, int] | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> AsyncIterator[Life]:
        """Yield one row for each life that matches, ended or not, the latest begun first.

        The selection is that of ``history``; ``begin`` and ``end`` select lives that lasted into
        that time. To go on later, ask the same with ``after``: of each site the first position of
        the last life told, ``{life.site: life.first_position}``. Raises as ``history``.
        """
        asked = request(
            JobsRequest,
            ids,
            selection,
            begin=begin,
            end=end,
            newest_first=newest_first,
            after=to_go_on(after),
        )
        async for page in pages(self._connection, JOBS, asked, JobsResponse):
            for life in page.lives:
                yield life

    def snapshot(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        attributes: bool = False,
        **selection: Unpack[SelectionOptions],
    ) -> Snapshot:
        """Return an async iterator over how all matching objects stand now: those that live.

        An object that is asked for by id is told even if it has ended. ``Snapshot.positions`` says
        from where to follow them. The selection is that of ``history``; raises as it does.
        """
        asked = request(SnapshotRequest, ids, selection, attributes=attributes)
        return Snapshot(self._connection, asked)

    async def at(
        self,
        moment: datetime | Mapping[str, int],
        ids: str | Iterable[str] | None = None,
        *,
        attributes: bool = False,
        **selection: Unpack[SelectionOptions],
    ) -> AsyncIterator[Standing]:
        """Yield how all matching objects stood at a time, or at a position of each site given.

        Those are told that were live then; an object that is asked for by id even if it had ended,
        in its latest life that had begun. ``states`` are those of that moment. Ordered by site,
        then by beginning. Raises as ``history``, NotFoundError also where the log begins later,
        UsageError where it does not go so far.
        """
        asked = request(AtRequest, ids, selection, moment=moment, attributes=attributes)
        async for page in pages(self._connection, AT, asked, AtResponse):
            for standing in page.objects:
                yield standing

    async def difference(
        self,
        begin: datetime | Mapping[str, int],
        end: datetime | Mapping[str, int],
        ids: str | Iterable[str] | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> AsyncIterator[Difference]:
        """Yield what two moments differ in: objects that appeared, ended or changed between them.

        An object whose events in between left nothing changed is not told; one that both appeared
        and ended is. Both moments are times, or positions of the same sites. ``states`` select
        objects that stood so at either. Raises as ``at``.
        """
        asked = request(DifferenceRequest, ids, selection, begin=begin, end=end)
        async for page in pages(self._connection, DIFFERENCE, asked, DifferenceResponse):
            for difference in page.objects:
                yield difference

    async def _close(self) -> None:
        for reader in tuple(self._readers):
            await reader.close()


@asynccontextmanager
async def connect(
    servers: str | Sequence[str] | None = None,
    creds: str | os.PathLike[str] | None = None,
    *,
    broker: str | os.PathLike[str] | None = None,
    ca: str | os.PathLike[str] | None = None,
    connect_timeout: float = 5.0,
    on_state: Callable[[ConnectionState], None] | None = None,
) -> AsyncIterator[Client]:
    """Connect to NATS and give a Client; at the end close its watches and the connection.

    ``servers``, ``creds`` (a NATS credentials file) or instead of it ``broker`` (the socket of one
    that hands them out, and the servers' names), and ``ca`` (a file with the certificates of the
    authority that vouches for the servers, if it is none of those that everybody trusts) default to
    the environment's ``PBSCAST_SERVERS``, ``PBSCAST_CREDS``, ``PBSCAST_BROKER`` and ``PBSCAST_CA``,
    then to ``nats://127.0.0.1:4222`` and nothing. Credentials are looked for again before they
    expire. A connection that is lost later comes back by itself, for ever; ``on_state`` is told of
    each change.

    Raises UnavailableError if no server takes us within ``connect_timeout`` seconds,
    AccessDeniedError if one refuses the credentials, ConfigError for settings that cannot be right
    and servers whose certificate is not trusted.
    """
    settings = Settings.read(servers, creds, broker=broker, ca=ca, connect_timeout=connect_timeout)
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(Connection.open(settings, on_state))
        client = Client(connection)
        stack.push_async_callback(client._close)  # noqa: SLF001
        yield client
