"""Who stands in the way of an installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbscast_ingest.statements import capture_statement

if TYPE_CHECKING:
    import psycopg


def describe_holders(connection: psycopg.Connection) -> str:
    """The sessions that hold locks on PBS's tables or ours, longest transaction first."""
    rows = connection.execute(capture_statement("holders")).fetchall()
    return "; ".join(_describe(*row) for row in rows) or "sessions that have gone meanwhile"


def _describe(pid: int, application: str, user: str, state: str, age: int) -> str:
    return (
        f"pid {pid} ({application or 'unnamed'}, role {user}, {state or 'no state'}, for {age} s)"
    )
