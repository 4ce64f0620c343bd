"""PostgreSQL password files (``.pgpass``): the one place where a reader's password is kept."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING, Final

from pbscast.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_FIELDS: Final = re.compile(r"((?:\\.|[^:\\])*)(?::|$)")
_PRIVATE: Final = 0o600


def ensure_password(path: Path, user: str) -> tuple[str, bool]:
    """Return the password that the file holds for a user, and whether it was made just now.

    A file that does not exist is made, readable by its owner alone, with a random password. Raises
    ConfigError if it cannot be read or written, is open to others, or has no line for the user.
    """
    try:
        if path.exists():
            return _read_password(path, user), False
        return _make(path, user), True
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _make(path: Path, user: str) -> str:
    password = secrets.token_urlsafe(24)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        file.write(f"*:*:*:{_escape(user)}:{password}\n")
    return password


def _read_password(path: Path, user: str) -> str:
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read it: chmod 600 {path}")
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = [_unescape(field) for field in _FIELDS.findall(line)]
        if not line.startswith("#") and len(fields) > 4 and fields[3] in (user, "*"):
            return fields[4]
    raise ConfigError(f"{path}: no line for user {user} (host:port:database:user:password)")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
