"""What an operator may set for the fan-out tier."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss"})


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class NatsSettings(_Settings):
    """Where NATS is and how to be let in."""

    servers: tuple[str, ...] = Field(default=("nats://127.0.0.1:4222",), min_length=1)
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    credentials: Path | None = None
    """A ``.creds`` file (JWT and NKey seed)."""
    tls_ca: Path | None = None
    """Certificates to trust instead of the system's; naming any TLS file asks for TLS."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    timeout: float = Field(default=5.0, gt=0)
    """Seconds that NATS may take to connect or to answer a request."""

    @field_validator("servers")
    @classmethod
    def _check_servers(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for number, server in enumerate(servers, 1):
            if not _is_address(server):
                # Not the address itself: it may hold a password.
                msg = f"server {number} is no NATS address: expected nats://host:4222"
                raise ValueError(msg)
        return servers


def _is_address(server: str) -> bool:
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class StreamSettings(_Settings):
    """How much of the log JetStream keeps at hand; the log itself keeps everything."""

    max_age: timedelta | None = timedelta(days=7)
    """None: no limit."""
    max_bytes: int | None = Field(default=None, ge=64 * 1024 * 1024)
    """None: no limit. Some batches have to fit."""
    replicas: int = Field(default=1, ge=1, le=5)
    duplicate_window: timedelta = Field(default=timedelta(seconds=10), ge=timedelta(seconds=1))
    """How long JetStream remembers message ids, in memory; marks are what prevents duplicates."""


class SubscriptionSettings(_Settings):
    """How much of what subscriptions are sent JetStream keeps for those that are behind."""

    max_age: timedelta = Field(default=timedelta(days=3), ge=timedelta(minutes=1))
    """What was not fetched for so long is gone; the reader sees by the numbers that it is."""
    max_messages: int = Field(default=10_000, ge=1000)
    """To one subscription from one site; the oldest go first."""
    max_bytes: int = Field(default=8 * 1024**3, ge=64 * 1024 * 1024)
    """Of all subscriptions together; the oldest go first."""


class FanoutSettings(_Settings):
    """Everything that Fanout needs beside the log."""

    nats: NatsSettings = NatsSettings()
    stream: StreamSettings = StreamSettings()
    subscriptions: SubscriptionSettings = SubscriptionSettings()
