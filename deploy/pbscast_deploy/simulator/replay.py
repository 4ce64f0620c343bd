"""Replays a trace as the PBS server wrote it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Self

from pbscast_deploy.simulator import saves
from pbscast_deploy.simulator.connection import PbsConnection, Statement
from pbscast_deploy.simulator.rows import LAYOUTS, Row
from pbscast_deploy.simulator.trace import Change

_WORKQ = {"queue_type": "11.Execution", "enabled": "11.True", "started": "11.True"}
_SCHEDULER = {
    "scheduling": "11.True",
    "scheduler_iteration": "11.600",
    "sched_host": "15.localhost",
}


class Replay:
    """Writes the changes of one trace, one autocommitted statement each, in order.

    It may be paused between changes; an error of the datastore ends it, as it ends a PBS server.
    """

    def __init__(self, changes: Sequence[Change], dsn: str) -> None:
        """Raises UnavailableError if the datastore cannot be reached. Blocks while it connects."""
        self._changes = changes
        self._connection = PbsConnection(dsn)
        self._rows: dict[tuple[str, str], Row] = {}
        self._running = asyncio.Event()
        self._running.set()
        self.position = 0
        """How many changes have been committed."""

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def begins(self) -> datetime:
        """The recorded time of the first change."""
        return self._changes[0].at

    async def seed(self) -> None:
        """Writes the rows that the trace presupposes: PBS had them before the recording began.

        They hold what their first recorded save holds. Call it once, on an empty datastore.
        """
        await asyncio.to_thread(self._seed)

    async def run(
        self,
        *,
        speed: float | None = None,
        origin: datetime | None = None,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        """Writes what is left: at the recorded timing with `speed` 1, N times faster with N.

        None is as fast as possible. `origin` is the recorded time that is now (by default that of
        the next change), so that several sites keep their common clock. `on_change` is called in
        the loop after each commit.
        Raises UnavailableError or ConflictError as PBS would panic.
        """
        pending = self._changes[self.position :]
        if not pending:
            return
        clock = _Clock(speed, origin or pending[0].at)
        for change in pending:
            if not self._running.is_set():
                await self._running.wait()
                clock.restart(change.at)
            await clock.wait_until(change.at)
            await asyncio.to_thread(self._write, change)
            self.position += 1
            if on_change is not None:
                on_change(change)

    def pause(self) -> None:
        """Holds it before the next change."""
        self._running.clear()

    def resume(self) -> None:
        """Goes on from where it was held; the time in between does not count."""
        self._running.set()

    def read_back(self, change: Change) -> Row | None:
        """The row that `change` wrote, equal to `change.row` byte for byte. Blocks."""
        return self._connection.read(change.table, change.key)

    def close(self) -> None:
        """Closes the connection. May be repeated."""
        self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _seed(self) -> None:
        for (table, key), row in _presupposed(self._changes).items():
            for statement in saves.insert(table, key, row):
                self._connection.execute(statement)
            self._rows[table, key] = row

    def _write(self, change: Change) -> None:
        first, *rest = self._statements(change)
        self._connection.save(first)
        for statement in rest:
            self._connection.execute(statement)

    def _statements(self, change: Change) -> list[Statement]:
        what = (change.table, change.key)
        before = self._rows.pop(what, None)
        if change.row is None:
            return saves.delete(*what)
        self._rows[what] = change.row
        if change.op == "INSERT":
            return saves.insert(*what, change.row)
        return saves.update(*what, change.row, before or change.row)


class _Clock:
    """Recorded time to loop time, by one fixed origin: no drift."""

    def __init__(self, speed: float | None, origin: datetime) -> None:
        self._speed = speed
        self.restart(origin)

    def restart(self, origin: datetime) -> None:
        self._origin = origin
        self._start = asyncio.get_running_loop().time()

    async def wait_until(self, at: datetime) -> None:
        if self._speed is None:
            return
        due = self._start + (at - self._origin).total_seconds() / self._speed
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


def _presupposed(changes: Sequence[Change]) -> dict[tuple[str, str], Row]:
    """First saves of rows that were never inserted, and the queue and scheduler each server has."""
    created = changes[0].at.replace(tzinfo=None).isoformat() if changes else ""
    rows = {
        ("queue", "workq"): _row("queue", created, {"qu_name": "workq", "qu_type": "1"}, _WORKQ),
        ("scheduler", "default"): _row("scheduler", created, {"sched_name": "default"}, _SCHEDULER),
    }
    seen: set[tuple[str, str]] = set()
    for change in changes:
        what = (change.table, change.key)
        if what not in seen and change.op == "UPDATE" and change.row is not None:
            rows[what] = change.row
        seen.add(what)
    return rows


def _row(table: str, created: str, columns: dict[str, str], attributes: dict[str, str]) -> Row:
    layout = LAYOUTS[table]
    times = {layout.saved: created, layout.created: created}
    return Row({**columns, **times}, attributes)
