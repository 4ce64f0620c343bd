"""`pbscastd export` and `pbscastd archive` as an administrator uses them."""

from __future__ import annotations

import asyncio
import csv
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.archiving import THIN_ALL, archive, months_ago, whole, write_months
from harness.servers import Databases
from pyarrow import parquet
from typer.testing import CliRunner, Result

from pbscast import wire
from pbscast.errors import ConfigError, NotFoundError, UnavailableError, UsageError
from pbscast_deploy.cli import app
from pbscast_store.export import COLUMNS, Format, exporting
from pbscast_store.log import Log
from pbscast_store.records import Record

EACH = 60
MONTHS = 4
EVENTS = MONTHS * EACH
"""Of each of two sites."""

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def template(log_server: str, _log_template: str) -> Iterator[str]:
    databases = Databases(log_server)
    dsn = databases.create(_log_template)
    asyncio.run(_write(dsn))
    yield urlsplit(dsn).path.removeprefix("/")
    databases.drop_all()


async def _write(dsn: str) -> None:
    async with Log.open(dsn) as log:
        await write_months(log, dsn, "sitea", "siteb", each=EACH)


@pytest.fixture(scope="module")
def dsn(log_server: str, template: str) -> Iterator[str]:
    """A log to read alone."""
    databases = Databases(log_server)
    yield databases.create(template)
    databases.drop_all()


@pytest.fixture
def own_dsn(log_databases: Databases, template: str) -> str:
    """A log of the test's own."""
    return log_databases.create(template)


@pytest.fixture
def pbscastd(dsn: str, tmp_path: Path) -> Run:
    """Runs a command; what it raises is what `main` makes one line of."""
    return commands(dsn, tmp_path)


def commands(dsn: str, tmp_path: Path) -> Run:
    config = tmp_path / "pbscast.toml"
    config.write_text(
        f'[log]\ndsn = "{dsn}"\n[archive]\ndirectory = "{tmp_path / "archive"}"\n'
        '[retention]\nlive = "P0D"\n'
    )

    def run(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(app, [command, "--config", str(config), *arguments])

    return run


def records_of(dsn: str, directory: Path | None = None) -> list[Record]:
    async def read() -> list[Record]:
        async with Log.open(dsn, directory) as log:
            return [record for site in ("sitea", "siteb") for record in await whole(log, site)]

    return asyncio.run(read())


def test_json_lines_are_the_events_to_the_byte(pbscastd: Run, dsn: str, tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"

    result = pbscastd("export", "--format", "jsonl", "--out", str(out))

    assert result.exit_code == 0
    assert f"{2 * EVENTS} events" in result.stderr
    lines = out.read_bytes().splitlines()
    assert lines == [record.encode() for record in records_of(dsn)]
    assert wire.decode(lines[0]).position == 1


def test_csv_has_what_is_documented(pbscastd: Run, dsn: str, tmp_path: Path) -> None:
    out = tmp_path / "events.csv"

    assert pbscastd("export", "--format", "csv", "--out", str(out)).exit_code == 0

    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, records_of(dsn), strict=True):
        assert tuple(row) == COLUMNS
        assert (row["site"], int(row["position"]), row["id"]) == (
            record.site,
            record.position,
            record.id,
        )
        assert row["time"] == wire.format_time(record.time)
        assert row["payload"] == record.payload
        assert row["state"] == json.loads(record.payload)["state"]
        assert row["digest"] == (record.digest or b"").hex()
    assert {row["exit_status"] for row in rows if row["event"] == "finalize"} == {"0"}


def test_parquet_has_the_documented_schema(pbscastd: Run, dsn: str, tmp_path: Path) -> None:
    out = tmp_path / "events.parquet"

    assert pbscastd("export", "--format", "parquet", "--out", str(out)).exit_code == 0

    table = parquet.read_table(out)
    documented = (Path(__file__).parents[2] / "store" / "ARCHIVE.md").read_text()
    for field in table.schema:
        assert f"| `{field.name}` | {field.type} |" in documented
    records = records_of(dsn)
    assert table.num_rows == len(records)
    for row, record in zip(table.to_pylist(), records, strict=True):
        payload = json.loads(record.payload)
        for name in COLUMNS:
            told = payload.get(name) if name not in Record.__slots__ else getattr(record, name)
            assert row[name] == told, name


def test_a_selection_is_all_of_it_and_nothing_else(pbscastd: Run, dsn: str, tmp_path: Path) -> None:
    out = tmp_path / "some.jsonl"
    begin, end = months_ago(2), months_ago(1)

    result = pbscastd(
        *("export", "--format", "jsonl", "--out", str(out), "--site", "siteb"),
        *("--event", "state", "--event", "finalize", "--kind", "job", "--owner", "alice"),
        *("--from", begin.isoformat(), "--to", end.isoformat()),
    )

    assert result.exit_code == 0, result.exception
    expected = [
        record.encode()
        for record in records_of(dsn)
        if record.site == "siteb"
        and record.event in {"state", "finalize"}
        and begin <= record.time < end
    ]
    assert expected
    assert out.read_bytes().splitlines() == expected


def test_archive_says_what_it_did_and_export_reads_it(own_dsn: str, tmp_path: Path) -> None:
    pbscastd = commands(own_dsn, tmp_path)
    before = records_of(own_dsn)
    (tmp_path / "archive").mkdir()

    planned = pbscastd("archive", "--dry-run")
    done = pbscastd("archive")
    again = pbscastd("archive")

    assert planned.stdout.count("would be archived") == 6
    assert done.stdout.count(" archived, ") == 6
    assert f"sitea: event_p{months_ago(3):%Y%m}: events 1 to {EACH} archived" in done.stdout
    assert again.stdout == "nothing is old enough\n"
    out = tmp_path / "events.jsonl"
    assert pbscastd("export", "--format", "jsonl", "--out", str(out)).exit_code == 0
    assert out.read_bytes().splitlines() == [record.encode() for record in before]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_full_disk_leaves_the_old_file(pbscastd: Run, tmp_path: Path, form: str) -> None:
    out = tmp_path / "events"
    out.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        result = pbscastd("export", "--format", form, "--out", str(out))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert isinstance(result.exception, UnavailableError)
    assert str(result.exception) == f"{out}: cannot be written: File too large"
    assert out.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"events", "pbscast.toml"}


