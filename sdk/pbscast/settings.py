"""How to reach NATS: arguments first, then the environment, then this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pbscast.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVERS_VARIABLE: Final = "PBSCAST_SERVERS"
CREDS_VARIABLE: Final = "PBSCAST_CREDS"
DEFAULT_SERVER: Final = "nats://127.0.0.1:4222"
_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the NATS servers are and who we are to them."""

    servers: tuple[str, ...]
    creds: Path | None
    connect_timeout: float
    """Seconds until a first connection, or a command on it, counts as failed."""

    @classmethod
    def read(
        cls,
        servers: str | Sequence[str] | None = None,
        creds: str | os.PathLike[str] | None = None,
        *,
        connect_timeout: float = 5.0,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Return the settings; several servers in one text are separated by commas.

        Raises ConfigError for an URL that is none and a credentials file that cannot be read.
        """
        given = environ.get(SERVERS_VARIABLE) or DEFAULT_SERVER if servers is None else servers
        urls = given.split(",") if isinstance(given, str) else given
        creds = creds or environ.get(CREDS_VARIABLE) or None
        return cls(
            servers=tuple(_checked(url.strip()) for url in urls),
            creds=None if creds is None else _readable(Path(creds)),
            connect_timeout=connect_timeout,
        )

    @property
    def place(self) -> str:
        """The servers for a message: without user names and passwords."""
        return ", ".join(redacted(url) for url in self.servers)


def redacted(url: str) -> str:
    """Return a server's URL without what comes before its ``@``."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _checked(url: str) -> str:
    full = url if "://" in url else f"nats://{url}"
    try:
        parts = urlsplit(full)
        valid = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        msg = f"not the URL of a NATS server: {redacted(url)!r} (expected nats://host:4222)"
        raise ConfigError(msg)
    return full


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        msg = f"cannot read the credentials file {path}: {error.strerror}"
        raise ConfigError(msg) from error
    return path
