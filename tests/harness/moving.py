"""Stories of jobs at several sites, as drafts for their logs; each event comes a second later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.fanning import write

from pbscast.events import ChangePayload, EventName, FinalizePayload, Kind, Provenance, Reason
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

BEGIN = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def _times(begin: datetime) -> Iterator[datetime]:
    while True:
        begin += timedelta(seconds=1)
        yield begin


@dataclass
class Story:
    """What happens, in order, at all sites."""

    log: Log
    times: Iterator[datetime] = field(default_factory=lambda: _times(BEGIN))

    async def server(self, site: str, host: str = "") -> int:
        """The site is there, its server known by a host name."""
        payload = ChangePayload(changed={"server_host": host or site})
        return await self._write(site, Kind.SERVER, site, EventName.CREATE, payload)

    async def run(self, site: str, *jobs: str, begins: bool = False) -> int:
        """Jobs run; `begins`: in a life of their own."""
        payload = ChangePayload(owner="alice", queue="workq", state="R")
        drafts = [
            self._draft(Kind.JOB, job, EventName.STATE, payload, begins=begins) for job in jobs
        ]
        return await write(self.log, site, drafts)

    async def end(self, site: str, *jobs: str, to: str | None = None) -> int:
        """Jobs end, or go to another server."""
        reason = Reason.MOVED if to else Reason.FINISHED
        destination = f"workq@{to}" if to else None
        payload = FinalizePayload(owner="alice", reason=reason, destination=destination)
        drafts = [
            self._draft(Kind.JOB, job, EventName.FINALIZE, payload, ends=True) for job in jobs
        ]
        return await write(self.log, site, drafts)

    async def purge(self, site: str, job: str) -> int:
        """What is left of a job goes from the datastore."""
        return await self._write(site, Kind.JOB, job, EventName.PURGE, ChangePayload())

    async def _write(
        self, site: str, kind: Kind, name: str, event: EventName, payload: ChangePayload
    ) -> int:
        return await write(self.log, site, [self._draft(kind, name, event, payload)])

    def _draft(
        self,
        kind: Kind,
        name: str,
        event: EventName,
        payload: ChangePayload | FinalizePayload,
        **flags: Any,
    ) -> Draft:
        time = next(self.times)
        return Draft(kind, name, event, time, Provenance.JOURNAL, payload, **flags)
