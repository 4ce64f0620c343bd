"""Helpers for tests of capture: PBS's one connection, the journal as the reader sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pbscast_ingest.capture.findings import count_losses

PROMISED: Final = 0.165
"""Seconds that a save is held up at most, and what it takes by itself."""

BOUND: Final = 0.4
"""The same on a machine that is busy."""

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(dsn: str, **settings: str) -> Connection:
    """An autocommit connection that hands text out as UTF-8."""
    return psycopg.connect(make_conninfo(dsn, client_encoding="utf8", **settings), autocommit=True)


@contextmanager
def connected(dsn: str, **settings: str) -> Iterator[Connection]:
    """A connection that is closed at the end."""
    with connect(dsn, **settings) as connection:
        yield connection


def pairs(values: Sequence[str | None]) -> dict[str | None, str | None]:
    """The journal's k, v, k, v, … as a mapping."""
    return dict(zip(values[::2], values[1::2], strict=True))


@dataclass
class Pbs:
    """Saves rows as PBS does, one autocommitted statement each, and remembers the slowest."""

    connection: Connection
    slowest: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def insert(self, key: str = "1.s", **attributes: str) -> None:
        """A new job row; attributes are raw text, flags and all."""
        self.run(
            "INSERT INTO pbs.job VALUES (%s, 1, 10, 33, 0, 'workq', '', 1, 0, 0, 0, 0, 0, '', 0, 7,"
            " localtimestamp, localtimestamp, hstore(%s::text[]))",
            [key, flat(attributes)],
        )

    def save(self, key: str = "1.s", **attributes: str) -> None:
        """The attr-only form."""
        self.run(
            "UPDATE pbs.job SET ji_savetm = localtimestamp,"
            " attributes = attributes || hstore(%s::text[]) WHERE ji_jobid = %s",
            [flat(attributes), key],
        )

    def quick(self, key: str = "1.s", *, svrflags: int) -> None:
        """The columns-only form."""
        self.run(
            "UPDATE pbs.job SET ji_savetm = localtimestamp, ji_svrflags = %s WHERE ji_jobid = %s",
            [svrflags, key],
        )

    def remove(self, *names: str, key: str = "1.s") -> None:
        """The form that takes attributes away."""
        self.run(
            "UPDATE pbs.job SET ji_savetm = localtimestamp, attributes = attributes - %s::text[]"
            " WHERE ji_jobid = %s",
            [list(names), key],
        )

    def delete(self, key: str = "1.s") -> None:
        self.run("DELETE FROM pbs.job WHERE ji_jobid = %s", [key])

    def run(self, statement: str, values: Sequence[Any] | None = None) -> None:
        """Any statement."""
        start = time.monotonic()
        self.connection.execute(statement.encode(), values)
        self.slowest = max(self.slowest, time.monotonic() - start)

    def value(self, name: str, key: str = "1.s") -> str | None:
        """An attribute as the datastore has it."""
        row = self.connection.execute(
            "SELECT attributes -> %s FROM pbs.job WHERE ji_jobid = %s", [name, key]
        ).fetchone()
        return row[0] if row else None


def flat(attributes: Mapping[str, str]) -> list[str]:
    """A mapping as k, v, k, v, …"""
    return [text for pair in attributes.items() for text in pair]


def journal(connection: Connection, ops: str = "IUDT") -> list[dict[str, Any]]:
    """The rows of the journal with one of the ops, in order."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "SELECT seq, xid, at, op::text, kind, key, created, columns, changed, before, removed,"
            " context FROM pbscast.journal WHERE strpos(%s, op::text) > 0 ORDER BY seq",
            [ops],
        )
        return cursor.fetchall()


def gaps(connection: Connection) -> list[tuple[str, str | None]]:
    """Cause and phase of each gap marker."""
    return [(row["key"], pairs(row["context"])["phase"]) for row in journal(connection, "G")]


def lost(connection: Connection) -> int:
    """How often the counter of losses moved."""
    row = connection.execute(
        "SELECT coalesce(pg_sequence_last_value('pbscast.gap_seq'), 0)"
    ).fetchone()
    return count_losses(row[0]) if row else 0
