"""A log as the first release left it: its schema, filled by its own statements."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from pbscast_store.drafts import Draft
from pbscast_store.folds import FoldRow
from pbscast_store.heads import Head, ObjectKey
from pbscast_store.planning import Plan, Tail, plan
from pbscast_store.statements import migration_table, migrations

_SQL = Path(__file__).parent.parent / "data" / "log_0001"


class OlderLog:
    """A writer and reader of the first release: its SQL, and rows in the shape of its types."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.heads: dict[str, dict[ObjectKey, Head]] = {}
        self.tails: dict[str, Tail] = {}
        self.epochs: dict[str, int] = {}

    async def make(self) -> None:
        """Its schema, in an empty database."""
        first = migrations()[0]
        await self.connection.execute(migration_table())
        await self.connection.execute(first.script)
        await self.connection.execute(
            "INSERT INTO pbscast_log.migration VALUES ($1, $2)", first.number, first.name
        )

    async def acquire(self, site: str) -> None:
        await self.connection.execute(
            "INSERT INTO pbscast_log.site (name) VALUES ($1) ON CONFLICT DO NOTHING", site
        )
        row = await self.connection.fetchrow(_query("acquire_lease"), site, "older", 60.0)
        assert row is not None
        self.epochs[site] = row["epoch"]
        self.tails.setdefault(site, Tail(site))
        self.heads.setdefault(site, {})

    async def append(self, site: str, drafts: Iterable[Draft]) -> bool:
        """False: fenced off."""
        before = self.tails[site]
        planned = plan(drafts, self.heads[site], before, datetime(2026, 1, 1, tzinfo=UTC))
        fenced = await self.connection.fetchrow(
            _query("append"),
            site,
            self.epochs[site],
            before.position,
            planned.tail.position,
            json.dumps({"position": planned.tail.position}),
            [event[:-1] for event in planned.events],
            [_fold(row) for row in planned.folds],
        )
        if fenced is None:
            return False
        self._remember(site, planned)
        return True

    async def read(self, site: str, after: int) -> list[asyncpg.Record]:
        return await self.connection.fetch(_query("read_events"), site, after, 1000, 1_000_000)

    def _remember(self, site: str, planned: Plan) -> None:
        self.tails[site] = planned.tail
        self.heads[site] |= planned.heads


def _fold(row: FoldRow) -> tuple[object, ...]:
    return (
        row.position,
        row.incarnation,
        row.revision,
        row.substate,
        row.finalized,
        row.gone,
        row.kind,
        row.id,
        row.born,
        row.owner,
        row.queue,
        row.project,
        row.name,
        row.state,
        row.columns,
        row.recent,
        row.base,
    )


def _query(name: str) -> str:
    return (_SQL / f"{name}.sql").read_text()
