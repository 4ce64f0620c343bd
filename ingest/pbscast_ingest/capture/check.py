"""Looking at capture in a datastore, without changing anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from pbscast.errors import PbscastError
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
    from collections.abc import Callable, Mapping, Sequence

    from pbscast_store.records import SiteRow


def check(
    dsn: str, *, site: str | None = None, log: Callable[[], Sequence[SiteRow]] | None = None
) -> CheckReport:
    """Say in plain words whether capture works, and what to do where it does not.

    Args:
        dsn: of the datastore, as the PBS database user.
        site: the one that it should be.
        log: asks the log for its sites; without it nobody knows how far it has read. What it
            raises as PbscastError is a finding like others.

    Raises:
        ConflictError: it is another site's.
        PbscastError: the datastore cannot be asked, as `administrator` says.
    """
    with administrator(dsn) as connection:
        asked = _Log(log)
        found = _look(connection, place(dsn), site, asked)
        return CheckReport(place(dsn), (*found, *asked.trouble))


class _Log:
    """What the log says; once it does not answer it is asked no more."""

    def __init__(self, ask: Callable[[], Sequence[SiteRow]] | None) -> None:
        self._ask = ask
        self.trouble: list[Finding] = []

    @property
    def is_known(self) -> bool:
        return self._ask is not None

    def site(self, name: str) -> SiteRow | None:
        if self._ask is None:
            return None
        try:
            return next((row for row in self._ask() if row.name == name), None)
        except PbscastError as error:
            advice = "pbscastd waits for it; the journal grows meanwhile"
            self.trouble = [fail("log", str(error), advice)]
            self._ask = None
            return None


def _look(connection: psycopg.Connection, where: str, site: str | None, log: _Log) -> list[Finding]:
    seen = findings.Surroundings(*_ask(connection, "surroundings"))
    found = [findings.server(seen)]
    try:
        version = _ask(connection, "schema_version") if seen.has_pbs else None
        found.append(findings.schema(seen, version[0] if version else None))
        if not seen.has_installation:
            return [*found, findings.no_installation(seen)]
        refuse_another_site(connection, where, site)
        return found + _look_inside(connection, seen, log)
    except psycopg.errors.InsufficientPrivilege:  # our own functions run as their owner
        return [*found, findings.rights(_lacking(connection, seen, "pbscast_owner"))]
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        text = f"cannot be looked at: {_first_line(error)}: {describe_holders(connection)}"
        advice = "changes are lost as long as a lock on the journal is held: end that session"
        return [*found, fail("locks", text, advice)]


def _look_inside(
    connection: psycopg.Connection, seen: findings.Surroundings, log: _Log
) -> list[Finding]:
    advice = "run `pbscastd source upgrade`, which makes anew what is missing"
    try:
        answer = _ask(connection, "installation", {})
        if not answer:
            text = "parts are missing: pbscast.installation is empty"
            return [fail("installation", text, advice)]
        installed = findings.Installed(*answer)
        before = log.site(installed.site)
        journal = findings.Journal(*_ask(connection, "journal", {"reader": installed.reader}))
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
        return [fail("installation", f"parts are missing: {_first_line(error)}", advice)]
    names = {"hstore": seen.hstore_schema, "reader": installed.reader}
    astray, creator = _ask(connection, "functions", names)
    reader = _ask(connection, "reader", {"reader": installed.reader})
    lacking = _lacking(connection, seen, installed.reader)
    is_known = installed.script == digest() and not findings.has_strange_functions(installed)
    lag = _ask_lag(connection, before)
    # It reads on meanwhile: what was there when it was asked first may rightly be gone by now.
    after = log.site(installed.site) or before
    return [
        findings.hstore(seen, astray if is_known else None, creator),
        findings.installation(installed),
        *findings.triggers(installed),
        findings.functions(installed),
        findings.rights(lacking),
        findings.switch(journal),
        findings.size(journal),
        findings.reading(installed.reader, journal, may_read=not lacking),
        *(_judge_log(installed, before, after, lag) if log.is_known else ()),
        findings.last_row(journal),
        findings.losses(journal, _told(after), _told(before)),
        findings.queue(seen),
        findings.reader(installed.reader, findings.Reader(*reader) if reader else None),
    ]


def _lacking(connection: psycopg.Connection, seen: findings.Surroundings, reader: str) -> list[str]:
    names = {"hstore": seen.hstore_schema, "reader": reader}
    answer = connection.execute(capture_statement("check/rights"), names)
    return [line for (line,) in answer.fetchall()]


def _ask_lag(connection: psycopg.Connection, row: SiteRow | None) -> progress.Lag:
    cursor = Cursor.load(row.cursor if row else None)
    return progress.Lag(*_ask(connection, "lag", {"top": cursor.top, **cursor.passed_over}))


def _judge_log(
    installed: findings.Installed,
    before: SiteRow | None,
    after: SiteRow | None,
    lag: progress.Lag,
) -> list[Finding]:
    said = progress.log(installed.site, installed.identity, after, datetime.now(UTC))
    then, now = (Cursor.load(row.cursor if row else None) for row in (before, after))
    if {then.journal, now.journal} != {installed.identity}:
        return [said]
    return [said, progress.lag(then, now, lag)]


def _told(row: SiteRow | None) -> int | None:
    return Cursor.load(row.cursor).lost if row and row.cursor else None


def _ask(
    connection: psycopg.Connection, name: str, values: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    return connection.execute(capture_statement(f"check/{name}"), values).fetchone() or ()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
