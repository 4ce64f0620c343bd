"""The client: one kept connection, any number of watches on it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Unpack
from weakref import WeakSet

from pbscast.connection import Connection, ConnectionState
from pbscast.history import read_history
from pbscast.options import WatchOptions, plan_history, plan_watch
from pbscast.settings import Settings
from pbscast.watch import Watch

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from pbscast.events import AnyEvent
    from pbscast.history import Recorded


class Client:
    """What ``connect`` gives. It may be shared by any number of tasks of its event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watches: WeakSet[Watch] = WeakSet()

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
        self._watches.add(watch)
        return watch

    async def history(self, job_id: str, *, site: str | None = None) -> AsyncIterator[AnyEvent]:
        """Yield all that the log holds of a job, oldest first; of an array with its subjobs.

        It is asked page by page. Raises InvalidJobId, NotFoundError, UnavailableError and
        AccessDeniedError.
        """
        async for recorded in self.history_with_bodies(job_id, site=site):
            yield recorded.event

    async def history_with_bodies(
        self, job_id: str, *, site: str | None = None
    ) -> AsyncIterator[Recorded]:
        """As ``history``, with each event's CloudEvents JSON as it was on NATS."""
        async for recorded in read_history(self._connection, plan_history(job_id, site)):
            yield recorded

    async def _close(self) -> None:
        for watch in tuple(self._watches):
            await watch.close()


@asynccontextmanager
async def connect(
    servers: str | Sequence[str] | None = None,
    creds: str | os.PathLike[str] | None = None,
    *,
    connect_timeout: float = 5.0,
    on_state: Callable[[ConnectionState], None] | None = None,
) -> AsyncIterator[Client]:
    """Connect to NATS and give a Client; at the end close its watches and the connection.

    ``servers`` and ``creds`` (a NATS credentials file) default to the environment's
    ``PBSCAST_SERVERS`` and ``PBSCAST_CREDS``, then to ``nats://127.0.0.1:4222`` and none. A
    connection that is lost later comes back by itself, for ever; ``on_state`` is told of each
    change.

    Raises UnavailableError if no server takes us within ``connect_timeout`` seconds,
    AccessDeniedError if one refuses the credentials, ConfigError for settings that cannot be right.
    """
    settings = Settings.read(servers, creds, connect_timeout=connect_timeout)
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(Connection.open(settings, on_state))
        client = Client(connection)
        stack.push_async_callback(client._close)  # noqa: SLF001
        yield client
