"""How to reach NATS: arguments first, then the environment, then this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pbscast.broker import BROKER_VARIABLE
from pbscast.errors import ConfigError
from pbscast.tls import CA_VARIABLE, trust_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SERVERS_VARIABLE: Final = "PBSCAST_SERVERS"
CREDS_VARIABLE: Final = "PBSCAST_CREDS"
DEFAULT_SERVER: Final = "nats://127.0.0.1:4222"
_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the NATS servers are, whom to trust there, and who we are to them."""

    servers: tuple[str, ...]
    """Empty: the broker says it."""
    creds: Path | None
    broker: Path | None
    """Not beside ``creds``."""
    ca: Path | None
    connect_timeout: float
    """Seconds until a first connection, or a command on it, counts as failed."""

    @classmethod
    def read(
        cls,
        servers: str | Sequence[str] | None = None,
        creds: str | os.PathLike[str] | None = None,
        *,
        broker: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        connect_timeout: float = 5.0,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Return the settings; several servers in one text are separated by commas.

        Raises ConfigError for an URL that is none, a file that cannot be read, and both credentials
        and a broker; of the two in the environment the credentials count.
        """
        if creds and broker:
            raise ConfigError("give creds or broker, not both")
        if not creds and not broker:
            creds = environ.get(CREDS_VARIABLE)
            broker = None if creds else environ.get(BROKER_VARIABLE)
        ca = ca or environ.get(CA_VARIABLE)
        if servers is None:
            servers = environ.get(SERVERS_VARIABLE) or (() if broker else DEFAULT_SERVER)
        settings = cls(
            servers=checked_servers(servers),
            creds=Path(creds) if creds else None,
            broker=Path(broker) if broker else None,
            ca=Path(ca) if ca else None,
            connect_timeout=connect_timeout,
        )
        if settings.ca is not None:
            trust_file(settings.ca)
        return settings


def checked_servers(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return URLs, with a scheme each. Raises ConfigError for the first that is none."""
    urls = given.split(",") if isinstance(given, str) else given
    return tuple(_checked(url.strip()) for url in urls)


def listed(servers: Iterable[str]) -> str:
    """Return servers for a message: without user names and passwords."""
    return ", ".join(redacted(url) for url in servers)


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
