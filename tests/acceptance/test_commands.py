"""`pbscastd` as an administrator uses it: every trouble is one clear line and an exit status."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer.main
from harness.commands import execute
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from pbscast_deploy.cli import app, main
from pbscast_deploy.embedded import PostgresServer
from pbscast_deploy.simulator.datastore import create_datastore
from pbscast_ingest.capture import install as install_capture

LIMIT = 60.0


def pbscastd(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    with contextlib.chdir(cwd):
        done = execute(main, "pbscastd", *arguments)
    return subprocess.CompletedProcess(arguments, done.status, done.out, done.err)


def pbscastd_apart(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a user's."""
    return subprocess.run(
        [sys.executable, "-m", "pbscast_deploy", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: str, status: int = 1) -> None:
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("pbscastd: ")
    for part in parts:
        assert part in lines[0]
    assert result.returncode == status


def has_capture(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT to_regnamespace('pbscast') IS NOT NULL").fetchone()
        assert found is not None
        return bool(found[0])


def test_install_check_pause_resume_uninstall(datastore_dsn: str, tmp_path: Path) -> None:
    site = ("--site", "sitea", "--dsn", datastore_dsn)

    missing = pbscastd_apart("source", "check", *site, cwd=tmp_path)
    assert missing.returncode == 1
    assert "source install" in missing.stdout + missing.stderr

    absent = pbscastd("source", "upgrade", *site, cwd=tmp_path)
    assert_one_line(absent, "not installed", status=5)
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS commands_reader")
    reader = ("--reader", "commands_reader")

    installed = pbscastd("source", "install", *site, *reader, cwd=tmp_path)
    assert (installed.returncode, installed.stderr) == (0, "")
    assert "1024 MB, with doorbell" in installed.stdout
    passfile = tmp_path / "pbscast-sitea.pgpass"
    assert passfile.stat().st_mode & 0o777 == 0o600
    settings = tomllib.loads(installed.stdout.partition("# for pbscast.toml:")[2])["site"][0]
    assert settings["name"] == "sitea"
    options = conninfo_to_dict(settings["dsn"])
    assert (options["user"], options["passfile"]) == ("commands_reader", str(passfile))
    assert "password" not in options

    again = pbscastd("source", "upgrade", *site, *reader, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    checked = pbscastd("source", "check", *site, cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "FAIL" not in checked.stdout

    assert pbscastd("source", "pause", *site, cwd=tmp_path).returncode == 0
    paused = pbscastd("source", "check", *site, cwd=tmp_path)
    assert "pause" in paused.stdout
    assert "resume" in paused.stdout
    assert pbscastd("source", "resume", *site, cwd=tmp_path).returncode == 0

    removed = pbscastd("source", "uninstall", *site, cwd=tmp_path)
    assert removed.returncode == 0
    assert not has_capture(datastore_dsn)
    assert pbscastd("source", "uninstall", *site, cwd=tmp_path).returncode == 0


def verifier(dsn: str, role: str) -> str:
    with psycopg.connect(dsn, client_encoding="utf8") as connection:
        query = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
        (found,) = connection.execute(query, [role]).fetchone() or ("",)
        return str(found)


def test_a_password_changes_only_when_asked(own_postgres: PostgresServer, tmp_path: Path) -> None:
    dsn = create_datastore(own_postgres.dsn())
    site = ("--site", "sitea", "--dsn", dsn)
    assert pbscastd("source", "install", *site, cwd=tmp_path).returncode == 0
    first = verifier(dsn, "pbscast_reader")
    assert first.startswith("SCRAM-SHA-256$")

    # Run again in another directory, where the password's file is not.
    other = tmp_path / "other"
    other.mkdir()
    again = pbscastd("source", "install", *site, cwd=other)
    assert (again.returncode, again.stderr) == (0, "")
    assert "keeps the password it has" in again.stdout
    assert "passfile" not in again.stdout
    assert (list(other.iterdir()), verifier(dsn, "pbscast_reader")) == ([], first)

    asked = pbscastd("source", "install", *site, "--new-password", cwd=other)
    assert asked.returncode == 0
    assert (other / "pbscast-sitea.pgpass").exists()
    assert verifier(dsn, "pbscast_reader") != first
    refused = pbscastd("source", "install", *site, "--new-password", cwd=other)
    assert_one_line(refused, "exists", status=2)


@pytest.mark.parametrize("command", ["install", "upgrade", "check", "pause", "resume", "uninstall"])
def test_another_sites_datastore_is_refused(
    command: str, datastore_dsn: str, tmp_path: Path
) -> None:
    install_capture(datastore_dsn, site="siteb")
    site = ("--site", "sitea", "--dsn", datastore_dsn)
    assert_one_line(pbscastd("source", command, *site, cwd=tmp_path), "is site siteb, not sitea")
    assert has_capture(datastore_dsn)
    assert list(tmp_path.iterdir()) == []


NAMED = re.compile(r"`pbscastd ([a-z]+(?: [a-z]+)*)")


def test_every_command_that_is_named_exists() -> None:
    root = Path(__file__).parents[2]
    named = {
        (path.name, words)
        for part in ("sdk", "store", "ingest", "fanout", "deploy")
        for pattern in ("*.py", "*.sql", "*.md")
        for path in (root / part).rglob(pattern)
        for words in NAMED.findall(path.read_text(encoding="utf-8"))
    }
    assert {words for _, words in named} >= {"source install", "source upgrade", "log migrate"}
    for name, words in named:
        assert exists(words.split()), f"{name}: pbscastd {words}"


def exists(words: list[str]) -> bool:
    command = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            return True
        if word not in command.commands:
            return False
        command = command.commands[word]
    return True


def test_help_keeps_square_brackets() -> None:
    """Sections of the configuration file are named so."""
    bracketed = 0
    for words, command in walk(typer.main.get_command(app)):
        shown = " ".join(CliRunner().invoke(app, [*words, "--help"]).output.split())
        texts = [command.help, *(getattr(option, "help", None) for option in command.params)]
        for named in re.findall(r"\[[a-z]+\]", " ".join(filter(None, texts))):
            bracketed += 1
            assert named in shown, f"pbscastd {' '.join(words)}"
    assert bracketed


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*words, name))


def test_print_sql_shows_everything_and_changes_nothing(datastore_dsn: str, tmp_path: Path) -> None:
    site = ("--site", "sitea", "--dsn", datastore_dsn, "--print-sql")
    shown = pbscastd("source", "install", *site, cwd=tmp_path)
    assert shown.returncode == 0
    assert "CREATE TRIGGER" in shown.stdout
    assert not has_capture(datastore_dsn)
    assert list(tmp_path.iterdir()) == []
    # What is shown is what would be run.
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        connection.execute(shown.stdout.encode())
    assert has_capture(datastore_dsn)
    removal = pbscastd("source", "uninstall", *site, cwd=tmp_path)
    assert removal.returncode == 0
    assert "DROP" in removal.stdout
    assert has_capture(datastore_dsn)


@pytest.mark.parametrize("command", ["install", "upgrade", "check", "uninstall", "pause", "resume"])
def test_unreachable_datastore(command: str, tmp_path: Path) -> None:
    dsn = "host=127.0.0.1 port=9 dbname=pbs_datastore user=postgres"
    result = pbscastd("source", command, "--site", "sitea", "--dsn", dsn, cwd=tmp_path)
    assert_one_line(result, "127.0.0.1:9", "refused", status=3)


def test_wrong_password_is_said_and_not_shown(own_postgres: PostgresServer, tmp_path: Path) -> None:
    create_datastore(own_postgres.dsn())
    dsn = own_postgres.dsn("pbs_datastore", password="hunter2", tcp=True)
    result = pbscastd("source", "install", "--site", "sitea", "--dsn", dsn, cwd=tmp_path)
    warning, fault = result.stderr.splitlines()
    assert "warning" in warning
    assert "password" in fault
    assert result.returncode == 4
    assert "hunter2" not in result.stdout + result.stderr


def test_a_database_that_is_no_datastore(log_dsn: str, tmp_path: Path) -> None:
    result = pbscastd("source", "install", "--site", "sitea", "--dsn", log_dsn, cwd=tmp_path)
    assert_one_line(result, "no PBS datastore")


def test_unknown_schema_version(datastore_dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(datastore_dsn, autocommit=True) as connection:
        connection.execute("UPDATE pbs.info SET pbs_schema_version = '9.9.9'")
    result = pbscastd("source", "install", "--site", "sitea", "--dsn", datastore_dsn, cwd=tmp_path)
    assert_one_line(result, "9.9.9", "1.5")
    assert not has_capture(datastore_dsn)


@pytest.mark.parametrize(
    ("site", "dsn", "fault"),
    [
        ("site a", "host=x", "--site: 'site a' is no site name"),
        ("sitea", "hots=x", "--dsn: not a PostgreSQL connection string"),
        ("sitea", "host=h password=open S3SAME", "--dsn: not a PostgreSQL connection string"),
        ("sitea", "postgresql://pbs:se/S3SAME@h/x", "malformed datastore DSN"),
    ],
)
def test_malformed_options(site: str, dsn: str, fault: str, tmp_path: Path) -> None:
    result = pbscastd("source", "install", "--site", site, "--dsn", dsn, cwd=tmp_path)
    assert_one_line(result, fault, status=2)
    assert "S3SAME" not in result.stdout + result.stderr


def test_run_says_what_is_wrong_with_its_configuration(tmp_path: Path) -> None:
    absent = pbscastd_apart("run", "--config", "absent.toml", cwd=tmp_path)
    assert_one_line(absent, "absent.toml", status=2)
    (tmp_path / "pbscast.toml").write_text("[log]\ndsn = 1\n")
    result = pbscastd_apart("run", "--config", "pbscast.toml", cwd=tmp_path)
    assert_one_line(result, "pbscast.toml: log.dsn", status=2)


def test_a_broken_trace_is_named_with_its_line(datastore_dsn: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"site": "sitea"}\n')
    result = pbscastd_apart("simulate", "replay", str(trace), "--dsn", datastore_dsn, cwd=tmp_path)
    assert_one_line(result, f"{trace}:1: ")
