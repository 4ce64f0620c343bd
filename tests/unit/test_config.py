"""The configuration file: what it accepts, and the one line it answers bad input with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pbscast.errors import ConfigError
from pbscast_deploy.config import Role, load_settings
from pbscast_store.archive.retention import Retention

LOG = '[log]\ndsn = "postgresql://127.0.0.1/pbscast"\n'
SITE = '[[site]]\nname = "sitea"\ndsn = "host=pbs dbname=pbs_datastore"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pbscast.toml"
    path.write_text(text)
    return path


def test_shipped_example_is_valid() -> None:
    example = Path(__file__).parents[2] / "deploy" / "pbscast.toml"
    settings = load_settings(example)
    assert [site.name for site in settings.site] == ["sitea"]
    assert settings.daemon.roles == [Role.INGEST, Role.FANOUT]


def test_environment_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBSCASTD_LOG__DSN", "postgresql://elsewhere/log")
    monkeypatch.setenv("PBSCASTD_STREAM__REPLICAS", "3")
    settings = load_settings(write(tmp_path, LOG + SITE))
    assert settings.log.dsn == "postgresql://elsewhere/log"
    assert settings.stream.replicas == 3
    assert settings.site[0].dsn == "host=pbs dbname=pbs_datastore"


def test_what_is_kept_for_subscriptions_can_be_set(tmp_path: Path) -> None:
    default = load_settings(write(tmp_path, LOG)).subscriptions
    assert (default.max_age, default.max_messages) == (timedelta(days=3), 10_000)
    text = '[subscriptions]\nmax_age = "P1D"\nmax_bytes = 1000000000\n'
    changed = load_settings(write(tmp_path, LOG + text)).subscriptions
    assert (changed.max_age, changed.max_bytes) == (timedelta(days=1), 10**9)


def test_a_site_says_what_of_the_retention_is_otherwise(tmp_path: Path) -> None:
    retention = '[retention]\nlive = "P100D"\nusage = "P200D"\n'
    settings = load_settings(
        write(tmp_path, LOG + retention + SITE + 'retention = { live = "P30D" }\n')
    )
    policy = settings.policy()
    assert policy.of("sitea") == Retention(timedelta(days=30), timedelta(days=200))
    assert policy.of("siteb") == Retention(timedelta(days=100), timedelta(days=200))


def test_by_default_usage_is_kept_for_ever(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, LOG)).policy().of("sitea").usage is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "log: Field required"),
        ("[log", "not TOML"),
        ('[log]\ndsn = "host=x"\n', "log.dsn: must be a URI"),
        (LOG + "[nats]\nserver = 1\n", "nats.server: no such setting"),
        (LOG + "[subscriptions]\nmax_messages = 1\n", "subscriptions.max_messages: Input should"),
        (LOG + '[daemon]\nroles = ["relay"]\n', "daemon.roles.0: "),
        (LOG + "[daemon]\nlease_seconds = 0\n", "daemon.lease_seconds: "),
        (LOG + '[[site]]\nname = "a b"\ndsn = ""\n', "site.0.name: 'a b' is no site name"),
        (LOG + '[[site]]\nname = "a"\ndsn = "hots=x"\n', "site.0.dsn: not a PostgreSQL connection"),
        (LOG + SITE + SITE, "site: two sites are called sitea"),
        (LOG + '[retention]\nlive = "-P1D"\n', "retention.live: "),
        (LOG + '[retention]\nstate = "P1D"\n', "retention.state: no such setting"),
        (LOG + SITE + 'retention = { usage = "soon" }\n', "site.0.retention.usage: "),
    ],
)
def test_bad_input_gets_one_line_that_names_file_and_key(
    tmp_path: Path, text: str, fault: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert fault in line
    assert "\n" not in line


def test_a_password_in_a_malformed_dsn_is_not_repeated(tmp_path: Path) -> None:
    text = LOG + '[[site]]\nname = "a"\ndsn = "host=x password=hunter2 nonsense"\n'
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_settings(tmp_path / "absent.toml")
