"""Looking at capture in a datastore, without changing anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from pbscast_ingest.capture import findings, progress
from pbscast_ingest.capture.holders import describe_holders
from pbscast_ingest.capture.installation import refuse_another_site
from pbscast_ingest.capture.report import CheckReport, Finding, fail
from pbscast_ingest.capture.script import digest
from pbscast_ingest.capture.session import administrator
from pbscast_ingest.cursor import Cursor
from pbscast_ingest.faults import place
from pbscast_ingest.statements import capture_statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pbscast_store.records import SiteRow


def check(
    dsn: str, *, site: str | None = None, rows: Sequence[SiteRow] | None = None
) -> CheckReport:
    """Say in plain words whether capture works, and what to do where it does not.

    Args:
        dsn: of the datastore, as the PBS database user.
        site: the one that it should be.
        rows: what the log says of its sites; without it nobody knows how far it has read.

    Raises:
        ConflictError: it is another site's.
        PbscastError: the datastore cannot be asked, as `administrator` says.
    """
    with administrator(dsn) as connection:
        return CheckReport(place(dsn), tuple(_look(connection, place(dsn), site, rows)))


def _look(
    connection: psycopg.Connection, where: str, site: str | None, rows: Sequence[SiteRow] | None
) -> list[Finding]:
    seen = findings.Surroundings(*_ask(connection, "surroundings"))
    found = [findings.server(seen)]
    try:
        version = _ask(connection, "schema_version") if seen.has_pbs else None
        found.append(findings.schema(seen, version[0] if version else None))
        if not seen.has_installation:
            return [*found, findings.no_installation(seen)]
        refuse_another_site(connection, where, site)
        return found + _look_inside(connection, seen, rows)
    except psycopg.errors.InsufficientPrivilege:  # our own functions run as their owner
        return [*found, findings.rights(_lacking(connection, seen, "pbscast_owner"))]
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        text = f"cannot be looked at: {_first_line(error)}: {describe_holders(connection)}"
        advice = "changes are lost as long as a lock on the journal is held: end that session"
        return [*found, fail("locks", text, advice)]


def _look_inside(
    connection: psycopg.Connection, seen: findings.Surroundings, rows: Sequence[SiteRow] | None
) -> list[Finding]:
    advice = "run `pbscastd source upgrade`, which makes anew what is missing"
    try:
        answer = _ask(connection, "installation", {})
        if not answer:
            text = "parts are missing: pbscast.installation is empty"
            return [fail("installation", text, advice)]
        installed = findings.Installed(*answer)
        journal = findings.Journal(*_ask(connection, "journal", {"reader": installed.reader}))
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
        return [fail("installation", f"parts are missing: {_first_line(error)}", advice)]
    names = {"hstore": seen.hstore_schema, "reader": installed.reader}
    astray, creator = _ask(connection, "functions", names)
    reader = _ask(connection, "reader", {"reader": installed.reader})
    lacking = _lacking(connection, seen, installed.reader)
    is_known = installed.script == digest() and not findings.has_strange_functions(installed)
    told = next((row for row in rows or () if row.name == installed.site), None)
    return [
        findings.hstore(seen, astray if is_known else None, creator),
        findings.installation(installed),
        *findings.triggers(installed),
        findings.functions(installed),
        findings.rights(lacking),
        findings.switch(journal),
        findings.size(journal),
        findings.reading(installed.reader, journal, may_read=not lacking),
        *_look_at_log(connection, installed, rows),
        findings.last_row(journal),
        findings.losses(journal, Cursor.load(told.cursor).lost if told and told.cursor else None),
        findings.queue(seen),
        findings.reader(installed.reader, findings.Reader(*reader) if reader else None),
    ]


def _lacking(connection: psycopg.Connection, seen: findings.Surroundings, reader: str) -> list[str]:
    names = {"hstore": seen.hstore_schema, "reader": reader}
    answer = connection.execute(capture_statement("check/rights"), names)
    return [line for (line,) in answer.fetchall()]


def _look_at_log(
    connection: psycopg.Connection, installed: findings.Installed, rows: Sequence[SiteRow] | None
) -> list[Finding]:
    if rows is None:
        return []
    row = next((row for row in rows if row.name == installed.site), None)
    said = progress.log(installed.site, installed.identity, row, datetime.now(UTC))
    cursor = Cursor.load(row.cursor if row else None)
    if cursor.journal != installed.identity:
        return [said]
    lag = _ask(connection, "lag", {"top": cursor.top, **cursor.passed_over})
    return [said, progress.lag(cursor, progress.Lag(*lag))]


def _ask(
    connection: psycopg.Connection, name: str, values: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    return connection.execute(capture_statement(f"check/{name}"), values).fetchone() or ()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
