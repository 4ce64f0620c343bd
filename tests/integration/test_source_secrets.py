"""No command about capture ever prints what a connection string keeps secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pbscast_deploy.cli.source import app

SECRET = "hunter2"
COMMANDS = (
    "install",
    "install --print-sql",
    "upgrade",
    "check",
    "pause",
    "resume",
    "uninstall --print-sql",
    "uninstall",
    "check",
)


def _in_uri(dsn: str, name: str) -> str:
    return f"{dsn}&{name}={SECRET}"


def _in_authority(dsn: str, _: str) -> str:
    return dsn.replace("postgres@", f"postgres:{SECRET}@", 1)


def _as_words(dsn: str, name: str) -> str:
    database, _, query = dsn.partition("/")[2].rpartition("/")[2].partition("?")
    host, port = (part.partition("=")[2].replace("%2F", "/") for part in query.split("&"))
    return f"host={host} port={port} dbname={database} user=postgres {name}={SECRET}"


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (_in_authority, "password"),
        (_in_uri, "password"),
        (_as_words, "password"),
        (_as_words, "sslpassword"),
    ],
)
def test_nothing_secret_is_printed(
    form: Callable[[str, str], str],
    name: str,
    datastore_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    dsn = form(datastore_dsn, name)
    for command in COMMANDS:
        said = CliRunner().invoke(app, [*command.split(), "--site", "sitea", "--dsn", dsn])
        assert SECRET not in said.output
        assert SECRET not in str(said.exception)
        assert "on the command line is visible" in said.output
        assert said.exit_code == 0 or command == "check"
    assert SECRET not in "".join(path.read_text() for path in tmp_path.iterdir())


@pytest.mark.parametrize("command", ["install", "check", "pause", "uninstall"])
def test_nor_when_the_datastore_is_away(command: str) -> None:
    dsn = f"host=127.0.0.1 port=9 dbname=pbs_datastore user=postgres password={SECRET}"
    said = CliRunner().invoke(app, [command, "--site", "sitea", "--dsn", dsn])
    assert said.exception is not None
    assert "127.0.0.1:9" in str(said.exception)
    assert SECRET not in said.output + str(said.exception)
