"""The settings of `pbscastd`: a TOML file, over which the environment has the last word.

Every key can be set in the environment as ``PBSCASTD_<SECTION>__<KEY>`` (``PBSCASTD_LOG__DSN``);
sites come from the file alone. Passwords do not belong into either: both kinds of DSN take
``passfile=`` (PostgreSQL's own password file).
"""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pbscast.errors import ConfigError
from pbscast_fanout.settings import NatsSettings, StreamSettings, SubscriptionSettings
from pbscast_store.archive.retention import Policy, Retention

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

_SITE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)


def check_site_name(name: str) -> str:
    """Return a legal site name. Raises ValueError for any other."""
    if _SITE_NAME.fullmatch(name) is None:
        msg = f"{name!r} is no site name: 1 to 32 of A-Z a-z 0-9 _ -, a letter or digit first"
        raise ValueError(msg)
    return name


SiteName = Annotated[str, AfterValidator(check_site_name)]


class Role(StrEnum):
    """What a daemon does; several machines may share the roles out."""

    INGEST = "ingest"
    FANOUT = "fanout"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(_Section):
    """The event log's own PostgreSQL."""

    dsn: str

    @field_validator("dsn")
    @classmethod
    def _is_uri(cls, dsn: str) -> str:
        if not dsn.startswith(("postgresql://", "postgres://")):
            msg = "must be a URI: postgresql://user@host:port/database?passfile=/path"
            raise ValueError(msg)
        return dsn


class DaemonSettings(_Section):
    """The daemon itself."""

    roles: Annotated[list[Role], Field(min_length=1)] = list(Role)
    holder: str | None = None
    """The name under which this daemon holds leases; by default one of its own."""
    lease_seconds: Annotated[float, Field(ge=1, le=300)] = 10.0
    listen: str | None = None
    """``host:port`` of metrics, health and readiness; none of them unless set."""
    log_format: Annotated[str, Field(pattern="^(console|json)$")] = "console"


class AuditSettings(_Section):
    """Proof that the log is what it was: signed checkpoints of every site."""

    key: Path | None = None
    """The private key that the daemon signs with; it signs nothing unless set."""
    public_key: Path | None = None
    """What signatures are checked with; by default the public key beside `key`."""
    interval_seconds: Annotated[float, Field(ge=1)] = 3600.0
    """How often each site's log is signed, if something was logged since."""


class ArchiveSettings(_Section):
    """Where events are that have left PostgreSQL."""

    directory: Path | None = None
    """Of `pbscastd archive`, and of whatever reads old events; the same on all machines."""


Span = Annotated[timedelta, Field(ge=timedelta(0))]


class SiteRetention(_Section):
    """What of the retention is otherwise for one site."""

    live: Span | None = None
    usage: Span | None = None


class RetentionSettings(_Section):
    """How long events are kept, counted from when they were logged (ISO 8601 or seconds)."""

    live: Span = timedelta(days=400)
    """In PostgreSQL, at least; afterwards `pbscastd archive` takes whole months away."""
    usage: Span | None = None
    """In full, of archived `usage` events that changed nothing but `resources_used`; for ever
    unless set. Thinned, they still take part in the chain."""


class SiteSettings(_Section):
    """One PBS server's datastore."""

    name: SiteName
    dsn: str
    """A libpq connection string or URI; several hosts for a fail-over pair."""
    retention: SiteRetention = SiteRetention()

    @field_validator("dsn")
    @classmethod
    def _is_conninfo(cls, dsn: str) -> str:
        try:
            conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            # libpq's own words repeat what it stumbled over, which may be the password.
            msg = "not a PostgreSQL connection string (host=… port=… dbname=… user=…, or a URI)"
            raise ValueError(msg) from error
        return dsn


class Settings(BaseSettings):
    """All that `pbscastd run` needs to know."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="PBSCASTD_", env_nested_delimiter="__"
    )

    log: LogSettings
    nats: NatsSettings = NatsSettings()
    stream: StreamSettings = StreamSettings()
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    daemon: DaemonSettings = DaemonSettings()
    audit: AuditSettings = AuditSettings()
    archive: ArchiveSettings = ArchiveSettings()
    retention: RetentionSettings = RetentionSettings()
    site: list[SiteSettings] = []

    @field_validator("site")
    @classmethod
    def _names_differ(cls, sites: list[SiteSettings]) -> list[SiteSettings]:
        names = [site.name for site in sites]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            msg = f"two sites are called {', '.join(sorted(repeated))}"
            raise ValueError(msg)
        return sites

    def policy(self) -> Policy:
        """The retention of every site."""
        default = Retention(self.retention.live, self.retention.usage)
        return Policy(
            default,
            {
                site.name: Retention(
                    default.live if site.retention.live is None else site.retention.live,
                    default.usage if site.retention.usage is None else site.retention.usage,
                )
                for site in self.site
            },
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - as below
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file, which comes as init settings."""
        return (env_settings, init_settings)


def load_settings(path: Path) -> Settings:
    """Read and check a configuration file.

    Raises ConfigError with one line that names the file, the key and what is wrong; it never
    repeats a value, which may be a secret.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    details: Any = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in details["loc"])
    reason = str(details["msg"]).removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        reason = "no such setting"
    return f"{place}: {reason}"