def test_wrong_input_is_said_at_once(pbscastd: Run, dsn: str, tmp_path: Path) -> None:
    export = ("export", "--format", "jsonl", "--out", str(tmp_path / "out"))
    for arguments, error, said in [
        (("--site", "nowhere"), NotFoundError, "known: sitea, siteb"),
        (("--from", "soon"), UsageError, "--from: not a time"),
        (("--from", "now", "--to", "1d"), UsageError, "the period is empty"),
        (("--from", "0001-01-01T00:00:00Z"), UsageError, "--from: '0001-01-01T00:00:00Z' lies"),
        (("--spreadsheet",), UsageError, "--spreadsheet: only with --format csv"),
    ]:
        result = pbscastd(*export, *arguments)
        assert isinstance(result.exception, error)
        assert said in str(result.exception)
    assert not (tmp_path / "out").exists()

    config = tmp_path / "pbscast.toml"
    config.write_text(f'[log]\ndsn = "{dsn}"\n')
    result = pbscastd("archive")
    assert isinstance(result.exception, ConfigError)
    assert "archive.directory: not set" in str(result.exception)


def test_what_is_archived_elsewhere_is_not_left_out(own_dsn: str, tmp_path: Path) -> None:
    asyncio.run(archive(own_dsn, tmp_path / "moved"))

    result = commands(own_dsn, tmp_path)(
        "export", "--format", "csv", "--out", str(tmp_path / "out")
    )

    assert isinstance(result.exception, NotFoundError)
    assert str(tmp_path / "archive" / "sitea") in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_thinned_events_are_counted(own_dsn: str, tmp_path: Path) -> None:
    """A reader who counts positions finds holes: he is told how many there have to be."""
    written = records_of(own_dsn)
    asyncio.run(archive(own_dsn, tmp_path / "archive", THIN_ALL))
    left = {(r.site, r.position) for r in records_of(own_dsn, tmp_path / "archive")}
    gone = [r for r in written if (r.site, r.position) not in left]
    assert gone
    moment = gone[len(gone) // 2].time
    since = sum(record.time >= moment for record in gone)
    run = commands(own_dsn, tmp_path)
    for arguments, number in [
        ((), len(gone)),
        (("--site", "sitea"), sum(record.site == "sitea" for record in gone)),
        (("--event", "usage"), len(gone)),
        (("--event", "submit"), 0),
        (("--kind", "node"), 0),
        (("--from", moment.isoformat()), since),
        (("--to", moment.isoformat()), len(gone) - since),
    ]:
        result = run("export", "--format", "csv", "--out", str(tmp_path / "out"), *arguments)
        said = f"{number} thinned usage events of that time are not in it" in result.stderr
        assert said == (number > 0), (arguments, number, result.stderr)
        assert ("thinned usage" in result.stderr) == (number > 0)


def test_no_cell_for_a_spreadsheet_is_a_formula(dsn: str, tmp_path: Path) -> None:
    evil = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
    names = [*evil, "1=1", "'=1", ""]
    record = records_of(dsn)[0]
    kept = {"owner": "alice", "state": "F", "exit_status": -1}
    for spreadsheet in (False, True):
        out = tmp_path / "events.csv"
        with exporting(out, Format.CSV, spreadsheet=spreadsheet) as put:
            for name in names:
                put(replace(record, payload=json.dumps({**kept, "name": name})))
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        marked = [f"'{name}" if spreadsheet and name in evil else name for name in names]
        assert [row["name"] for row in rows] == marked
        assert {row["exit_status"] for row in rows} == {"-1"}


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_file_that_cannot_be_made_is_wrong_usage(
    pbscastd: Run, tmp_path: Path, form: str
) -> None:
    (tmp_path / "file").touch()
    for out, reason in [
        (tmp_path, "Is a directory"),
        (tmp_path / "nowhere" / "x", "No such file or directory"),
        (tmp_path / "file" / "x", "Not a directory"),
    ]:
        for command in (
            ("export", "--format", form, "--out", str(out)),
            ("report", "--from", "1d", "--html", str(out)),
        ):
            result = pbscastd(*command)
            assert isinstance(result.exception, UsageError), command
            assert str(result.exception) == f"{out}: cannot be written: {reason}"


def test_standard_output_is_a_file_like_any_other(pbscastd: Run) -> None:
    whole = pbscastd("export", "--format", "csv", "--out", "-", "--site", "sitea")
    assert len(whole.stdout.splitlines()) == EVENTS + 1
    assert f"standard output is written: {EVENTS} events" in whole.stderr
    refused = pbscastd("export", "--format", "parquet", "--out", "-")
    assert isinstance(refused.exception, UsageError)
