"""The reader's password file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbscast.errors import ConfigError
from pbscast_deploy.passfiles import ensure_password


def test_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    password, made = ensure_password(path, "reader")
    assert made
    assert len(password) >= 24
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_password(path, "reader") == (password, False)


@pytest.mark.parametrize(
    ("line", "user", "password"),
    [
        ("pbs:15007:pbs_datastore:reader:secret", "reader", "secret"),
        ("*:*:*:*:anybody", "reader", "anybody"),
        (r"*:*:*:re\:ad\\er:se\:cr\\et", "re:ad\\er", "se:cr\\et"),
        ("# *:*:*:reader:no\n*:*:*:other:no\n*:*:*:reader:yes", "reader", "yes"),
    ],
)
def test_postgresqls_own_form(tmp_path: Path, line: str, user: str, password: str) -> None:
    path = tmp_path / "pgpass"
    path.write_text(f"{line}\n")
    path.chmod(0o600)
    assert ensure_password(path, user) == (password, False)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text("*:*:*:reader:secret\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        ensure_password(path, "reader")
    assert "secret" not in str(caught.value)


def test_no_line_for_the_user(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text("*:*:*:other:secret\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no line for user reader"):
        ensure_password(path, "reader")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        ensure_password(tmp_path / "absent" / "pgpass", "reader")
