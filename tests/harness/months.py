"""A log of many months, as appends would have left it, written by COPY because that is quicker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import asyncpg
from harness.jobs import EVENTS_A_JOB, interleaved_lives

from pbscast_store.chain import GENESIS
from pbscast_store.planning import EventRow, Tail, plan

SITE: Final = "sitea"
_STATES: Final = "TQQRRRREFF"
_OWNERS: Final = 1_000
_EVENT: Final = (*EventRow._fields, "site", "logged")
_SHARED: Final = ("site", "kind", "id", "owner", "queue", "project", "name", "incarnation")
_LIFE: Final = (
    *_SHARED,
    *("first_position", "last_position", "began", "ended", "gone", "reason", "exit_status"),
    *("state", "reached"),
)
_OBJECT: Final = (
    *_SHARED,
    *("first_position", "position", "began", "ended", "gone_at", "reason", "exit_status"),
    *("state", "reached", "revision", "finalized", "gone", "columns", "recent", "base"),
)


@dataclass
class _Job:
    number: int
    first: int
    began: datetime
    last: int = 0
    revision: int = 1

    @property
    def shared(self) -> tuple[Any, ...]:
        owner, name = f"user{self.number % _OWNERS}", f"name{self.number % 50}"
        return SITE, "job", f"{self.number}.{SITE}", owner, "workq", "_pbs_default", name, 1

    def life(self, ended: datetime | None) -> tuple[Any, ...]:
        reason, exit_status = (None, None) if ended is None else ("finished", 0)
        state = _STATES[self.revision - 1]
        reached = list(dict.fromkeys(_STATES[: self.revision]))
        rest = self.first, self.last, self.began, ended, ended, reason, exit_status, state, reached
        return *self.shared, *rest

    def row(self, ended: datetime | None) -> tuple[Any, ...]:
        is_over = ended is not None
        return *self.life(ended), self.revision, is_over, is_over, "{}", "{}", "{}"


class Months:
    """Jobs of ten events each, begun at even intervals, as many alive at any time as are asked for.

    Events stand in the order of their times, in partitions by month, the last of them today.
    """

    def __init__(
        self, connection: asyncpg.Connection, *, events: int, live: int, span: timedelta
    ) -> None:
        self._connection = connection
        self._lag = -(-live // (EVENTS_A_JOB - 1))
        self._begin = datetime.now(UTC) - span
        self._interval = span / (events // EVENTS_A_JOB + EVENTS_A_JOB * self._lag)
        self._payloads = _payloads()
        self._step = 0
        self._living: dict[int, _Job] = {}
        self.position = 0

    @property
    def now(self) -> datetime:
        """The time of the last event."""
        return self._time(self._step - 1)

    @property
    def ended(self) -> int:
        """Jobs 0 to this one have ended."""
        return self._step - 1 - (EVENTS_A_JOB - 1) * self._lag

    async def prepare(self) -> None:
        """Makes the partitions, without the first, whose bounds take in all that is old."""
        text = (
            "SELECT inhrelid::regclass FROM pg_inherits"
            " WHERE inhparent = 'pbscast_log.event'::regclass ORDER BY inhrelid LIMIT 1"
        )
        await self._connection.execute(f"DROP TABLE {await self._connection.fetchval(text)}")
        await self._connection.execute(
            "SELECT pbscast_log.make_partition(month) FROM"
            " generate_series(date_trunc('month', $1::timestamp), $2, interval '1 month') AS month",
            self._begin.replace(tzinfo=None),
            datetime.now(),  # noqa: DTZ005 - as the column of the function is
        )
        await self._connection.execute("INSERT INTO pbscast_log.site (name) VALUES ($1)", SITE)

    async def grow(self, events: int) -> None:
        """Writes until there are so many events or a few more."""
        await self._connection.execute("DELETE FROM pbscast_log.object WHERE ended IS NULL")
        while self.position < events:
            await self._write(1_000, events)
        living = [job.row(None) for job in self._living.values()]
        await self._copy("object", _OBJECT, living)
        await self._connection.execute("UPDATE pbscast_log.site SET position = $1", self.position)
        for table in ("event", "life", "object"):
            await self._connection.execute(f"VACUUM (ANALYZE) pbscast_log.{table}")

    async def _write(self, steps: int, events: int) -> None:
        rows: list[tuple[Any, ...]] = []
        over: list[tuple[_Job, datetime]] = []
        for _ in range(steps):
            at = self._time(self._step)
            for number in range(EVENTS_A_JOB):
                if (job := self._step - number * self._lag) >= 0:
                    rows.append(self._event(job, number, at))
                    if number == EVENTS_A_JOB - 1:
                        over.append((self._living.pop(job), at))
            self._step += 1
            if self.position >= events:
                break
        await self._copy("event", _EVENT, rows)
        await self._copy("life", _LIFE, [job.life(at) for job, at in over])
        await self._copy("object", _OBJECT, [job.row(at) for job, at in over])

    def _event(self, number: int, index: int, at: datetime) -> tuple[Any, ...]:
        self.position += 1
        if index == 0:
            self._living[number] = _Job(number, self.position, at)
        job = self._living[number]
        job.last, job.revision = self.position, index + 1
        event, payload = self._payloads[index]
        owner = f"user{number % _OWNERS}"
        head = self.position, at, 1, index + 1, "job", f"{number}.{SITE}"
        return *head, event, "journal", owner, payload, GENESIS, SITE, at

    def _time(self, step: int) -> datetime:
        return self._begin + step * self._interval

    async def _copy(
        self, table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]
    ) -> None:
        await self._connection.copy_records_to_table(
            table, schema_name="pbscast_log", records=rows, columns=columns
        )


def _payloads() -> list[tuple[str, str]]:
    """Event and payload of each event of a job."""
    drafts = islice(interleaved_lives(abreast=1), EVENTS_A_JOB)
    planned = plan(drafts, {}, Tail(SITE), datetime.now(UTC))
    return [(row.event, row.payload) for row in planned.events]
