"""PBS's recorded accounting agrees with the log of the recorded traces, and no tampering passes."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest
import typer
from harness.archiving import DAY, THIN_ALL, archive, give_past, months_ago, write_at
from harness.recorded import log_recording, recording
from harness.servers import Databases
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pbscast.errors import NotFoundError
from pbscast.events import ChangePayload, EventName, GapPayload, Kind, Provenance
from pbscast.wire import encode_payload
from pbscast_deploy.accounting.files import AccountingFiles
from pbscast_deploy.accounting.findings import Finding, FindingKind, Summary
from pbscast_deploy.accounting.judgement import FORCED
from pbscast_deploy.accounting.reconciliation import TOLERANCE, Reconciliation
from pbscast_deploy.cli.reconcile import reconcile
from pbscast_store.drafts import Draft
from pbscast_store.log import Log
from pbscast_store.records import Record

SITES: Final = ("sitea", "siteb")
DATA: Final = Path(str(files("pbscast_deploy").joinpath("traces", "accounting")))
LINES: Final = {
    site: (DATA / f"{site}-20261122").read_bytes().splitlines(keepends=True) for site in SITES
}


class Recorded:
    def __init__(self, log_dsn: str, records: dict[str, list[Record]]) -> None:
        self.log_dsn = log_dsn
        self.records = records


@pytest.fixture(scope="module")
def recorded(
    datastore_server: str, _datastore_template: str, log_server: str, _log_template: str
) -> Iterator[Recorded]:
    """Both sites in one log, through capture and ingest."""
    datastores, logs = Databases(datastore_server), Databases(log_server)
    dsns = {site: datastores.create(_datastore_template) for site in SITES}
    log_dsn = logs.create(_log_template)

    async def record() -> dict[str, list[Record]]:
        async with Log.open(log_dsn) as log:
            return {site: await log_recording(log, dsn, site) for site, dsn in dsns.items()}

    yield Recorded(log_dsn, asyncio.run(record()))
    datastores.drop_all()
    logs.drop_all()


async def compare(
    log: Log, site: str, *paths: Path, tolerance: timedelta = TOLERANCE
) -> tuple[list[Finding], Summary]:
    work = Reconciliation(log, site, AccountingFiles(paths, UTC), tolerance)
    findings = [finding async for finding in work.run()]
    return findings, work.summary


@contextmanager
def file_of(lines: list[bytes], name: str = "20261122") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_bytes(b"".join(lines))
        yield path


def compare_lines(
    records: list[Record], site: str, lines: list[bytes], name: str = "20261122"
) -> tuple[list[Finding], Summary]:
    with file_of(lines, name) as path:
        return asyncio.run(compare(recording(records), site, path))


# ------------------------------------------------------------------ what was recorded agrees

EXPLAINED: Final = {
    "sitea": {},
    # qdel -W force: PBS deletes the row from E/53, and saves no Exit_status in it before.
    "siteb": {("1002.siteb", "E", "Exit_status 265"): FORCED},
}
UNTOLD: Final = {
    # An R and a z record have usage, which PBS saves with F alone; run_count=0 of two array parents
    # is a number that was never set.
    "sitea": {"resources_used": 12, "run_count": 2},
    # A site without history never saves usage: its ends are deletions.
    "siteb": {"resources_used": 48, "run_count": 1},
}


@pytest.mark.parametrize("site", SITES)
async def test_recorded_accounting_agrees_with_the_log(site: str, recorded: Recorded) -> None:
    async with Log.open(recorded.log_dsn) as log:
        findings, summary = await compare(log, site, DATA / f"{site}-20261122")
    explained = {(f.id, f.what, f.expected): f.explained for f in findings}
    assert explained == EXPLAINED[site]
    assert dict(summary.untold) == UNTOLD[site]
    assert summary.records.total() == len(LINES[site])
    assert summary.differences == 0


@pytest.mark.parametrize("site", SITES)
def test_every_step_of_the_log_has_its_record(site: str, recorded: Recorded) -> None:
    findings, summary = compare_lines(recorded.records[site], site, [])
    wanted = Counter(line.split(b";")[1].decode() for line in LINES[site])
    # A deletion is asked for more than once, and of jobs that then end by themselves; an alteration
    # is one of many ways to modify.
    for letter in ("A", "D", "a"):
        wanted.pop(letter, None)
    missing = +Counter({letter: summary.unrecorded[letter] for letter in wanted})
    assert missing == wanted
    assert {finding.kind for finding in findings} == {FindingKind.NO_RECORD}


def test_without_a_log_nothing_goes_with_any_record(recorded: Recorded) -> None:
    only_up = recorded.records["sitea"][:1]
    only_up = [replace(only_up[0], time=datetime(2026, 11, 1, tzinfo=UTC))]
    findings, summary = compare_lines(only_up, "sitea", LINES["sitea"])
    assert summary.differing.total() == len(LINES["sitea"])
    assert {finding.kind for finding in findings} == {FindingKind.NO_EVENT}


# ------------------------------------------------------------------ tampering

PAIRED: Final = frozenset("QSERMzrUYBK")
"""Types of which each record has an event of its own and the other way round."""

Tampering = tuple[str, int, list[bytes]]
"""The site, the line that was changed, what became of it."""


def _letter(line: bytes) -> str:
    return line.split(b";")[1].decode()


def _id(line: bytes) -> str:
    return line.split(b";")[2].decode()


def _is_paired(line: bytes) -> bool:
    return _letter(line) in PAIRED


def _ends_a_queued_job(line: bytes) -> bool:
    """These four end at once, and nothing else says so."""
    return _letter(line) in "AD" and _id(line) in ("4.sitea", "7.sitea", "3.siteb", "4.siteb")


PLACES: Final = [(site, number) for site in SITES for number in range(len(LINES[site]))]


def _places(is_meant: Callable[[bytes], bool]) -> st.SearchStrategy[tuple[str, int]]:
    return st.sampled_from([place for place in PLACES if is_meant(LINES[place[0]][place[1]])])


def _change(line: bytes, pattern: bytes, value: bytes) -> bytes:
    return re.sub(pattern, lambda match: match[1] + value, line, count=1)


def _removed(place: tuple[str, int]) -> Tampering:
    return (*place, [])


def _doubled(place: tuple[str, int]) -> Tampering:
    line = LINES[place[0]][place[1]]
    return (*place, [line, line])


@st.composite
def _invented(draw: st.DrawFn) -> Tampering:
    site, number = draw(_places(lambda line: _letter(line) != "D"))
    line = LINES[site][number]
    parts = line.split(b";", 3)
    parts[2] = b"R777." + site.encode() if parts[2].startswith(b"R") else b"777." + site.encode()
    return site, number, [line, b";".join(parts)]


@st.composite
def _shifted(draw: st.DrawFn) -> Tampering:
    site, number = draw(_places(lambda line: _is_paired(line) or _ends_a_queued_job(line)))
    line = LINES[site][number]
    seconds = draw(st.integers(120, 7200)) * draw(st.sampled_from([1, -1]))
    moment = datetime.strptime(line[:19].decode(), "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC)
    moment += timedelta(seconds=seconds)
    return site, number, [moment.strftime("%m/%d/%Y %H:%M:%S").encode() + line[19:]]


def _has(field: bytes) -> Callable[[bytes], bool]:
    return lambda line: _letter(line) in "QSERM" and b" " + field + b"=" in line.replace(b";", b" ")


@st.composite
def _falsified(draw: st.DrawFn) -> Tampering:
    names = [b"user", b"group", b"project", b"jobname", b"queue", b"ctime", b"destination"]
    name = draw(st.sampled_from([*names, b"start", b"exec_host", b"Exit_status"]))
    # What the datastore never held cannot be looked up: a parent's host, a forced end's status.
    is_told: dict[bytes, Callable[[bytes], bool]] = {
        b"Exit_status": lambda line: _id(line) != "1002.siteb",
        b"exec_host": lambda line: _letter(line) == "S",
    }
    has, told = _has(name), is_told.get(name, bool)
    site, number = draw(_places(lambda line: has(line) and told(line)))
    return site, number, [_change(LINES[site][number], rb"([ ;]" + name + rb"=)\S+", b"86399")]


@st.composite
def _falsified_usage(draw: st.DrawFn) -> Tampering:
    used = b"resources_used."
    site, number = draw(
        _places(lambda line: _letter(line) == "E" and used in line and b".sitea" in line)
    )
    name = draw(st.sampled_from([b"cput", b"mem", b"walltime", b"ncpus", b"vmem"]))
    pattern = rb"(resources_used\." + name + rb"=)\S+"
    line = LINES[site][number]
    return site, number, [_change(line, pattern, draw(st.sampled_from([b"1", b"99:00:00"])) + b"7")]


TAMPERINGS: Final = st.one_of(
    _places(lambda line: _is_paired(line) or _ends_a_queued_job(line)).map(_removed),
    # R10 is confirmed a second time four seconds later: that may well have a record.
    _places(lambda line: _is_paired(line) and _letter(line) != "Y").map(_doubled),
    _invented(),
    _shifted(),
    _falsified(),
    _falsified_usage(),
)


@settings(max_examples=80, deadline=None)
@given(tampering=TAMPERINGS)
def test_no_tampering_passes(tampering: Tampering, recorded: Recorded) -> None:
    site, number, instead = tampering
    lines = [*LINES[site][:number], *instead, *LINES[site][number + 1 :]]
    findings, summary = compare_lines(recorded.records[site], site, lines)
    names = {_id(line) for line in [LINES[site][number], *instead]}
    about = {finding.id for finding in findings if finding.explained is None}
    assert about
    assert about <= names, "others than the one that was changed are said to differ"
    assert summary.differences > 0


@settings(max_examples=40, deadline=None)
@given(
    place=st.sampled_from(PLACES),
    noise=st.binary(max_size=40),
    where=st.integers(0, 200),
    cut=st.integers(0, 400),
)
def test_noise_loses_no_other_line(
    place: tuple[str, int], noise: bytes, where: int, cut: int, recorded: Recorded
) -> None:
    site, number = place
    line = LINES[site][number]
    noisy = line[:where] + noise + line[where + cut :]
    lines = [*LINES[site][:number], noisy, *LINES[site][number + 1 :]]
    findings, summary = compare_lines(recorded.records[site], site, lines)
    others = {_id(line) for line in LINES[site]} - {_id(line)}
    assert summary.records.total() + summary.broken >= len(LINES[site]) - 2
    assert sum(f.kind is FindingKind.BROKEN for f in findings) == summary.broken
    bad = [f for f in findings if f.explained is None and f.id in others and f.place]
    # The line that follows is part of the noise if the line end went; no other suffers.
    assert {f.place.line for f in bad if f.place} <= {number + 1, number + 2}


# ------------------------------------------------------------------ gaps, periods


def test_what_fell_into_a_gap_is_explained_and_counted_apart(recorded: Recorded) -> None:
    records = recorded.records["sitea"]
    begin = datetime(2026, 11, 22, 9, 37, 8, tzinfo=UTC)
    end = datetime(2026, 11, 22, 9, 37, 14, tzinfo=UTC)
    lost = [r for r in records if r.id.startswith("6[") and begin <= r.time <= end]
    payload = encode_payload(GapPayload(begin=begin, end=end, cause="journal full"))
    gap = replace(
        records[0], kind=Kind.SITE, id="sitea", event=EventName.GAP, time=end, payload=payload
    )
    left = [r for r in records if r not in lost]
    after = next(i for i, r in enumerate(left) if r.time > end and r.kind == Kind.JOB)
    told = [*left[:after], gap, *left[after:]]
    told = [replace(record, position=n) for n, record in enumerate(told, 1)]
    findings, summary = compare_lines(told, "sitea", LINES["sitea"])
    assert summary.differences == 0
    assert {f.id for f in findings} == {r.id for r in lost}
    because = {f.explained for f in findings}
    assert because == {
        "explained by a gap from 2026-11-22 09:37:08Z to 2026-11-22 09:37:14Z (journal full)"
    }
    assert summary.explained.total() == len(findings) == 11


def test_only_what_the_files_cover_is_compared(recorded: Recorded) -> None:
    """Any part of the records agrees: what came before and after is not asked for."""
    for site in SITES:
        lines = LINES[site]
        for begin in range(0, len(lines), 7):
            part = lines[begin : begin + 20]
            findings, _ = compare_lines(recorded.records[site], site, part, "some")
            assert [f for f in findings if f.explained is None] == []


def test_files_may_come_in_any_order(recorded: Recorded) -> None:
    lines = LINES["sitea"]
    with file_of(lines[:30], "a") as first, file_of(lines[30:], "b") as second:
        log = recording(recorded.records["sitea"])
        findings, summary = asyncio.run(compare(log, "sitea", second, first))
    assert findings == []
    assert summary.records.total() == len(lines)


def test_one_date_in_the_far_future_makes_no_other_difference(recorded: Recorded) -> None:
    lines = [
        line.replace(b"11/22/2026", b"11/22/2099") if n == 5 else line
        for n, line in enumerate(LINES["sitea"])
    ]
    findings, _ = compare_lines(recorded.records["sitea"], "sitea", lines)
    assert [(f.kind, f.id, f.place.line if f.place else 0) for f in findings] == [
        (FindingKind.TIME, _id(lines[5]), 6)
    ]


async def test_a_site_that_the_log_does_not_know(recorded: Recorded) -> None:
    async with Log.open(recorded.log_dsn) as log:
        with pytest.raises(NotFoundError, match="nowhere"):
            await compare(log, "nowhere", DATA / "sitea-20261122")


async def test_a_log_whose_last_events_were_thinned(log_dsn: str, tmp_path: Path) -> None:
    """A site that is no more: its last months are archived, and end with usage."""
    moment = months_ago(1) + DAY
    await give_past(log_dsn, 1)
    usage = ChangePayload(owner="alice", state="R", changed={"resources_used.mem": "1kb"})
    job = partial(Draft, Kind.JOB, "1.sitea", time=moment, provenance=Provenance.JOURNAL)
    first = job(event=EventName.SUBMIT, payload=usage, begins=True)
    drafts = [first, *(job(event=EventName.USAGE, payload=usage) for _ in range(5))]
    async with Log.open(log_dsn) as log:
        await write_at(log, "sitea", moment, drafts)
    await archive(log_dsn, tmp_path, THIN_ALL)
    async with Log.open(log_dsn, tmp_path) as log:
        with file_of(LINES["sitea"][:1]) as path:
            _, summary = await compare(log, "sitea", path)
    assert summary.records.total() == 1
    assert summary.events == 0


# ------------------------------------------------------------------ the command


@pytest.fixture
def config(recorded: Recorded, tmp_path: Path) -> Path:
    path = tmp_path / "pbscast.toml"
    path.write_text(f'[log]\ndsn = "{recorded.log_dsn}"\n')
    return path


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(reconcile)
    return app


def _command(*arguments: str | Path, text: bytes | None = None) -> tuple[int, list[str]]:
    result = CliRunner().invoke(_app(), [str(argument) for argument in arguments], input=text)
    return result.exit_code, result.output.splitlines()


def test_the_command_says_that_all_agrees(config: Path) -> None:
    given_ = ("--config", config, "--site", "sitea", "--timezone", "UTC")
    status, said = _command(*given_, DATA / "sitea-20261122")
    assert status == 0
    assert said[-1] == "all agrees"
    status, said = _command(*given_, "-", text=b"".join(LINES["sitea"]))
    assert (status, said[-1]) == (0, "all agrees")


def test_the_command_tells_each_difference_on_a_line(config: Path) -> None:
    given_ = ("--config", config, "--site", "sitea", "--timezone", "UTC")
    lines = [*LINES["sitea"][:7], *LINES["sitea"][8:], b"nonsense\n"]
    lines[-2] = lines[-2].replace(b"R10", b"R11")
    with file_of(lines) as path:
        status, said = _command(*given_, path)
        as_json = _command(*given_, "--json", path)
    assert status == as_json[0] == 1
    assert f"{path}:{len(lines)}: broken line: cut short: 1 of 4 parts between ;" in said
    lost = "log: 2.sitea E: expected a record (ended) at 2026-11-22 09:36:58Z, found none"
    assert any(line.startswith(lost) for line in said)
    assert any(line.startswith(f"{path}:{len(lines) - 1}: R11.sitea K: expected") for line in said)
    assert said[-1] == "differences: 4"
    *findings, summary = map(json.loads, as_json[1])
    assert summary["kind"] == "summary"
    assert summary["differences"] == len(findings) == 4
    assert {finding["kind"] for finding in findings} == {"broken line", "no record", "no event"}


def test_the_command_hints_at_a_wrong_time_zone(config: Path) -> None:
    given_ = ("--config", config, "--site", "sitea", "--timezone", "Asia/Tokyo")
    status, said = _command(*given_, DATA / "sitea-20261122")
    assert status == 1
    assert any("is --timezone the PBS server's?" in line for line in said)


def test_the_command_needs_a_site_that_is_there(config: Path) -> None:
    arguments = ["--config", config, "--site", "nowhere", DATA / "sitea-20261122"]
    with pytest.raises(NotFoundError, match="no such site"):
        CliRunner().invoke(_app(), [*map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--site", "sitea", "missing"], "cannot be read"),
        (["--site", "sitea", "--timezone", "Mars", str(DATA / "sitea-20261122")], "no such time"),
        (["--site", "sitea", "--tolerance", "-1", str(DATA / "sitea-20261122")], "greater"),
        *(
            (["--site", "sitea", "--tolerance", seconds, str(DATA / "sitea-20261122")], "86400")
            for seconds in ("inf", "1e12", "nan")
        ),
        (["--site", "sitea"], "Missing argument"),
    ],
)
def test_a_wrong_command_line_is_status_2(config: Path, arguments: list[str], said: str) -> None:
    status, lines = _command("--config", config, *arguments)
    assert status == 2
    assert said in " ".join(lines)
