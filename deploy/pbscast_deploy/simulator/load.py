"""A steady load of changes, shaped like the lives of real jobs."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from pbscast_deploy.oracle import Saved
from pbscast_deploy.simulator import saves
from pbscast_deploy.simulator.connection import PbsConnection, Statement
from pbscast_deploy.simulator.jobs import QUEUES, Save, Site
from pbscast_deploy.simulator.lives import Life, Step, purge, random_life
from pbscast_deploy.simulator.record import saved_row
from pbscast_deploy.simulator.rows import LAYOUTS, Row

LIVE_JOBS: Final = 200
HISTORY_ROWS: Final = 500
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Pace:
    """What a run achieved."""

    changes: int
    seconds: float

    @property
    def rate(self) -> float:
        """Changes per second."""
        return self.changes / self.seconds if self.seconds else 0.0


class LoadGenerator:
    """One simulated PBS server that is kept busy by its users.

    Every change is one autocommitted statement on one connection. About 200 jobs live at a time and
    about a thousand rows stay as history, so it can go on for ever. `on_commit` is told of each
    committed change of a job right after its commit, in the writing thread (a `Record` is made for
    it). The same seed gives the same lives.
    """

    def __init__(
        self,
        dsn: str,
        site: str,
        *,
        history: bool = True,
        seed: int = 0,
        first_id: int = 10_000,
        on_commit: Callable[[Saved], None] | None = None,
    ) -> None:
        """Job ids from `first_id` on must be free. Raises UnavailableError. Blocks to connect."""
        self._dsn = dsn
        self._connection = PbsConnection(dsn)
        self._site = Site(site, history, random.Random(seed), time.time)  # noqa: S311 - a load
        self._next_id = first_id
        self._on_commit = on_commit
        self._lives: list[Life] = []
        self._past: deque[str] = deque()
        self._rows: dict[tuple[str, str], Row] = {}
        self._life: Life | None = None
        self._step: Step = ()
        self._done = 0
        self._in_flight: Save | None = None
        self._clock = datetime.now(UTC).replace(tzinfo=None)
        self._stopping = threading.Event()
        self.committed = 0
        """Changes committed so far, of all tables but the scripts'."""

    async def seed(self) -> None:
        """Writes the server, node, queues and scheduler unless they are there. Call it first."""
        await asyncio.to_thread(self._seed)

    async def run(
        self,
        *,
        rate: float | None = None,
        seconds: float | None = None,
        changes: int | None = None,
    ) -> Pace:
        """Writes until `seconds` or `changes` are over, `stop` is called or it is cancelled.

        `rate` is in changes per second, on an absolute schedule: a delay is made up for. None is as
        fast as one connection commits. Raises UnavailableError when the datastore goes away: call
        `reconnect` and run again.
        """
        self._stopping.clear()
        writing = asyncio.create_task(asyncio.to_thread(self._write, rate, seconds, changes))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            self.stop()
            await writing
            raise

    def stop(self) -> None:
        """Ends `run` after the change that is being written."""
        self._stopping.set()

    async def reconnect(self) -> None:
        """As PBS started again: finds out whether the statement in flight committed, and goes on.

        Raises UnavailableError while the datastore cannot be reached.
        """
        await asyncio.to_thread(self._reconnect)

    def close(self) -> None:
        """Closes the connection. May be repeated."""
        self._connection.close()

    async def __aenter__(self) -> Self:
        await self.seed()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _seed(self) -> None:
        name = self._site.name
        started = {"enabled": "11.True", "started": "11.True", "queue_type": "11.Execution"}
        node = {"nd_name": name, "nd_hostname": name, "nd_pque": ""}
        node |= dict.fromkeys(("mom_modtime", "nd_state", "nd_ntype", "nd_index"), "0")
        server = {"server_state": "11.Active", "default_queue": "11.workq"}
        self._ensure("server", name, {"sv_jobidnumber": "0"}, server)
        self._ensure("scheduler", "default", {"sched_name": "default"}, {"scheduling": "11.True"})
        self._ensure("node", name, node, {"Mom": f"11.{name}", "Port": "11.15002"})
        for queue in QUEUES:
            self._ensure("queue", queue, {"qu_name": queue, "qu_type": "1"}, started)

    def _ensure(
        self, table: str, key: str, columns: dict[str, str], attributes: dict[str, str]
    ) -> None:
        there = self._connection.read(table, key)
        if there is None:
            self._perform(Save(table, key, "INSERT", columns, attributes))
        else:
            self._rows[table, key] = there

    def _write(self, rate: float | None, seconds: float | None, changes: int | None) -> Pace:
        first, start = self.committed, time.monotonic()
        while not self._stopping.is_set():
            done, elapsed = self.committed - first, time.monotonic() - start
            if (seconds is not None and elapsed >= seconds) or done == changes:
                break
            early = 0.0 if rate is None else done / rate - elapsed
            if early > 0:
                self._stopping.wait(early)
                continue
            self._advance()
        return Pace(self.committed - first, time.monotonic() - start)

    def _advance(self) -> None:
        """Writes the next save; a step that was begun is finished first."""
        while self._done >= len(self._step):
            self._step, self._done = self._next_step(), 0
        self._perform(self._step[self._done])

    def _next_step(self) -> Step:
        if len(self._past) > HISTORY_ROWS:
            self._lives.append(purge([self._past.popleft() for _ in range(HISTORY_ROWS // 10)]))
        if len(self._lives) < LIVE_JOBS:
            self._lives.append(random_life(self._site, self._next_id))
            self._next_id += 1
        place = self._site.random.randrange(len(self._lives))
        self._life = self._lives[place]
        try:
            return next(self._life)
        except StopIteration as end:
            self._past.extend(end.value)
            self._forget(self._life)
            return ()

    def _forget(self, life: Life) -> None:
        place = self._lives.index(life)
        self._lives[place] = self._lives[-1]
        self._lives.pop()

    def _perform(self, save: Save) -> None:
        self._in_flight = save = self._stamped(save)
        first, *rest = self._statements(save)
        self._connection.save(first)
        self._note(save)
        for statement in rest:
            self._connection.execute(statement)

    def _note(self, save: Save) -> None:
        """It has committed; what comes after it, such as a script, may be lost in a crash."""
        self._in_flight = None
        self._done += 1
        self.committed += 1
        row = self._apply(save)
        if save.table == "job" and self._on_commit is not None:
            at = self._clock.replace(tzinfo=UTC)
            self._on_commit(saved_row(at, save.op, save.key, row))

    def _apply(self, save: Save) -> Row | None:
        what = (save.table, save.key)
        if save.op == "DELETE":
            self._rows.pop(what, None)
            return None
        row = self._rows.setdefault(what, Row({}, {}))
        row.columns.update(save.columns, **save.times)
        row.attributes.update(save.attributes)
        for name in save.removed:
            row.attributes.pop(name, None)
        return row

    def _stamped(self, save: Save) -> Save:
        """With its times, which are its own, so that it can be recognised after a crash."""
        now = datetime.now(UTC).replace(tzinfo=None)
        self._clock = max(now, self._clock + _MICROSECOND)
        if save.op == "DELETE":
            return save
        layout, stamp = LAYOUTS[save.table], _timestamp(self._clock)
        if save.op == "INSERT":
            return replace(save, times={layout.saved: stamp, layout.created: stamp})
        attributes = save.attributes
        quick = bool(save.columns) and not attributes
        if save.table == "job" and not (quick or save.removed):
            mtime = _previous_save(self._rows["job", save.key])
            attributes = {**attributes, "mtime": mtime}
        return replace(save, times={layout.saved: stamp}, attributes=attributes)

    def _statements(self, save: Save) -> list[Statement]:
        if save.op == "DELETE":
            return saves.delete(save.table, save.key)
        if save.op == "INSERT":
            row = Row({**save.columns, **save.times}, dict(save.attributes))
            return saves.insert(save.table, save.key, row)
        before = self._rows[save.table, save.key].columns
        return saves.write(
            LAYOUTS[save.table],
            save.key,
            {**before, **save.columns, **save.times},
            save.attributes,
            save.removed,
            struct=bool(save.columns),
        )

    def _reconnect(self) -> None:
        self._connection.close()
        self._connection = PbsConnection(self._dsn)
        if self._in_flight is not None and self._has_committed(self._in_flight):
            self._note(self._in_flight)
        if 0 < self._done < len(self._step) and self._life is not None:
            # What belongs together was torn apart; nobody knows what PBS would make of it.
            self._done = len(self._step)
            self._forget(self._life)

    def _has_committed(self, save: Save) -> bool:
        found = self._connection.read(save.table, save.key)
        if found is None or save.op == "DELETE":
            return (found is None) == (save.op == "DELETE")
        return all(found.columns[name] == time for name, time in save.times.items())


def _timestamp(at: datetime) -> str:
    """As PostgreSQL prints it: without trailing zeros."""
    return at.isoformat(timespec="microseconds").rstrip("0").rstrip(".")


def _previous_save(row: Row) -> str:
    """`mtime` is encoded before a save moves it on: it is always that of the save before."""
    saved = datetime.fromisoformat(row.columns["ji_savetm"]).replace(tzinfo=UTC)
    return f"11.{int(saved.timestamp())}"
