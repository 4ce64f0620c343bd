"""`source check` beside a log that is written: lag, last event and who holds the site."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import psycopg
from harness.ingesting import as_reader, ingesting, is_resynced, wait_for
from harness.pbs import PbsServer
from typer.testing import CliRunner

from pbscast_deploy.cli import app
from pbscast_ingest.capture import Verdict, check
from pbscast_ingest.cursor import Cursor
from pbscast_store.log import Log
from pbscast_store.records import SiteRow


async def _said(log: Log, dsn: str, *earlier: SiteRow) -> dict[str, tuple[Verdict, str]]:
    answers = iter([earlier or await log.sites(), await log.sites()])
    report = await asyncio.to_thread(check, dsn, log=lambda: next(answers))
    return {found.subject: (found.verdict, found.text) for found in report.findings}


async def test_lag_and_holder(log: Log, captured: str) -> None:
    said = await _said(log, captured)
    assert said["log"] == (Verdict.WARN, "knows nothing of sitea yet")
    assert "lag" not in said
    async with ingesting(log, as_reader(captured), holder="here"):
        await wait_for(log, is_resynced)
        with PbsServer(captured) as pbs:
            pbs.submit("1.s")
        await wait_for(log, lambda records: any(r.id == "1.s" for r in records))
        said = await _said(log, captured)
        assert said["log"][0] is Verdict.OK
        assert re.match(r"3 events, the last \d s ago; here holds the site", said["log"][1])
    with PbsServer(captured) as pbs:
        pbs.submit("2.s")
        pbs.submit("3.s")
    said = await _said(log, captured)
    assert said["log"][0] is Verdict.WARN
    assert said["log"][1].endswith("; nobody holds the site")
    assert said["lag"][1].startswith("2 rows are not in the log yet, the oldest written")
    with psycopg.connect(captured, autocommit=True) as connection:
        connection.execute("TRUNCATE pbscast.journal")
    assert (await _said(log, captured))["lag"][0] is Verdict.WARN


async def test_a_row_that_was_read_and_trimmed_meanwhile_is_not_missed(
    log: Log, captured: str
) -> None:
    with (
        PbsServer(captured) as pbs,
        psycopg.connect(captured, autocommit=True) as connection,
    ):
        async with ingesting(log, as_reader(captured)):
            await wait_for(log, is_resynced)
            earlier = await log.sites()
            (top,) = (Cursor.load(row.cursor).top for row in earlier)
            pbs.submit("1.s")
            await asyncio.to_thread(_see_trimmed, connection, top)
            assert (await _said(log, captured, *earlier))["lag"][0] is Verdict.OK


def _see_trimmed(connection: psycopg.Connection, seq: int) -> None:
    while connection.execute("SELECT FROM pbscast.journal WHERE seq = %s", [seq]).fetchall():
        time.sleep(0.05)


def test_the_command(captured: str, log_dsn: str, tmp_path: Path) -> None:
    config = tmp_path / "pbscast.toml"
    command = ["source", "check", "--site", "sitea", "--dsn", captured]
    alone = CliRunner().invoke(app, command)
    assert (alone.exit_code, "--config" in alone.output) == (0, True)
    config.write_text(f'[log]\ndsn = "{log_dsn}"\n')
    beside = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert (beside.exit_code, "log: knows nothing of sitea yet" in beside.output) == (0, True)
    config.write_text('[log]\ndsn = "postgresql://nobody@127.0.0.1:9/x"\n')
    gone = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert (gone.exit_code, "FAIL  log: " in gone.output) == (1, True)
    assert "triggers on pbs.job: present" in gone.output
