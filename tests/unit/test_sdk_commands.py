"""What is wrong with a command line is said in one line, before anything is asked of a server."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError

from pbscast.cli import app
from pbscast.cli.gathering import counted
from pbscast.cli.running import invoke
from pbscast.errors import UnavailableError, UsageError
from pbscast.newfile import new_file
from pbscast.requests import AtRequest, HistoryRequest, JobsRequest
from pbscast.times import parse_time


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pbscast", *arguments])
    return invoke(app, "pbscast")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wach"], "No such command 'wach'"),
        (["watch", "--colour"], "No such option"),
        (["history", "19x"], "illegally formed job identifier: '19x'"),
        (["history"], "of which jobs? Give a JOBID, or at least one filter"),
        (
            ["history", "19.a", "--since", "1h", "--until", "2h"],
            "--since has to be before --until: 2",
        ),
        (["history", "19.a", "--html", "x", "--json"], "exclude one another"),
        (["history", "19.a", "--verbose", "--json"], "exclude one another"),
        (["history", "--owner", "bob", "--verbose"], "--verbose tells of given jobs"),
        (["history", "19.a", "--limit", "3"], "give --events or --json"),
        (["history", "19.a", "--html", "x", "--after", "a:3"], "give --events or --json"),
        (["history", "19.a", "--json", "--limit", "0"], "'--limit'"),
        (["history", "n1", "--kind", "node", "--html", "x"], "--verbose and --html are for jobs"),
        (["history", "n1", "--kind", "vnode"], "'vnode' is not one of"),
        (["history", "19.a", "--json", "--after", "a:3,b"], "--after: 'b' is not SITE:N"),
        (["history", "19.a", "--html", "/no/x.html"], "/no/x.html: cannot be written: No such"),
        (["history", "19.a", "--html", "/tmp"], "/tmp: cannot be written: Is a directory"),
        (["jobs", "--exit-status", "one"], "'--exit-status'"),
        (["jobs", "--reason", "bored"], "'bored' is not one of"),
        (["jobs", "--limit", "0"], "'--limit'"),
        (["jobs", "--after", "3"], "--after: '3' is not SITE:N"),
        (["at"], "TIME is missing"),
        (["at", "soon"], "TIME: not a time: 'soon'"),
        (["at", "--position", "sitea"], "--position: 'sitea' is not SITE:N"),
        (["diff", "2h"], "TIME2 is missing"),
        (["jobs", "--since", "1h", "--until", "2h"], "--since has to be before --until: 2"),
        (["diff", "1h", "2h"], "TIME1 has to be before TIME2: 2"),
        (["diff", "--position", "sitea:5"], "--position: 'sitea' is not SITE:N"),
        (["diff", "--position", "sitea:5:4"], "--position: 'sitea:5:4' goes back: 4 is before 5"),
    ],
    ids=str,
)
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    status = run(monkeypatch, *arguments, "--servers", "nats://127.0.0.1:1")
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("pbscast: ")
    assert message in err
    assert err.count("\n") == 1


def test_servers_may_be_given_before_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--servers", "http://x", "history", "19.a") == 2
    assert "not the URL of a NATS server: 'http://x'" in capsys.readouterr().err
    assert run(monkeypatch, "--servers", "http://x", "jobs", "--servers", "http://y") == 2
    assert "not the URL of a NATS server: 'http://y'" in capsys.readouterr().err


async def test_a_pipe_needs_no_progress_bar_and_no_table() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    assert [number async for number in counted(numbers(), "numbers")] == [0, 1, 2]
    code = "import sys, pbscast.cli; print({'rich.progress', 'rich.table'} & {*sys.modules})"
    found = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    out, _ = await found.communicate()
    assert out == b"set()\n"


def test_no_command_is_answered_by_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 2
    assert "Commands:" in capsys.readouterr().err


def test_plotly_is_asked_for_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.startswith("pbscast.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert run(monkeypatch, "history", "19.a", "--html", str(tmp_path / "x.html")) == 2
    assert capsys.readouterr().err == (
        "pbscast: --html needs plotly: pip install 'pbscast[plots]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_exit_status_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    other = typer.Typer()

    @other.command()
    def leave() -> None:
        raise typer.Exit(3)

    monkeypatch.setattr(sys, "argv", ["other"])
    assert invoke(other, "other") == 3


def test_a_file_is_new_as_a_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail_halfway() -> None:
        with new_file(path) as file:
            file.write("half")
            raise UnavailableError("gone")

    with pytest.raises(UnavailableError):
        fail_halfway()
    assert [item.name for item in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "old"
    with new_file(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="cannot be written: No space"),
        new_file(tmp_path / "x"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_times_as_people_type_them() -> None:
    now = datetime.now(UTC)
    today = now.astimezone().replace(minute=5, second=0, microsecond=0)
    assert abs(parse_time("now", "x") - now) < timedelta(seconds=5)
    assert abs(now - timedelta(hours=2) - parse_time("2h", "x")) < timedelta(seconds=5)
    assert parse_time(f"{today:%H}:05", "x") == today
    assert parse_time(f"today {today:%H:%M}", "x") == today
    yesterday = (today - timedelta(days=1)).date()
    assert parse_time("yesterday 14:05", "x").astimezone().date() == yesterday
    assert parse_time("yesterday", "x").astimezone().hour == 0
    assert parse_time("2026-11-22T14:05Z", "x") == datetime(2026, 11, 22, 14, 5, tzinfo=UTC)
    assert parse_time("2026-11-22 14:05", "x").astimezone().hour == 14


@pytest.mark.parametrize("text", ["0001-01-01T00:00Z", "1969-12-31", "90000d"])
def test_what_lies_before_all_logs(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--since: '{text}' lies before 1970$"):
        parse_time(text, "--since")


@pytest.mark.parametrize(
    ("model", "field"),
    [(HistoryRequest, "begin"), (JobsRequest, "end"), (AtRequest, "moment")],
)
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-05:00"])
def test_what_no_clock_shows_is_refused(
    model: type[HistoryRequest | JobsRequest | AtRequest], field: str, time: str
) -> None:
    with pytest.raises(ValidationError, match="between the years 1970 and 9999"):
        model.model_validate({field: time})


@pytest.mark.parametrize("text", ["", "soon", "25:00", "9999999999999d", "yesterday noon", "-2h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--since: not a time: '.*expected 2026-"):
        parse_time(text, "--since")
